// From configuration and a model's header to what the engine runs with: context, KV blocks, limits.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "config/config.h"
#include "coordinator/core.h"
#include "model/gguf.h"
#include "model/model_spec.h"

namespace shoal {

struct ServedModel {
  std::string path;  // absolute: workers open it too
  std::string name;  // general.name, or the file's name
  std::string digest;
  std::shared_ptr<const GgufFile> file;
  ModelSpec spec;
};

// Bytes of weights one decoded token reads: bytes_per_token() of a file that has all tensors.
uint64_t bytes_read_per_token(const GgufFile& file, const ModelSpec& spec);

// Errors: what read_model_spec() and check_vectors() refuse.
Result<ServedModel> read_served_model(const std::string& path);

// `names`: of the expected workers, in rank order; those beyond the group's ranks are spares.
Result<CoreOptions> make_core_options(const config::Config& config, const ServedModel& model,
                                      const std::vector<std::string>& names);

}  // namespace shoal
