// The cluster's configuration as plain structs: what the YAML file, SHOAL_* variables and flags end
// up in. Defaults here are the documented ones (a test compares them with config/samples/). Sizes
// are bytes, durations steady-clock durations; ranges are those of config/schema.cc, which is what
// parse() and apply_overrides() enforce: code behind them may trust every range stated here.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/host.h"

namespace shoal::config {

enum class KvType : uint8_t { kF16, kF32 };
enum class Engine : uint8_t { kAuto, kShm, kGloo };
enum class Experts : uint8_t { kAuto, kSliced, kPlaced };  // layouts of mixtures of experts
enum class AccessLog : uint8_t { kOff, kRequests, kAll };  // kRequests: no probes that went well
enum class WorkerRole : uint8_t { kFull, kExperts };       // kExperts: nothing but experts

struct Model {
  std::string path;  // a GGUF file, or the first part of a split one; required
  std::string name;  // the id clients see in /v1/models; empty: from the file's metadata or name
  std::string chat_template;  // a file or a name (gateway/model_codec.h); empty: the file's own
  bool verify = false;        // compare all bytes between coordinator and workers, not samples
  friend bool operator==(const Model&, const Model&) = default;
};

// What one HTTP client can make the coordinator hold or wait for.
struct Limits {
  uint64_t max_body_bytes = 16u << 20;    // 1 KiB … 1 GiB
  uint64_t max_header_bytes = 16u << 10;  // 1 KiB … 1 MiB
  uint32_t max_json_depth = 32;           // 4 … 256
  uint32_t max_connections = 4096;        // 1 … 65536
  uint32_t queue_requests = 512;          // waiting for their first step; 1 … 1,000,000
  uint64_t queue_tokens = 1u << 20;       // prompt tokens of the waiting; 1 … 2^32
  uint32_t max_n = 16;                    // choices per request; 1 … 128
  uint32_t max_stop_sequences = 16;       // 0 … 256
  uint32_t max_logit_bias = 1024;         // 0 … 1024 (wire::kMaxLogitBias)
  uint32_t max_top_logprobs = 64;         // 0 … 64 (wire::kMaxTopLogprobs)
  Duration header_timeout = std::chrono::seconds(10);  // request line and headers; 100 ms … 10 min
  Duration body_timeout = std::chrono::seconds(60);    // 100 ms … 1 h
  Duration write_timeout = std::chrono::seconds(30);  // a reader that takes nothing; 100 ms … 1 h
  Duration keep_alive = std::chrono::seconds(75);     // idle connection; 1 s … 1 h
  friend bool operator==(const Limits&, const Limits&) = default;
};

struct Coordinator {
  HostPort listen{"127.0.0.1", 8080};   // HTTP
  HostPort control{"127.0.0.1", 7070};  // ZeroMQ with CURVE: where workers connect
  std::string keys;  // folder with coordinator.key and the workers' public keys; see `shoal keygen`
  std::string api_keys;                // file with one API key a line; empty: none asked for
  bool allow_unauthenticated = false;  // HTTP off loopback without api_keys
  // Web pages of which other origins may call: config/origin.h, "auto", "null" or "*"; empty: none
  std::vector<std::string> cors_origins{"auto"};
  AccessLog access_log = AccessLog::kRequests;
  double access_log_sample = 1;  // part of the lines about requests that went well; > 0, ≤ 1
  Limits limits;
  friend bool operator==(const Coordinator&, const Coordinator&) = default;
};

struct Worker {
  std::string name;             // [A-Za-z0-9._-]{1,64}, unique
  std::string host;             // empty: the coordinator's own host, started by `shoal serve`
  std::string device = "cpu";   // "cpu", "cuda:N", or "auto:N": cuda:N if there is such a card
  uint32_t threads = 0;         // compute threads; 0: one per core it may use; ≤ 1024
  std::vector<uint32_t> cores;  // cores to pin to, ascending; empty: no pinning
  WorkerRole role = WorkerRole::kFull;
  // Relative part of the model; of a kExperts worker: times the part of the experts that its memory
  // suggests. > 0, ≤ 1e6
  double share = 1.0;
  std::string public_key;  // Z85, 40 characters; empty: <coordinator.keys>/<name>.pub
  friend bool operator==(const Worker&, const Worker&) = default;
};

struct Parallel {
  // Ranks that share attention and dense layers; kExperts workers come on top. 0: auto; ≤ 64
  uint32_t tensor = 0;
  std::vector<double> shares;     // [tensor] relative parts when `workers` gives none; empty: equal
  Engine engine = Engine::kAuto;  // auto: shm on one host, gloo across hosts
  Experts experts = Experts::kAuto;
  std::string placement;         // file that pins experts to ranks; empty: none
  bool int8_activations = true;  // quantise activations to 8 bits for quantised weights
  friend bool operator==(const Parallel&, const Parallel&) = default;
};

struct Kv {
  KvType type = KvType::kF16;
  uint32_t context = 0;  // tokens of one sequence; 0: auto (the model's, if it fits); ≤ 4 Mi
  uint32_t blocks = 0;   // 0: auto (what memory allows); ≤ 2^24
  uint32_t block_tokens = 32;  // a multiple of 8 in 8 … 1024
  bool prefix_cache = true;
  friend bool operator==(const Kv&, const Kv&) = default;
};

struct Scheduler {
  uint32_t max_batch_rows = 512;  // tokens in one step; 1 … 8192 (wire::kMaxRowsPerStep)
  uint32_t max_sequences = 64;    // running at once; 1 … 4096 (wire::kMaxSlots)
  uint32_t prefill_chunk = 256;   // prompt tokens of one sequence in one step; 1 … 8192
  uint32_t steps_in_flight = 2;   // 1 … 4
  friend bool operator==(const Scheduler&, const Scheduler&) = default;
};

// For requests that do not say; ranges as in docs/http-api.md.
struct Sampling {
  double temperature = 1, top_p = 1, min_p = 0;
  uint32_t top_k = 0;  // 0: off
  double presence_penalty = 0, frequency_penalty = 0, repetition_penalty = 1;
  uint32_t max_tokens = 0;  // 0: what the context leaves
  friend bool operator==(const Sampling&, const Sampling&) = default;
};

struct Security {
  // Key files that group or others can read are refused unless this is set.
  bool allow_open_key_files = false;
  friend bool operator==(const Security&, const Security&) = default;
};

struct Metrics {
  bool enabled = true;       // /metrics
  bool require_key = false;  // /metrics asks for an API key too
  bool vllm_names = false;   // also emit the vllm:* names
  friend bool operator==(const Metrics&, const Metrics&) = default;
};

struct Timeouts {
  Duration heartbeat = std::chrono::milliseconds(250);  // workers' heartbeats; 10 ms … 10 s
  Duration worker_lost = std::chrono::seconds(2);       // silence; ≥ 2 heartbeats, ≤ 10 min
  Duration step = std::chrono::seconds(20);             // collectives of one step; 100 ms … 1 h
  Duration form = std::chrono::seconds(30);             // the collective to connect; 100 ms … 1 h
  Duration load = std::chrono::minutes(30);     // weights without any progress; 1 s … 24 h
  Duration recovery = std::chrono::minutes(2);  // a lost group's requests for the next; 0 … 24 h
  Duration drain = std::chrono::seconds(30);    // after SIGTERM; 0 … 24 h
  friend bool operator==(const Timeouts&, const Timeouts&) = default;
};

struct Config {
  Model model;
  Coordinator coordinator;
  std::vector<Worker> workers;  // ≤ 64; empty: `shoal serve` starts local ones
  Parallel parallel;
  Kv kv;
  Scheduler scheduler;
  Sampling sampling;
  Security security;
  Metrics metrics;
  Timeouts timeouts;
  friend bool operator==(const Config&, const Config&) = default;
};

}  // namespace shoal::config
