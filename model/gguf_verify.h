// Hashing of all bytes of a model's files. GgufFile::digest() looks at headers and samples, which
// tells models apart in no time; this finds one flipped bit, and reads everything.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

#include "base/status.h"
#include "model/gguf.h"

namespace shoal {

struct VerifyOptions {
  int threads = 4;  // readers; the result does not depend on it
  std::atomic<uint64_t>* bytes_done = nullptr;
  const std::atomic<bool>* stop = nullptr;  // set: give up with kCancelled
};

// XXH3-128 in hex over, for each part in order: its size (u64 little-endian) and the XXH3-128 (in
// canonical form) of each 16 MiB of it. Names and folders do not enter. Errors are those of
// reading.
Result<std::string> full_digest(const GgufFile& file, const VerifyOptions& options);

}  // namespace shoal
