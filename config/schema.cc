#include "config/schema.h"

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include <fmt/core.h>
#include <fmt/ranges.h>

#include "base/check.h"
#include "base/host.h"
#include "base/quote.h"
#include "base/utf8.h"
#include "config/field_kinds.h"
#include "config/origin.h"
#include "config/values.h"

namespace shoal::config {
namespace {

using namespace kinds;

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;

constexpr size_t kMaxOrigins = 64;

Field<Config> shares_field() {
  return {
      "parallel.shares",
      "a list of numbers above 0, at most 64",
      "Relative parts of the ranks when workers have no `share`; empty: equal parts.",
      Shape::kList,
      [](Config& config, std::string_view value) {
        std::vector<double> shares;
        for (std::string_view rest = value; !rest.empty();) {
          const size_t comma = std::min(rest.find(','), rest.size());
          SHOAL_ASSIGN(const double share, parse_number(rest.substr(0, comma)));
          if (share <= 0 || share > 1e6) {
            return out_of_range(fmt::format("{} is not above 0 and at most 1000000", share));
          }
          shares.push_back(share);
          if (comma + 1 == rest.size()) return invalid_argument("ends with a comma");
          rest.remove_prefix(std::min(comma + 1, rest.size()));
        }
        if (shares.size() > kMaxWorkers) {
          return out_of_range(fmt::format("{} entries; at most {}", shares.size(), kMaxWorkers));
        }
        config.parallel.shares = std::move(shares);
        return Status::ok();
      },
      [](const Config& config) {
        std::string list;
        for (const double share : config.parallel.shares) {
          list += (list.empty() ? "" : ",") + format_number(share);
        }
        return list;
      }};
}

Field<Config> origins_field() {
  return {
      "coordinator.cors_origins",
      "a list of origins, auto, null or *",
      "Web pages that may call the server from a browser: origins such as "
      "https://chat.example.org, http://localhost:* or https://*.example.org; null: pages "
      "from files; *: all; auto: all if keys are asked for, else those served by this machine. "
      "Empty: none.",
      Shape::kList,
      [](Config& config, std::string_view value) {
        std::vector<std::string> origins;
        for (std::string_view rest = value; !rest.empty();) {
          const size_t comma = std::min(rest.find(','), rest.size());
          std::string_view origin = rest.substr(0, comma);
          while (origin.starts_with(' ')) origin.remove_prefix(1);
          while (origin.ends_with(' ')) origin.remove_suffix(1);
          if (origin != "*" && origin != "auto" && origin != "null" && !parse_origin(origin)) {
            return invalid_argument(
                fmt::format("{} is no origin: SCHEME://HOST or SCHEME://HOST:PORT, without a path",
                            in_quotes(origin)));
          }
          origins.emplace_back(origin);
          rest.remove_prefix(std::min(comma + 1, rest.size()));
        }
        if (origins.size() > kMaxOrigins) {
          return out_of_range(fmt::format("{} entries; at most {}", origins.size(), kMaxOrigins));
        }
        config.coordinator.cors_origins = std::move(origins);
        return Status::ok();
      },
      [](const Config& config) {
        return fmt::format("{}", fmt::join(config.coordinator.cors_origins, ","));
      }};
}

Field<Config> block_tokens_field() {
  auto field = tokens(
      "kv.block_tokens", 8, 1024, [](auto& c) -> auto& { return c.kv.block_tokens; },
      "Tokens of one KV block: the unit of allocation and of prefix reuse. A multiple of 8.");
  field.set = [inner = field.set](Config& config, std::string_view value) {
    Config trial;
    SHOAL_TRY(inner(trial, value));
    if (trial.kv.block_tokens % 8 != 0) {
      return invalid_argument(fmt::format("{} is not a multiple of 8", trial.kv.block_tokens));
    }
    config.kv.block_tokens = trial.kv.block_tokens;
    return Status::ok();
  };
  return field;
}

void add_coordinator(std::vector<Field<Config>>& fields) {
  fields.push_back(address(
      "coordinator.listen", [](auto& c) -> auto& { return c.coordinator.listen; },
      "HTTP: where clients connect. Off loopback an `api_keys` file is needed."));
  fields.push_back(address(
      "coordinator.control", [](auto& c) -> auto& { return c.coordinator.control; },
      "Where workers connect: ZeroMQ, always encrypted and authenticated (CURVE)."));
  fields.push_back(text<Config>(
      "coordinator.keys", [](auto& c) -> auto& { return c.coordinator.keys; },
      "Folder with coordinator.key and one NAME.pub per worker (`shoal keygen`). May be empty for "
      "workers on this machine only: then keys live as long as the process."));
  fields.push_back(text<Config>(
      "coordinator.api_keys", [](auto& c) -> auto& { return c.coordinator.api_keys; },
      "File with the API keys of clients, one a line, mode 0600. Empty: no key is asked for."));
  fields.push_back(boolean<Config>(
      "coordinator.allow_unauthenticated",
      [](auto& c) -> auto& { return c.coordinator.allow_unauthenticated; },
      "Serve HTTP off loopback without API keys: everybody who reaches the port may use it."));
  fields.push_back(origins_field());
  static constexpr std::array<std::pair<std::string_view, AccessLog>, 3> kAccessLogs{
      {{"off", AccessLog::kOff}, {"requests", AccessLog::kRequests}, {"all", AccessLog::kAll}}};
  fields.push_back(choice(
      "coordinator.access_log", kAccessLogs,
      [](auto& c) -> auto& { return c.coordinator.access_log; },
      "A line of the log for each HTTP request, without anything of its text. requests: not for "
      "probes and scrapes that went well."));
  fields.push_back(number<Config>(
      "coordinator.access_log_sample", 1,
      [](auto& c) -> auto& { return c.coordinator.access_log_sample; },
      "Part of these lines that is written; those about errors always are."));
}

void add_limits(std::vector<Field<Config>>& fields) {
  fields.push_back(bytes(
      "coordinator.limits.max_body", 1u << 10, 1u << 30,
      [](auto& c) -> auto& { return c.coordinator.limits.max_body_bytes; },
      "A request's body; larger ones get 413."));
  fields.push_back(bytes(
      "coordinator.limits.max_header", 1u << 10, 1u << 20,
      [](auto& c) -> auto& { return c.coordinator.limits.max_header_bytes; },
      "A request's headers; larger ones get 431."));
  fields.push_back(integer<Config>(
      "coordinator.limits.max_json_depth", 4, 256,
      [](auto& c) -> auto& { return c.coordinator.limits.max_json_depth; },
      "Nesting of a request's JSON."));
  fields.push_back(integer<Config>(
      "coordinator.limits.max_connections", 1, 65536,
      [](auto& c) -> auto& { return c.coordinator.limits.max_connections; },
      "Open HTTP connections; the next one takes an idle one's place, or gets 503."));
  fields.push_back(integer<Config>(
      "coordinator.limits.queue_requests", 1, 1'000'000,
      [](auto& c) -> auto& { return c.coordinator.limits.queue_requests; },
      "Requests waiting to start; the next one gets 429."));
  fields.push_back(tokens(
      "coordinator.limits.queue_tokens", 1, 1ull << 32,
      [](auto& c) -> auto& { return c.coordinator.limits.queue_tokens; },
      "Prompt tokens of the waiting requests; a request above gets 429."));
  fields.push_back(integer<Config>(
      "coordinator.limits.max_n", 1, 128,
      [](auto& c) -> auto& { return c.coordinator.limits.max_n; }, "Choices of one request."));
  fields.push_back(integer<Config>(
      "coordinator.limits.max_stop_sequences", 0, 256,
      [](auto& c) -> auto& { return c.coordinator.limits.max_stop_sequences; },
      "Stop sequences of one request."));
  fields.push_back(integer<Config>(
      "coordinator.limits.max_logit_bias", 0, 1024,
      [](auto& c) -> auto& { return c.coordinator.limits.max_logit_bias; },
      "Entries of logit_bias of one request."));
  fields.push_back(integer<Config>(
      "coordinator.limits.max_top_logprobs", 0, 64,
      [](auto& c) -> auto& { return c.coordinator.limits.max_top_logprobs; },
      "Alternatives reported per token."));
  fields.push_back(duration(
      "coordinator.limits.header_timeout", milliseconds(100), minutes(10),
      [](auto& c) -> auto& { return c.coordinator.limits.header_timeout; },
      "For a client to send its request line and headers."));
  fields.push_back(duration(
      "coordinator.limits.body_timeout", milliseconds(100), hours(1),
      [](auto& c) -> auto& { return c.coordinator.limits.body_timeout; },
      "For a client to send the body."));
  fields.push_back(duration(
      "coordinator.limits.write_timeout", milliseconds(100), hours(1),
      [](auto& c) -> auto& { return c.coordinator.limits.write_timeout; },
      "A client that takes nothing for this long is cut off and its request cancelled."));
  fields.push_back(duration(
      "coordinator.limits.keep_alive", seconds(1), hours(1),
      [](auto& c) -> auto& { return c.coordinator.limits.keep_alive; },
      "An idle connection is closed after this."));
}

void add_model_and_layout(std::vector<Field<Config>>& fields) {
  fields.push_back(text<Config>(
      "model.path", [](auto& c) -> auto& { return c.model.path; },
      "GGUF file, or the first part of a split one. Required, here or on the command line."));
  Field<Config> name = text<Config>(
      "model.name", [](auto& c) -> auto& { return c.model.name; },
      "Name clients use and see in /v1/models. Empty: from the file.");
  name.set = [](Config& config, std::string_view value) {
    if (!value.empty()) SHOAL_TRY(check_model_name(value));
    config.model.name = std::string(value);
    return Status::ok();
  };
  fields.push_back(std::move(name));
  fields.push_back(text<Config>(
      "model.chat_template", [](auto& c) -> auto& { return c.model.chat_template; },
      "Chat template instead of the file's own: a file, one of those that the model file has by "
      "name, or chatml."));
  fields.push_back(boolean<Config>(
      "model.verify", [](auto& c) -> auto& { return c.model.verify; },
      "Compare all bytes of the file between coordinator and workers at start, not header and "
      "samples."));
}

void add_parallel(std::vector<Field<Config>>& fields) {
  static constexpr std::array<std::pair<std::string_view, Engine>, 3> kEngines{
      {{"auto", Engine::kAuto}, {"shm", Engine::kShm}, {"gloo", Engine::kGloo}}};
  fields.push_back(integer<Config>(
      "parallel.tensor", 1, kMaxWorkers, [](auto& c) -> auto& { return c.parallel.tensor; },
      "Ranks that share every layer; workers of role experts come on top. auto: all workers.",
      "auto"));
  fields.push_back(shares_field());
  fields.push_back(choice(
      "parallel.engine", kEngines, [](auto& c) -> auto& { return c.parallel.engine; },
      "Collectives: shm (shared memory, one host), gloo (TCP between hosts), auto picks."));
  static constexpr std::array<std::pair<std::string_view, Experts>, 3> kExperts{
      {{"auto", Experts::kAuto}, {"sliced", Experts::kSliced}, {"placed", Experts::kPlaced}}};
  fields.push_back(choice(
      "parallel.experts", kExperts, [](auto& c) -> auto& { return c.parallel.experts; },
      "Mixtures of experts: sliced (every rank has a part of each expert), placed (whole experts "
      "on each rank). auto: placed with workers of role experts, a placement file or slices of "
      "less than 64 features, else sliced."));
  fields.push_back(text<Config>(
      "parallel.placement", [](auto& c) -> auto& { return c.parallel.placement; },
      "File that pins experts to ranks (docs/parallelism.md). Empty: all are placed "
      "automatically."));
  fields.push_back(boolean<Config>(
      "parallel.int8_activations", [](auto& c) -> auto& { return c.parallel.int8_activations; },
      "Multiply quantised weights with activations quantised to 8 bits: faster, slightly "
      "coarser."));
}

void add_kv(std::vector<Field<Config>>& fields) {
  static constexpr std::array<std::pair<std::string_view, KvType>, 2> kTypes{
      {{"f16", KvType::kF16}, {"f32", KvType::kF32}}};
  fields.push_back(choice(
      "kv.type", kTypes, [](auto& c) -> auto& { return c.kv.type; },
      "Precision of cached keys and values."));
  fields.push_back(tokens(
      "kv.context", 1, 4u << 20, [](auto& c) -> auto& { return c.kv.context; },
      "Longest sequence, prompt and answer, in tokens. auto: the model's, at most 8192.", "auto"));
  fields.push_back(integer<Config>(
      "kv.blocks", 1, 1u << 24, [](auto& c) -> auto& { return c.kv.blocks; },
      "KV blocks of all sequences. auto: 16 contexts, at most 65536 tokens, or what fits.",
      "auto"));
  fields.push_back(block_tokens_field());
  fields.push_back(boolean<Config>(
      "kv.prefix_cache", [](auto& c) -> auto& { return c.kv.prefix_cache; },
      "Keep what has been computed and reuse it for requests that begin with the same tokens."));
}

void add_scheduler(std::vector<Field<Config>>& fields) {
  fields.push_back(tokens(
      "scheduler.max_batch_rows", 1, 8192,
      [](auto& c) -> auto& { return c.scheduler.max_batch_rows; }, "Tokens of one step."));
  fields.push_back(integer<Config>(
      "scheduler.max_sequences", 1, 4096,
      [](auto& c) -> auto& { return c.scheduler.max_sequences; }, "Sequences running at once."));
  fields.push_back(tokens(
      "scheduler.prefill_chunk", 1, 8192,
      [](auto& c) -> auto& { return c.scheduler.prefill_chunk; },
      "Prompt tokens of one sequence in one step: smaller keeps streams smoother."));
  fields.push_back(integer<Config>(
      "scheduler.steps_in_flight", 1, 4,
      [](auto& c) -> auto& { return c.scheduler.steps_in_flight; },
      "Steps sent ahead of their results."));
}

void add_sampling(std::vector<Field<Config>>& fields) {
  fields.push_back(real(
      "sampling.temperature", 0, 100, [](auto& c) -> auto& { return c.sampling.temperature; },
      "For requests that do not say. 0: always the likeliest token."));
  fields.push_back(number<Config>(
      "sampling.top_p", 1, [](auto& c) -> auto& { return c.sampling.top_p; }, "Likewise. 1: off."));
  fields.push_back(real(
      "sampling.min_p", 0, 1, [](auto& c) -> auto& { return c.sampling.min_p; },
      "Likewise. 0: off."));
  fields.push_back(integer<Config>(
      "sampling.top_k", 1, INT32_MAX, [](auto& c) -> auto& { return c.sampling.top_k; },
      "Likewise.", "off"));
  fields.push_back(real(
      "sampling.presence_penalty", -2, 2,
      [](auto& c) -> auto& { return c.sampling.presence_penalty; }, "Likewise."));
  fields.push_back(real(
      "sampling.frequency_penalty", -2, 2,
      [](auto& c) -> auto& { return c.sampling.frequency_penalty; }, "Likewise."));
  fields.push_back(real(
      "sampling.repetition_penalty", 0.001, 10,
      [](auto& c) -> auto& { return c.sampling.repetition_penalty; }, "Likewise. 1: off."));
  fields.push_back(integer<Config>(
      "sampling.max_tokens", 1, INT32_MAX, [](auto& c) -> auto& { return c.sampling.max_tokens; },
      "Likewise. off: what the context leaves.", "off"));
}

void add_rest(std::vector<Field<Config>>& fields) {
  fields.push_back(boolean<Config>(
      "security.allow_open_key_files",
      [](auto& c) -> auto& { return c.security.allow_open_key_files; },
      "Accept key files that group or others may read."));
  fields.push_back(boolean<Config>(
      "metrics.enabled", [](auto& c) -> auto& { return c.metrics.enabled; }, "Serve /metrics."));
  fields.push_back(boolean<Config>(
      "metrics.require_key", [](auto& c) -> auto& { return c.metrics.require_key; },
      "Ask for an API key on /metrics too."));
  fields.push_back(boolean<Config>(
      "metrics.vllm_names", [](auto& c) -> auto& { return c.metrics.vllm_names; },
      "Also emit the vllm:* names that existing dashboards query."));
  fields.push_back(duration(
      "timeouts.heartbeat", milliseconds(10), seconds(10),
      [](auto& c) -> auto& { return c.timeouts.heartbeat; }, "Interval of workers' heartbeats."));
  fields.push_back(duration(
      "timeouts.worker_lost", milliseconds(20), minutes(10),
      [](auto& c) -> auto& { return c.timeouts.worker_lost; },
      "Silence after which a worker counts as lost; at least two heartbeats."));
  fields.push_back(duration(
      "timeouts.step", milliseconds(100), hours(1),
      [](auto& c) -> auto& { return c.timeouts.step; },
      "Collectives of one step give up after this."));
  fields.push_back(duration(
      "timeouts.form", milliseconds(100), hours(1),
      [](auto& c) -> auto& { return c.timeouts.form; }, "For a group's ranks to connect."));
  fields.push_back(duration(
      "timeouts.load", seconds(1), hours(24), [](auto& c) -> auto& { return c.timeouts.load; },
      "Loading weights without any progress."));
  fields.push_back(duration(
      "timeouts.recovery", Duration::zero(), hours(24),
      [](auto& c) -> auto& { return c.timeouts.recovery; },
      "How long requests wait for another group when theirs is lost; 0s: they end with it."));
  fields.push_back(duration(
      "timeouts.drain", Duration::zero(), hours(24),
      [](auto& c) -> auto& { return c.timeouts.drain; },
      "After SIGTERM, for running requests to end."));
}

Status set_device(Worker& worker, std::string_view value) {
  const bool counted = value.starts_with("cuda:") || value.starts_with("auto:");
  const auto index = counted ? parse_integer(value.substr(5)) : Result<uint64_t>(0);
  if (value != "cpu" && !(counted && index && *index < 64)) {
    return invalid_argument(fmt::format("{} is not cpu, cuda:N or auto:N", in_quotes(value)));
  }
  worker.device = std::string(value);
  return Status::ok();
}

Status set_host(Worker& worker, std::string_view value) {
  worker.host.clear();
  if (value.empty()) return Status::ok();
  SHOAL_ASSIGN(worker.host, parse_host(value));
  return Status::ok();
}

Status set_role(Worker& worker, std::string_view value) {
  if (value != "full" && value != "experts") {
    return invalid_argument(fmt::format("{} is not one of full, experts", in_quotes(value)));
  }
  worker.role = value == "full" ? WorkerRole::kFull : WorkerRole::kExperts;
  return Status::ok();
}

Status set_name(Worker& worker, std::string_view value) {
  const bool fits = !value.empty() && value.size() <= 64 && value.front() != '.' &&
                    value != "coordinator" && std::ranges::all_of(value, [](char c) {
                      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                             (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
                    });
  if (!fits) {
    return invalid_argument(fmt::format(
        "{} is no worker name: 1 … 64 of A-Z a-z 0-9 . _ -, no leading dot, not 'coordinator'",
        in_quotes(value)));
  }
  worker.name = std::string(value);
  return Status::ok();
}

Status set_public_key(Worker& worker, std::string_view value) {
  constexpr std::string_view kZ85 =
      "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#";
  if (!value.empty() &&
      (value.size() != 40 || value.find_first_not_of(kZ85) != std::string_view::npos)) {
    return invalid_argument("is not a CURVE public key: 40 characters of Z85 (`shoal keygen`)");
  }
  worker.public_key = std::string(value);
  return Status::ok();
}

}  // namespace

const std::vector<Field<Config>>& config_fields() {
  static const std::vector<Field<Config>> fields = [] {
    std::vector<Field<Config>> all;
    add_model_and_layout(all);
    add_coordinator(all);
    add_limits(all);
    add_parallel(all);
    add_kv(all);
    add_scheduler(all);
    add_sampling(all);
    add_rest(all);
    return all;
  }();
  return fields;
}

const std::vector<Field<Worker>>& worker_fields() {
  static const std::vector<Field<Worker>> fields{
      {"name", "[A-Za-z0-9._-]{1,64}", "Unique; also the name of its key file.", Shape::kScalar,
       set_name, [](const Worker& w) { return w.name; }},
      {"host", "an address or a name",
       "Host it runs on. Empty: this one, started by `shoal serve`.", Shape::kScalar, set_host,
       [](const Worker& w) { return w.host; }},
      {"device", "cpu, cuda:N, auto:N", "What it computes on.", Shape::kScalar, set_device,
       [](const Worker& w) { return w.device; }},
      integer<Worker>(
          "threads", 1, 1024, [](auto& w) -> auto& { return w.threads; },
          "Compute threads. auto: one per core it may use.", "auto"),
      {"cores", "a list such as 0-3,8", "Cores to pin its threads to. Empty: no pinning.",
       Shape::kScalar,
       [](Worker& w, std::string_view value) {
         SHOAL_ASSIGN(w.cores, parse_cores(value));
         return Status::ok();
       },
       [](const Worker& w) { return format_cores(w.cores); }},
      {"role", "full, experts",
       "full: a part of everything. experts: only experts of mixture layers, as its memory allows "
       "(a host's RAM beside GPUs).",
       Shape::kScalar, set_role,
       [](const Worker& w) { return w.role == WorkerRole::kFull ? "full" : "experts"; }},
      number<Worker>(
          "share", 1e6, [](auto& w) -> auto& { return w.share; },
          "Its part of the model, relative to the others'."),
      {"public_key", "40 characters of Z85", "Its CURVE key. Empty: KEYS/NAME.pub.", Shape::kScalar,
       set_public_key, [](const Worker& w) { return w.public_key; }}};
  return fields;
}

}  // namespace shoal::config
