// The model a coordinator serves: what its file says, judged before anything is started.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "coordinator/gateway/model_codec.h"
#include "model/gguf.h"
#include "model/model_spec.h"

namespace shoal {

struct ServedModel {
  std::string path;  // absolute: workers open it too
  std::string name;  // general.name, or the file's name; as usable_model_name() makes it
  std::string digest;
  std::string full_digest;  // of all bytes, if that was asked for
  std::shared_ptr<const GgufFile> file;
  ModelSpec spec;
  std::shared_ptr<const gateway::ModelCodec> codec;
  std::vector<std::string> warnings;  // of what the file says and does not stand in the way
};

// What a server asks of a model before it starts anything: `shoal serve` and `shoal inspect` alike.
struct JudgedModel {
  ModelSpec spec;
  gateway::ModelCodec codec;
  std::vector<std::string> warnings;
};
// Errors: what read_model_spec(), check_vectors() and make_model_codec(), which takes
// `chat_template`, refuse.
Result<JudgedModel> judge_model(const GgufFile& file, const std::string& chat_template = "");

// Bytes of weights one decoded token reads: bytes_per_token() of a file that has all tensors.
uint64_t bytes_read_per_token(const GgufFile& file, const ModelSpec& spec);

// Errors: what judge_model() refuses. `verify`: hashes the whole file too, with progress in the
// log.
Result<ServedModel> read_served_model(const std::string& path, bool verify = false,
                                      const std::string& chat_template = "");
// The hash of all bytes of an open model, with progress in the log.
Result<std::string> hash_whole_model(const GgufFile& file);

// Tokens of one sequence where nobody says.
int64_t automatic_context(const ModelSpec& spec);
// What to say of a context that is longer than the model was trained for or its rope scaling
// reaches; empty: nothing.
std::string context_warning(const ModelSpec& spec, int64_t context);

}  // namespace shoal
