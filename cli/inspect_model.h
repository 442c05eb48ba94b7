// What `shoal inspect` says of a model it can serve: sizes, experts, KV groups, and what each rank
// of a group would hold.
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "base/status.h"
#include "model/gguf.h"
#include "model/model_spec.h"

namespace shoal {

struct RankOptions {
  int workers = 0;               // ranks of role full
  int expert_workers = 0;        // ranks that hold experts only
  std::vector<double> shares;    // of the full ranks; empty: equal
  std::string experts = "auto";  // auto, sliced, placed
  std::string placement;         // file; empty: none
};

// parameters, active_parameters, bytes_per_token, layers, width, vocab, context_length, mixtures,
// kv_groups.
nlohmann::ordered_json describe_model(const GgufFile& file, const ModelSpec& spec);

// One object per rank. Every rank is taken to have the same memory and enough of it. Errors are
// those of a plan for this group.
Result<nlohmann::ordered_json> describe_ranks(const GgufFile& file, const ModelSpec& spec,
                                              const RankOptions& options);

// The same for people, on standard output. `model`: an object with what describe_model() returns.
void print_model(const nlohmann::ordered_json& model);
void print_ranks(const nlohmann::ordered_json& ranks);

}  // namespace shoal
