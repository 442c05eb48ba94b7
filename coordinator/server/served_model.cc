#include "coordinator/server/served_model.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <filesystem>
#include <thread>

#include <fmt/core.h>

#include "base/check.h"
#include "base/file.h"
#include "base/log.h"
#include "base/quote.h"
#include "coordinator/server/model_name.h"
#include "kernels/formats/weight_check.h"
#include "model/gguf_verify.h"
#include "parallel/plan/memory_plan.h"

namespace shoal {
namespace {

// Automatic context: what most requests need. A model trained for 131072 tokens would otherwise
// take its whole KV cache for one sequence; ask with --context.
constexpr int64_t kDefaultContext = 8192;

}  // namespace

uint64_t bytes_read_per_token(const GgufFile& file, const ModelSpec& spec) {
  const auto bytes = bytes_per_token(spec, tensor_types(file));
  SHOAL_CHECK(bytes.is_ok(), "a model without its tensors");  // read_model_spec() has found them
  return *bytes;
}

Result<std::string> hash_whole_model(const GgufFile& file) {
  constexpr Duration kReport = std::chrono::seconds(5);
  const std::string path = excerpt(file.parts()[0].path);
  const auto gigabytes = [](uint64_t bytes) { return static_cast<double>(bytes) / 1e9; };
  const TimePoint start = std::chrono::steady_clock::now();
  std::atomic<uint64_t> done{0};
  std::atomic<bool> over{false};
  log_info(fmt::format("verifying {}: reading {:.1f} GB", path, gigabytes(file.file_bytes())));
  std::thread watcher([&] {
    TimePoint reported = start;
    while (!over.load()) {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      const TimePoint now = std::chrono::steady_clock::now();
      if (now - reported < kReport) continue;
      reported = now;
      log_info(fmt::format("verifying {}: {:.0f} %, {:.2f} GB/s", path,
                           100.0 * gigabytes(done.load()) / gigabytes(file.file_bytes()),
                           gigabytes(done.load()) / to_seconds(now - start)));
    }
  });
  auto digest = full_digest(file, {.bytes_done = &done});
  over.store(true);
  watcher.join();
  if (!digest) return digest;
  const double seconds = to_seconds(std::chrono::steady_clock::now() - start);
  log_info(fmt::format("verified {}: {}, {:.2f} GB/s", path, *digest,
                       gigabytes(file.file_bytes()) / std::max(seconds, 1e-9)));
  return digest;
}

Result<JudgedModel> judge_model(const GgufFile& file, const std::string& chat_template) {
  JudgedModel judged;
  SHOAL_ASSIGN(judged.spec, read_model_spec(file));
  SHOAL_TRY(check_vectors(file, judged.spec));
  SHOAL_ASSIGN(judged.codec, gateway::make_model_codec(file, judged.spec.vocab, chat_template));
  judged.warnings = judged.spec.warnings;
  judged.warnings.insert(judged.warnings.end(), judged.codec.warnings.begin(),
                         judged.codec.warnings.end());
  if (judged.spec.tokens < judged.spec.vocab) {
    judged.warnings.push_back(fmt::format(
        "tensor 'token_embd.weight' has {} rows for {} tokens (key 'tokenizer.ggml.tokens'); those "
        "without a token are never drawn",
        judged.spec.vocab, judged.spec.tokens));
  }
  return judged;
}

Result<ServedModel> read_served_model(const std::string& path, bool verify,
                                      const std::string& chat_template) {
  ServedModel model;
  SHOAL_ASSIGN(GgufFile file, GgufFile::open(path));
  SHOAL_ASSIGN(model.path, absolute_path(path));
  model.digest = file.digest();
  SHOAL_ASSIGN(JudgedModel judged, judge_model(file, chat_template));
  model.spec = std::move(judged.spec);
  model.codec = std::make_shared<gateway::ModelCodec>(std::move(judged.codec));
  model.warnings = std::move(judged.warnings);
  if (verify) {
    SHOAL_ASSIGN(model.full_digest, hash_whole_model(file));
  }
  const std::string stem = std::filesystem::path(path).stem().string();
  const std::string& named = model.spec.name == "unnamed" ? stem : model.spec.name;
  model.name = usable_model_name(named, stem);
  if (model.name != named) {
    model.warnings.push_back(
        fmt::format("the name {} (key 'general.name') could not be asked for; "
                    "the model is served as {}",
                    in_quotes(named), in_quotes(model.name)));
  }
  model.file = std::make_shared<GgufFile>(std::move(file));
  return model;
}

int64_t automatic_context(const ModelSpec& spec) {
  return std::min(spec.context_length, kDefaultContext);
}

std::string context_warning(const ModelSpec& spec, int64_t context) {
  int64_t reach = spec.context_length;
  int64_t original = 0;
  for (const LayerSpec& layer : spec.layer) {
    const RopeSpec& rope = layer.attention.rope;
    if (rope.original_context <= 0 || rope.frequency_scale >= 1 || rope.frequency_scale <= 0) {
      continue;
    }
    original = rope.original_context;
    reach = std::max<int64_t>(reach,
                              std::llround(static_cast<double>(original) / rope.frequency_scale));
  }
  if (context <= reach) return "";
  const std::string scaled =
      original > 0 ? fmt::format(" (its rope scaling stretches {} to {})", original, reach) : "";
  return fmt::format(
      "a context of {} tokens is above the {} the model was trained for{}: beyond them its answers "
      "are likely to be nonsense",
      context, spec.context_length, scaled);
}

}  // namespace shoal
