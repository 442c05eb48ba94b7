// Parses the header of one GGUF file. Internal to model/: users go through GgufFile.
#pragma once

#include <string>
#include <vector>

#include "model/gguf.h"

namespace shoal {

// What one file's header says, checked on its own: keys and tensor names unique, every tensor
// inside the file, aligned, of a known type, and none overlapping another.
struct GgufHeader {
  uint32_t version = 0;
  GgufPart part;
  GgufMetadata metadata;
  std::vector<TensorInfo> tensors;  // in file order, part = 0
};

Result<GgufHeader> read_gguf_header(const ByteSource& source);

}  // namespace shoal
