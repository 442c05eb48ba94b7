#include "model/model_spec.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <unordered_set>

#include "base/check.h"
#include "base/quote.h"
#include "model/arch/arch.h"
#include "model/gguf.h"

namespace shoal {
namespace {

struct Architecture {
  const char* name;  // general.architecture
  Result<ModelSpec> (*read)(const ArchMetadata&);
};

constexpr Architecture kArchitectures[] = {
    {"llama", read_llama},         {"llama4", read_llama4},       {"mistral3", read_mistral3},
    {"qwen2", read_qwen2},         {"qwen2moe", read_qwen2moe},   {"qwen3", read_qwen3},
    {"qwen3moe", read_qwen3moe},   {"gpt-oss", read_gpt_oss},     {"glm4moe", read_glm4moe},
    {"deepseek2", read_deepseek2}, {"phi3", read_phi3},           {"gemma3", read_gemma3},
    {"falcon", read_falcon},       {"command-r", read_command_r},
};

// YaRN's ramp: 1 where a pair keeps its angle (extrapolation), 0 where it is interpolated.
// Peng et al. 2023, "YaRN", equations 22–23 with the pair index as the ramp's coordinate.
double yarn_keep(const RopeSpec& rope, int64_t pair) {
  const auto correction = [&](double beta) {
    return static_cast<double>(rope.dims) *
           std::log(static_cast<double>(rope.original_context) / (2 * std::numbers::pi * beta)) /
           (2 * std::log(static_cast<double>(rope.base)));
  };
  const double low = std::max(0.0, std::floor(correction(rope.yarn_beta_fast)));
  const double high =
      std::min(static_cast<double>(rope.dims - 1), std::ceil(correction(rope.yarn_beta_slow)));
  const double y = (static_cast<double>(pair) - low) / std::max(0.001, high - low);
  return 1.0 - std::clamp(y, 0.0, 1.0);
}

// What plans and messages have room for (wire::kMaxExpertEntries).
Status check_expert_count(const ModelSpec& spec) {
  constexpr int64_t kMaxEntries = 1 << 20;
  int64_t entries = 0;
  for (const LayerSpec& layer : spec.layer) entries += layer.ffn.moe.experts;
  if (entries <= kMaxEntries) return Status::ok();
  return unsupported("key '" + spec.architecture + ".expert_count': " + std::to_string(entries) +
                     " experts in all layers; at most " + std::to_string(kMaxEntries) +
                     " are possible");
}

// The block of "blk.N.…", or −1.
int64_t block_of(std::string_view tensor) {
  constexpr std::string_view kPrefix = "blk.";
  constexpr int64_t kMost = 1 << 20;
  if (!tensor.starts_with(kPrefix)) return -1;
  int64_t block = 0;
  size_t at = kPrefix.size();
  for (; at < tensor.size() && tensor[at] >= '0' && tensor[at] <= '9'; ++at) {
    block = std::min(block * 10 + (tensor[at] - '0'), kMost);
  }
  return at > kPrefix.size() && at < tensor.size() && tensor[at] == '.' ? block : -1;
}

// A block that is left out, since it predicts further tokens, says so by its tensors.
Status check_skipped_blocks(const GgufFile& file, const ModelSpec& spec) {
  for (int64_t block = spec.layers; block < spec.layers + spec.skipped_layers; ++block) {
    const std::string prefix = "blk." + std::to_string(block) + ".";
    const TensorInfo* first = nullptr;
    bool predicts = false;
    for (const TensorInfo& tensor : file.tensors()) {
      if (!tensor.name.starts_with(prefix)) continue;
      if (first == nullptr) first = &tensor;
      predicts = predicts || tensor.name.starts_with(prefix + "nextn.");
    }
    if (first == nullptr || predicts) continue;  // some files leave such blocks out
    return invalid_argument("key '" + spec.architecture + ".nextn_predict_layers' is " +
                            std::to_string(spec.skipped_layers) + ", but block " +
                            std::to_string(block) + " (tensor " + in_quotes(first->name) +
                            ") has no tensors '" + prefix +
                            "nextn.…' as one that predicts further "
                            "tokens has");
  }
  return Status::ok();
}

// Blocks beyond the last are an error: what the file holds is more than it says. Other tensors that
// nobody reads are named, since an answer without them may be another.
Status find_unread(const GgufFile& file, ModelSpec* spec) {
  std::unordered_set<std::string_view> read;
  for (const TensorDecl& tensor : spec->tensors) {
    read.insert(tensor.name);
    if (!tensor.scale_name.empty()) read.insert(tensor.scale_name);
  }
  const int64_t blocks = spec->layers + spec->skipped_layers;
  constexpr size_t kNamed = 8;
  size_t unread = 0;
  std::string names;
  for (const TensorInfo& tensor : file.tensors()) {
    if (read.contains(tensor.name)) continue;
    const int64_t block = block_of(tensor.name);
    if (block >= blocks) {
      return invalid_argument("tensor " + in_quotes(tensor.name) + " is of block " +
                              std::to_string(block) + ", but key '" + spec->architecture +
                              ".block_count' is " + std::to_string(blocks));
    }
    if (block >= spec->layers) continue;  // of further tokens, which nobody predicts here
    if (tensor.name.starts_with("blk." + std::to_string(block) + ".nextn.")) {
      return invalid_argument("tensor " + in_quotes(tensor.name) + " is of a block that predicts " +
                              "further tokens, but keys '" + spec->architecture +
                              ".block_count' and '" + spec->architecture +
                              ".nextn_predict_layers' make it one of " +
                              std::to_string(spec->layers) + " that are decoded");
    }
    // Together or as two factors: one of them is read.
    if (tensor.name.ends_with(".attn_kv_b.weight") || tensor.name.ends_with(".input_scale")) {
      continue;
    }
    if (++unread <= kNamed) names += (names.empty() ? "" : ", ") + in_quotes(tensor.name);
  }
  if (unread == 0) return Status::ok();
  if (unread > kNamed) names += " and " + std::to_string(unread - kNamed) + " more";
  spec->warnings.push_back("architecture '" + spec->architecture + "' does not read " +
                           std::to_string(unread) + " tensor(s) of the file: " + names +
                           "; if they matter, answers will be wrong");
  return Status::ok();
}

// Layers of equal visibility form one group.
void assign_kv_groups(ModelSpec* spec) {
  spec->kv_groups.clear();
  for (size_t i = 0; i < spec->layer.size(); ++i) {
    AttentionLayer& attention = spec->layer[i].attention;
    auto group =
        std::find_if(spec->kv_groups.begin(), spec->kv_groups.end(), [&](const KvGroup& candidate) {
          return candidate.window == attention.window && candidate.chunk == attention.chunk;
        });
    if (group == spec->kv_groups.end()) {
      spec->kv_groups.push_back({attention.window, attention.chunk, {}});
      group = std::prev(spec->kv_groups.end());
    }
    group->layers.push_back(static_cast<int>(i));
    attention.kv_group = static_cast<int>(group - spec->kv_groups.begin());
  }
}

}  // namespace

std::vector<float> rope_inverse_frequencies(const RopeSpec& rope, std::span<const float> factors) {
  SHOAL_CHECK(factors.empty() || static_cast<int64_t>(factors.size()) == rope.dims / 2,
              "rope factors of another size");
  std::vector<float> frequencies;
  for (int64_t p = 0; p < rope.dims / 2; ++p) {
    double theta = std::pow(static_cast<double>(rope.base),
                            -2.0 * static_cast<double>(p) / static_cast<double>(rope.dims));
    if (!factors.empty()) theta /= static_cast<double>(factors[static_cast<size_t>(p)]);
    const double interpolated = theta * static_cast<double>(rope.frequency_scale);
    const double keep = rope.yarn ? yarn_keep(rope, p) : 0.0;
    frequencies.push_back(static_cast<float>(interpolated * (1 - keep) + theta * keep));
  }
  return frequencies;
}

int64_t KvGroup::first_visible(int64_t position) const {
  int64_t first = 0;
  if (window > 0) first = std::max(first, position - window + 1);
  if (chunk > 0) first = std::max(first, position / chunk * chunk);
  return first;
}

uint64_t TensorDecl::elements() const {
  return static_cast<uint64_t>(rows) * static_cast<uint64_t>(cols) *
         static_cast<uint64_t>(std::max<int64_t>(experts, 1));
}

uint64_t ModelSpec::parameters() const {
  uint64_t total = 0;
  for (const TensorDecl& tensor : tensors) {
    if (tensor.role == Role::kOutput && tied_output && !tensor.bias) continue;
    total += tensor.elements();
  }
  return total;
}

uint64_t ModelSpec::active_parameters() const {
  uint64_t total = 0;
  for (const TensorDecl& tensor : tensors) {
    if (tensor.role == Role::kOutput && tied_output && !tensor.bias) continue;
    uint64_t elements = tensor.elements();
    if (tensor.experts > 0) {
      const MoeLayer& moe = layer[static_cast<size_t>(tensor.layer)].ffn.moe;
      elements = elements / static_cast<uint64_t>(moe.experts) * static_cast<uint64_t>(moe.top_k);
    }
    total += elements;
  }
  return total;
}

const TensorDecl* ModelSpec::find(Role role, int at, bool bias) const {
  for (const TensorDecl& tensor : tensors) {
    if (tensor.role == role && tensor.layer == at && tensor.bias == bias) return &tensor;
  }
  return nullptr;
}

std::vector<std::string> supported_architectures() {
  std::vector<std::string> names;
  for (const Architecture& architecture : kArchitectures) names.push_back(architecture.name);
  return names;
}

Result<ModelSpec> read_model_spec(const GgufFile& file) {
  if (!file.has("general.architecture")) {
    return not_found("key 'general.architecture' is missing: not a model file");
  }
  SHOAL_ASSIGN(const std::string_view found, file.get_string("general.architecture"));
  const std::string name(found);
  std::string known;
  for (const Architecture& architecture : kArchitectures) {
    if (name == architecture.name) {
      SHOAL_ASSIGN(ModelSpec spec, architecture.read(ArchMetadata(file, name)));
      assign_kv_groups(&spec);
      SHOAL_TRY(check_expert_count(spec));
      SHOAL_TRY(check_skipped_blocks(file, spec));
      SHOAL_TRY(find_unread(file, &spec));
      return spec;
    }
    known += (known.empty() ? "" : ", ") + std::string(architecture.name);
  }
  return unsupported("architecture " + in_quotes(name) +
                     " (key 'general.architecture') is not supported; " + "supported: " + known);
}

}  // namespace shoal
