// What coordinator and workers say to each other, as plain structs. wire/codec.h turns them into
// protobuf bytes and back and validates every field on the way in (one validator, every message):
// code behind it may trust ranges, sizes and enums, never more than that.
//
// Delivery is FIFO per direction while a connection lives. Everything carries the plan epoch; the
// receiver drops what belongs to an older one.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace shoal::wire {

inline constexpr uint32_t kProtocolVersion = 6;

// Bounds the validator enforces, each with its reason.
inline constexpr uint64_t kMaxMessageBytes = 16u << 20;  // a 1M-token prompt is 4 MiB as varints
inline constexpr uint64_t kMaxEnvelopeBytes = 128;       // of it, for all but the message itself
inline constexpr uint32_t kMaxWorld = 64;          // more hosts than one group can profit from
inline constexpr uint32_t kMaxSlots = 4096;        // sequences alive on a worker
inline constexpr uint32_t kMaxRowsPerStep = 8192;  // tokens in one step
inline constexpr uint32_t kMaxDraw = 64;           // tokens one sequence draws in one step
inline constexpr uint32_t kMaxSequenceTokens = 4u << 20;
inline constexpr uint32_t kMaxTopLogprobs = 64;
inline constexpr uint32_t kMaxLogitBias = 1024;
inline constexpr uint32_t kMaxString = 4096;             // reasons, paths, keys of the rendezvous
inline constexpr uint32_t kMaxCores = 4096;              // cores a worker may be pinned to
inline constexpr uint32_t kMaxLabel = 256;               // what a worker says of itself
inline constexpr uint32_t kMaxKvGroups = 16;             // kinds of visibility in one model
inline constexpr uint32_t kMaxExpertEntries = 1u << 20;  // layers × experts of one model
inline constexpr uint32_t kMaxStoreValue = 1u << 20;     // rendezvous blobs
// A worker that speaks of a larger plan epoch than this, and than the one in force, is broken: no
// coordinator gets that far by counting, and what comes after must still fit.
inline constexpr uint64_t kMaxEpoch = uint64_t{1} << 62;

// ---------------------------------------------------------------- worker → coordinator

struct Hello {
  uint32_t protocol_version = kProtocolVersion;
  std::string build;         // "shoal 0.1.0"
  uint64_t incarnation = 0;  // random per process start: a restarted worker is a new one
  std::string name;          // from the worker's configuration; unique in the cluster
  std::string host_id;       // equal on workers that share /dev/shm
  std::string host_name;
  std::string device_kind;  // "cpu", "cuda"
  std::string device;       // description for people
  // Ranks of equal arithmetic get bit-equal results from equal inputs; others must not route tokens
  // to experts on their own. "cpu avx512vnni"
  std::string arithmetic;
  uint64_t memory_bytes = 0;  // free for weights, KV and scratch, beside what it holds
  uint64_t held_bytes = 0;    // of weights, KV and scratch it holds now and would free for a plan
  uint32_t threads = 0;
  std::string data_address;  // where its data plane can be reached: an IP address, may be empty
  std::string model_digest;  // of weights it still holds, or empty
  int64_t pid = 0;
  // The newest plan epoch it has seen, of whichever coordinator; 0: none. It drops older plans.
  uint64_t newest_epoch = 0;
  uint64_t settings_id = 0;  // of the Settings it goes by; 0: none
};

struct LoadProgress {
  uint64_t epoch = 0;
  uint64_t bytes_done = 0;
  uint64_t bytes_total = 0;
};

struct Ready {  // weights, KV and collective are up; steps of this epoch may come
  uint64_t epoch = 0;
  uint64_t weight_bytes = 0;
  uint64_t kv_bytes = 0;
  uint64_t scratch_bytes = 0;
  double load_seconds = 0;
};

// What a plan failed at, as far as it tells when another try makes sense.
enum class FailureKind : uint8_t {
  kOther,
  kFile,    // the model file: its worker watches it and says ModelChanged
  kMemory,  // not enough of it for the plan
};

