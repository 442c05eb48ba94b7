// model_probe: for each path on standard input one line of JSON that says what Shoal makes of the
// file: whether `inspect` would call it servable, whether a coordinator and its one worker serve
// it, and a digest of everything an answer depends on. Runs the program's own functions, each file
// in a process of its own, so that tests can judge thousands of files a minute.
//   servable, why_not, warnings   what judge_model() says: `shoal inspect`
//   served, refusal               what follows in `shoal serve`: layout, plan, loading, steps
//   text, answers                 digests of the tokenizer and of log-probabilities
//   prompt, values                some token ids and log-probabilities of those drawn behind them
//   ended                         instead: the signal the process ended by, or "hangs"
#include <poll.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <iostream>
#include <string>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "coordinator/server/core_options.h"
#include "coordinator/server/group.h"
#include "coordinator/server/served_model.h"
#include "kernels/cpu/cpu_device.h"
#include "worker/rank.h"

namespace shoal {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kSeconds = 30;                     // for one file, on a slow machine
constexpr uint64_t kMemory = uint64_t{8} << 30;  // what a worker says it has
constexpr uint32_t kRows = 40;                   // of the prompt, and of a step
constexpr uint32_t kDecoded = 4;

// FNV-1a, 64 bits.
class Digest {
 public:
  void add(std::string_view bytes) {
    for (const char c : bytes) {
      state_ = (state_ ^ static_cast<uint8_t>(c)) * 0x100000001b3;
    }
    state_ = (state_ ^ 0xff) * 0x100000001b3;
  }
  template <class T>
  void add_value(T value) {
    add({reinterpret_cast<const char*>(&value), sizeof(value)});
  }
  std::string text() const { return fmt::format("{:016x}", state_); }

