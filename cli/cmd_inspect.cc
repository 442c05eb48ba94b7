// shoal inspect MODEL: what is in a GGUF file — metadata, tensors, types, size per type — what the
// model is, whether it can be served, and, with --workers N, what each rank would hold. Reads the
// header and the vectors.
#include <fmt/core.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdio>
#include <map>

#include "base/console.h"
#include "base/quote.h"
#include "cli/commands.h"
#include "cli/inspect_model.h"
#include "config/parser.h"
#include "coordinator/server/served_model.h"
#include "model/gguf.h"
#include "model/gguf_verify.h"

namespace shoal {
namespace {

using Json = nlohmann::ordered_json;

struct InspectOptions {
  std::string model;
  RankOptions ranks;
  std::string context;  // --context, in tokens; empty: the automatic one
  bool tensors = false;
  bool json = false;
  bool verify = false;
};

constexpr size_t kShownElements = 8;  // of an array
constexpr size_t kShownBytes = 120;   // of a string

Json element(const GgufValue& value, uint64_t i) {
  switch (value.element_type) {
    case GgufType::kString: {
      std::string text(value.string_at(i));
      return text.size() > kShownBytes ? Json(text.substr(0, kShownBytes) + "…") : Json(text);
    }
    case GgufType::kFloat32:
    case GgufType::kFloat64:
      return value.float_at(i);
    case GgufType::kBool:
      return value.int_at(i) != 0;
    case GgufType::kUint64:
      return static_cast<uint64_t>(value.int_at(i));
    default:
      return value.int_at(i);
  }
}

Json value_json(const GgufValue& value) {
  if (!value.is_array()) return element(value, 0);
  Json shown = Json::array();
  for (uint64_t i = 0; i < std::min<uint64_t>(value.count, kShownElements); ++i) {
    shown.push_back(element(value, i));
  }
  if (value.count <= kShownElements) return shown;
  return {{"count", value.count}, {"first", shown}};
}

struct TypeTotal {
  uint64_t tensors = 0, elements = 0, bytes = 0;
};

Json types_json(const GgufFile& file) {
  std::map<std::string, TypeTotal> totals;
  for (const TensorInfo& tensor : file.tensors()) {
    TypeTotal& total = totals[std::string(tensor_type_name(tensor.type))];
    ++total.tensors;
    total.elements += tensor.elements();
    total.bytes += tensor.bytes;
  }
  Json out = Json::object();
  for (const auto& [name, total] : totals) {
    out[name] = {{"tensors", total.tensors},
                 {"elements", total.elements},
                 {"bytes", total.bytes},
                 {"bits_per_weight",
                  8.0 * static_cast<double>(total.bytes) / static_cast<double>(total.elements)}};
  }
  return out;
}

Result<int64_t> context_of(const InspectOptions& options, const ModelSpec& spec) {
  if (options.context.empty()) return automatic_context(spec);
  config::Settings settings;
  SHOAL_TRY(config::apply_overrides({{"kv.context", options.context, "--context"}}, &settings));
  const uint32_t asked = settings.config.kv.context;
  return asked == 0 ? automatic_context(spec) : int64_t{asked};
}

Result<Json> inspect(const InspectOptions& options) {
  SHOAL_ASSIGN(const GgufFile file, GgufFile::open(options.model));
  Json out;
  out["file"] = options.model;
  out["version"] = file.version();
  out["digest"] = file.digest();
  if (options.verify) {
    SHOAL_ASSIGN(out["full_digest"], full_digest(file, {}));
  }
  out["parts"] = file.parts().size();
  out["header_bytes"] = file.header_bytes();
  out["data_bytes"] = file.data_bytes();
  Json metadata = Json::object();
  for (const auto& [key, value] : file.metadata()) metadata[key] = value_json(value);
  out["metadata"] = metadata;
  out["types"] = types_json(file);
  if (options.tensors) {
    Json tensors = Json::array();
    for (const TensorInfo& tensor : file.tensors()) {
      Json dims = Json::array();
      for (int i = 0; i < tensor.n_dims; ++i) dims.push_back(tensor.dims[static_cast<size_t>(i)]);
      tensors.push_back({{"name", tensor.name},
                         {"type", tensor_type_name(tensor.type)},
                         {"dims", dims},
                         {"bytes", tensor.bytes},
                         {"part", tensor.part},
                         {"offset", tensor.file_offset}});
    }
    out["tensors"] = tensors;
  }
  const auto judged = judge_model(file);
  if (!judged) {
    out["servable"] = false;
    out["why_not"] = judged.status().message();
    return out;
  }
  out["servable"] = true;
  out["warnings"] = judged->warnings;
  SHOAL_ASSIGN(const int64_t context, context_of(options, judged->spec));
  out["context"] = context;
  if (const std::string warning = context_warning(judged->spec, context); !warning.empty()) {
    out["warnings"].push_back(warning);
  }
  out.update(describe_model(file, judged->spec));
  if (options.ranks.workers > 0) {
    SHOAL_ASSIGN(out["ranks"], describe_ranks(file, judged->spec, options.ranks));
  }
  return out;
}

double gib(const Json& bytes) { return bytes.get<double>() / (1 << 30); }

void print_human(const Json& out) {
  fmt::print("{}  (GGUF v{}, {} part(s), digest {})\n", excerpt(out["file"].get<std::string>()),
             out["version"].get<int>(), out["parts"].get<int>(), out["digest"].get<std::string>());
  if (out.contains("full_digest")) {
    fmt::print("digest of all bytes {}\n", out["full_digest"].get<std::string>());
  }
  fmt::print("\nmetadata\n");
  for (const auto& [key, value] : out["metadata"].items()) {
    fmt::print("  {:<44} {}\n", excerpt(key),
               value.dump(-1, ' ', false, Json::error_handler_t::replace));
  }
  fmt::print("\n{:<10} {:>8} {:>16} {:>12} {:>6}\n", "type", "tensors", "elements", "GiB", "bits");
  for (const auto& [name, total] : out["types"].items()) {
    fmt::print("{:<10} {:>8} {:>16} {:>12.3f} {:>6.2f}\n", name, total["tensors"].get<uint64_t>(),
               total["elements"].get<uint64_t>(), gib(total["bytes"]),
               total["bits_per_weight"].get<double>());
  }
  if (out.contains("tensors")) {
    fmt::print("\n{:<40} {:>8} {:>24} {:>14}\n", "tensor", "type", "dims", "bytes");
    for (const Json& tensor : out["tensors"]) {
      fmt::print("{:<40} {:>8} {:>24} {:>14}\n", tensor["name"].get<std::string>(),
                 tensor["type"].get<std::string>(), tensor["dims"].dump(),
                 tensor["bytes"].get<uint64_t>());
    }
  }
  if (!out["servable"].get<bool>()) {
    fmt::print("\nShoal cannot serve it: {}\n", out["why_not"].get<std::string>());
    return;
  }
  for (const Json& warning : out["warnings"]) {
    fmt::print("\nwarning: {}\n", bounded_message(warning.get<std::string>()));
  }
  print_model(out);
  if (out.contains("ranks")) print_ranks(out["ranks"]);
}

int run(const InspectOptions& options) {
  const auto out = inspect(options);
  if (!out) {
    print_error(fmt::format("shoal inspect: {}", out.status().message()));
    return kExitUsage;
  }
  if (options.json) {
    fmt::print("{}\n", out->dump(2, ' ', false, Json::error_handler_t::replace));
  } else {
    print_human(*out);
  }
  return kExitOk;
}

}  // namespace

void add_inspect_command(CLI::App& app, CommandAction& action) {
  auto options = std::make_shared<InspectOptions>();
  CLI::App* command = app.add_subcommand("inspect", "Show what is in a GGUF file");
  command
      ->add_option("model,-m,--model", options->model,
                   "Path of the model (first part of a split one)")
      ->required();
  command->add_option("--context,-c", options->context,
                      "Also judge this longest prompt plus output, in tokens (32k: 32 × 1024)");
  RankOptions& ranks = options->ranks;
  CLI::Option* workers =
      command->add_option("--workers", ranks.workers, "Also show what each of N ranks would hold")
          ->check(CLI::Range(1, 64));
  command->add_option("--shares", ranks.shares, "Relative share of each rank, e.g. 2,1")
      ->delimiter(',')
      ->needs(workers);
  command
      ->add_option("--expert-workers", ranks.expert_workers,
                   "Ranks besides that hold experts of a mixture only")
      ->check(CLI::Range(0, 63))
      ->needs(workers);
  command
      ->add_option("--experts", ranks.experts,
                   "Layout of mixtures of experts: auto, sliced or placed")
      ->check(CLI::IsMember({"auto", "sliced", "placed"}))
      ->needs(workers);
  command->add_option("--placement", ranks.placement, "File that pins experts to ranks")
      ->needs(workers);
  command->add_flag("--verify", options->verify, "Also hash every byte: compare it between hosts");
  command->add_flag("--tensors", options->tensors, "List every tensor");
  command->add_flag("--json", options->json, "Print JSON");
  command->callback([options, &action] { action = [options] { return run(*options); }; });
}

}  // namespace shoal