struct Failed {  // the plan of this epoch cannot go on here
  uint64_t epoch = 0;
  bool permanent =
      false;  // false: trying again (a new epoch) may help; true: bad file, no memory …
  std::string message;
  FailureKind kind = FailureKind::kOther;
};

struct ModelChanged {  // the files the plan of this epoch failed at are not what they were then
  uint64_t epoch = 0;
};

struct TokenLogprob {
  int32_t id = 0;
  float logprob = 0;
};

struct RowResult {  // a token drawn
  uint32_t slot = 0;
  uint32_t generation = 0;  // NewSequence::generation: tells a slot's old user from its new one
  int32_t token = 0;
  float logprob = 0;              // of `token`, unmodified logits
  std::vector<TokenLogprob> top;  // sorted, best first
  bool broken = false;            // a logit was NaN or +∞, or none finite: `token` is none
};

struct ScoredToken {
  float logprob = 0;              // unmodified logits
  std::vector<TokenLogprob> top;  // sorted, best first
};

// Log-probabilities of known tokens, of the rows of one group with `score`.
struct PromptScores {
  uint32_t slot = 0;
  uint32_t generation = 0;
  uint32_t position = 0;            // of the first of `tokens`
  std::vector<ScoredToken> tokens;  // consecutive; ≥ 1
  bool broken = false;              // as RowResult's, of any of them
};

struct StepStats {
  double forward_seconds = 0;
  double collective_seconds = 0;
  double wait_seconds = 0;  // of it, waiting for peers
  double sample_seconds = 0;
  double expert_seconds = 0;  // of forward_seconds, in the experts' matrix products
  uint64_t weight_bytes = 0;  // of matrices this rank had to read for the step: of experts, those
                              // that were selected
};

// Cumulative since the epoch began, from rank 0 with its heartbeats; routing is the same on every
// rank.
struct ExpertLoad {
  uint64_t epoch = 0;
  uint32_t experts = 0;          // per layer
  std::vector<uint64_t> tokens;  // [mixture layers in order][experts]
};

struct StepResult {
  uint64_t epoch = 0;
  uint64_t step = 0;
  // Rank 0 only: its tokens are authoritative; others acknowledge. For every group that draws, in
  // their order, one for each token it drew: a span of 1 … RowGroup::draw.
  std::vector<RowResult> rows;
  std::vector<PromptScores> scores;  // rank 0 only, likewise
  StepStats stats;
};

struct WorkerHeartbeat {
  uint64_t epoch = 0;           // the newest plan it has seen
  uint64_t last_step = 0;       // last step completed
  uint64_t resident_bytes = 0;  // RSS
  bool busy = false;            // a step is running or a load is in progress
};

struct Goodbye {
  std::string reason;
};

// ---------------------------------------------------------------- coordinator → worker

enum class CollectiveEngine : uint8_t { kNone, kShm, kGloo };
enum class KvPrecision : uint8_t { kF16, kF32 };

// Which ranks hold what of a mixture of experts.
struct ExpertPlacement {
  // Features of every expert in each rank's share, [world]; empty: as Assign::shares. Used where
  // `ranks` is empty (sliced).
  std::vector<double> shares;
  // Placed: [mixture layers in order][experts], bit r set: rank r holds the whole expert.
  std::vector<uint64_t> ranks;
};

struct Assign {  // the plan: what this worker is in epoch `epoch`
  uint64_t epoch = 0;
  uint32_t rank = 0;
  uint32_t world = 1;
  // [world] of attention, dense layers and vocabulary; 0: none of them (a rank of experts only)
  std::vector<double> shares;
  ExpertPlacement experts;
  // ≥ 0: this rank selects experts for all and broadcasts; −1: every rank does (equal arithmetic)
  int32_t routing_rank = -1;
  std::string model_path;
  std::string model_digest;  // refuse a file that differs
  // Of all its bytes (model/gguf_verify.h): hash the file and refuse one that differs. Empty: do
  // not.
  std::string model_full_digest;
  KvPrecision kv = KvPrecision::kF16;
  std::vector<uint32_t> kv_blocks;  // per KV group of the model, in its order; each ≥ 1
  uint32_t block_tokens = 0;
  uint32_t max_rows = 0;  // per step
  uint32_t max_slots = 0;
  uint32_t max_sequence_tokens = 0;
  CollectiveEngine engine = CollectiveEngine::kNone;
  std::string segment;  // shm name
  bool int8_activations = true;
  double step_timeout_seconds = 0;  // a step's collectives give up after this
  double form_timeout_seconds = 0;  // for the collective to connect
};