 private:
  uint64_t state_ = 0xcbf29ce484222325;
};

// What requests see of the vocabulary.
std::string text_digest(const gateway::ModelCodec& model) {
  const gateway::TextCodec& codec = *model.codec;
  Digest digest;
  for (const char* text : {"Add 2 and 3.", "  The  quick brown fox's 12345 jumps!\n\n",
                           "Grüße, 你好", "<|im_start|>user\nhello<|im_end|>", "aaaaaaaa bbbb"}) {
    for (const bool special : {false, true}) {
      const auto ids = codec.encode(text, {.add_bos = special, .parse_special = special});
      digest.add(ids ? "" : ids.status().message());
      if (!ids) continue;
      for (const int32_t id : *ids) digest.add_value(id);
    }
  }
  for (int32_t id = 0; id < codec.vocab_size(); ++id) digest.add(codec.token_bytes(id));
  for (const std::string& text : codec.control_texts()) digest.add(text);
  for (const int32_t id : model.end_tokens) digest.add_value(id);
  digest.add(codec.bos_text());
  digest.add(codec.eos_text());
  digest.add_value(codec.has_chat_template());
  return digest.text();
}

// The tokens of one sequence: a prompt in one step, then some that are drawn.
Status run_steps(const wire::Assign& plan, const ModelSpec& spec, Rank& rank, Json* out) {
  const uint32_t longest = std::min(kRows + kDecoded, plan.max_sequence_tokens);
  const uint32_t prompt = longest > kDecoded ? longest - kDecoded : 1;  // a context has 2 at least
  wire::Step step;
  step.epoch = plan.epoch;
  wire::NewSequence sequence;
  for (uint32_t i = 0; i < prompt; ++i) {
    sequence.tokens.push_back(static_cast<int32_t>((7 + 37 * i) % spec.tokens));
  }
  sequence.prompt_tokens = prompt;
  sequence.sampling.temperature = 0;
  sequence.sampling.top_logprobs = 20;
  step.started.push_back(sequence);
  for (uint32_t group = 0; group < plan.kv_blocks.size(); ++group) {
    wire::BlockAppend blocks{.slot = 0, .group = group};
    for (uint32_t b = 0; b < plan.kv_blocks[group]; ++b) blocks.blocks.push_back(b);
    step.appended.push_back(blocks);
  }
  step.rows.push_back({0, 0, prompt, 1});
  Digest digest;
  Json values = Json::array();
  for (uint32_t position = prompt; position < longest; ++position) {
    ++step.step;
    SHOAL_ASSIGN(const wire::StepResult result, rank.run(step));
    if (result.rows.size() != 1) return internal_error("not one row");
    if (result.rows[0].broken) return data_loss("its logits are not finite");
    for (const wire::TokenLogprob& top : result.rows[0].top) {
      digest.add_value(top.id);
      digest.add_value(top.logprob);
    }
    values.push_back(result.rows[0].logprob);
    step.started.clear(), step.appended.clear();
    step.rows = {{0, position, 1, 1}};
  }
  (*out)["prompt"] = sequence.tokens;
  (*out)["answers"] = digest.text();
  (*out)["values"] = values;
  return Status::ok();
}

// As a coordinator that starts one worker on the CPU, with room for one short sequence.
Status serve(const std::string& path, Json* out) {
  SHOAL_ASSIGN(const ServedModel model, read_served_model(path));
  config::Config config;
  config.workers.push_back({.name = "w0", .device = "cpu"});
  config.kv.type = config::KvType::kF32;
  SHOAL_ASSIGN(const CoreOptions core, make_core_options(config, model, {"w0"}));
  const MembershipOptions& membership = core.membership;
  Offer offer;
  offer.name = "w0";
  offer.device_kind = "cpu";
  offer.memory_bytes = kMemory;
  SHOAL_ASSIGN(const Plan made, make_plan(*membership.planning->model, membership.planning->wishes,
                                          std::vector<Offer>{offer}));
  wire::Assign plan = membership.terms;
  plan.epoch = 1;
  plan.shares = made.split.shares;
  plan.experts = {made.split.experts.shares, made.split.experts.ranks};
  plan.kv_blocks.assign(made.kv_blocks.begin(), made.kv_blocks.end());
  plan.max_sequence_tokens = core.context_tokens;
  plan.block_tokens = config.kv.block_tokens;
  plan.max_rows = kRows;
  plan.max_slots = 1;
  for (uint32_t& blocks : plan.kv_blocks) {
    blocks = (kRows + kDecoded) / plan.block_tokens + 1;
    blocks = std::min(blocks, (plan.max_sequence_tokens - 1) / plan.block_tokens + 1);
  }
  plan.form_timeout_seconds = plan.step_timeout_seconds = kSeconds;
  SHOAL_ASSIGN(const std::unique_ptr<Device> device, make_cpu_device({.threads = 1}));
  Rank rank(*device);
  SHOAL_TRY(rank.form(plan, {.load = {.threads = 1}}).status());
  (*out)["text"] = text_digest(*model.codec);
  (*out)["context"] = core.context_tokens;
  return run_steps(plan, model.spec, rank, out);
}

Json probe(const std::string& path) {
  Json out;
  const auto file = GgufFile::open(path);
  const auto judged = file ? judge_model(*file) : Result<JudgedModel>(file.status());
  out["servable"] = judged.is_ok();
  out["warnings"] = judged ? judged->warnings : std::vector<std::string>{};
  if (!judged) out["why_not"] = judged.status().message();
  const Status served = serve(path, &out);
  out["served"] = served.is_ok();
  if (!served) out["refusal"] = served.message();
  return out;
}

// In a child, whose end is what is to be seen.
Json probe_apart(const std::string& path) {
  int ends[2];
  SHOAL_CHECK(::pipe(ends) == 0, "pipe");
  const pid_t child = ::fork();
  SHOAL_CHECK(child >= 0, "fork");
  if (child == 0) {
    ::close(ends[0]);
    const rlimit none{0, 0};
    (void)::setrlimit(RLIMIT_CORE, &none);
    const std::string text = probe(path).dump(-1, ' ', false, Json::error_handler_t::replace);
    for (size_t at = 0; at < text.size();) {
      const ssize_t n = ::write(ends[1], text.data() + at, text.size() - at);
      if (n <= 0) ::_exit(1);
      at += static_cast<size_t>(n);
    }
    ::_exit(0);
  }
  ::close(ends[1]);
  std::string text;
  bool hangs = false;
  for (char buffer[4096];;) {
    pollfd waiting{ends[0], POLLIN, 0};
    if (::poll(&waiting, 1, kSeconds * 1000) == 0) {
      hangs = true;
      ::kill(child, SIGKILL);
    }
    const ssize_t n = ::read(ends[0], buffer, sizeof(buffer));
    if (n <= 0) break;
    text.append(buffer, static_cast<size_t>(n));
  }
  ::close(ends[0]);
  int status = 0;
  (void)::waitpid(child, &status, 0);
  if (hangs) return {{"ended", "hangs"}};
  if (WIFSIGNALED(status)) return {{"ended", ::strsignal(WTERMSIG(status))}};
  if (WEXITSTATUS(status) != 0) return {{"ended", fmt::format("exit {}", WEXITSTATUS(status))}};
  return Json::parse(text);
}

}  // namespace
}  // namespace shoal

int main() {
  for (std::string path; std::getline(std::cin, path);) {
    std::cout << shoal::probe_apart(path).dump(-1, ' ', false,
                                               nlohmann::ordered_json::error_handler_t::replace)
              << std::endl;
  }
  return 0;
}