struct SamplingParams {
  float temperature = 1.0f;
  float top_p = 1.0f;
  float min_p = 0.0f;
  int32_t top_k = 0;  // 0: off
  float presence = 0, frequency = 0, repetition = 1.0f;
  int32_t top_logprobs = -1;  // −1: no logprobs; 0: of the sampled token only
  std::vector<std::pair<int32_t, float>> logit_bias;
};

struct NewSequence {
  uint32_t slot = 0;
  uint32_t generation = 0;
  std::vector<int32_t> tokens;  // prompt, then what was already emitted (after a preemption)
  uint32_t prompt_tokens = 0;   // how many of `tokens` are prompt; penalties tell them apart
  uint64_t seed = 0;
  uint32_t choice = 0;
  SamplingParams sampling;
};

// Stands in a block table for positions that no row will ever see.
inline constexpr uint32_t kNoBlock = 0xffffffff;

struct BlockAppend {
  uint32_t slot = 0;
  uint32_t group = 0;            // KV group
  std::vector<uint32_t> blocks;  // appended to the slot's block table of that group, or kNoBlock
};

// `count` consecutive tokens of a slot, starting at `position`. A decode row is count = 1 with the
// token the slot drew last; the coordinator need not know it yet.
struct RowGroup {
  uint32_t slot = 0;
  uint32_t position = 0;
  uint32_t count = 1;
  // Draw from the last of these rows, and go on from there: at least one token, up to so many; 0:
  // none. K and V of all drawn tokens but the last are written too: the slot's block tables have
  // room for them.
  uint32_t draw = 0;
  // Log-probabilities of the prompt's tokens that follow these rows: of positions
  // [position + 1, min(position + count + 1, prompt_tokens)), at least one. The sequence asks for
  // log-probabilities.
  bool score = false;
};

// Applied in this order: ended, started, appended, rows.
struct Step {
  uint64_t epoch = 0;
  uint64_t step = 0;  // 1, 2, 3 … within the epoch
  std::vector<uint32_t> ended;
  std::vector<NewSequence> started;
  std::vector<BlockAppend> appended;
  std::vector<RowGroup> rows;
};

struct CoordinatorHeartbeat {
  uint64_t epoch = 0;
};

struct Abort {  // give up this epoch: stop steps and collectives, keep weights, wait for an Assign
  uint64_t epoch = 0;
  std::string reason;
};

struct Refused {  // hello not accepted (version, name clash, wrong model …); the worker exits
  std::string reason;
};

struct Shutdown {
  std::string reason;
};

// What the cluster's configuration says of a worker on another host, in answer to a hello that went
// by other ones. The worker's own command line wins; it says hello again.
struct Settings {
  uint32_t threads = 0;         // 0: not said
  std::vector<uint32_t> cores;  // ascending; empty: not said
  std::string device;           // "cuda:0", "auto:1"; empty: not said
  friend bool operator==(const Settings&, const Settings&) = default;
};
// Tells settings apart; 0 where nothing is said.
uint64_t settings_id(const Settings& settings);

// ---------------------------------------------------------------- both directions: rendezvous

struct StoreSet {
  uint64_t epoch = 0;
  std::string key;
  std::string value;
};
struct StoreGet {  // answered with StoreSet as soon as the key exists
  uint64_t epoch = 0;
  std::string key;
};

// What either side may say; whoever reads them visits all.
using ToCoordinator = std::variant<Hello, LoadProgress, Ready, Failed, StepResult, WorkerHeartbeat,
                                   ExpertLoad, Goodbye, ModelChanged, StoreSet, StoreGet>;
using ToWorker =
    std::variant<Assign, Step, CoordinatorHeartbeat, Abort, Refused, Shutdown, Settings, StoreSet>;

}  // namespace shoal::wire
