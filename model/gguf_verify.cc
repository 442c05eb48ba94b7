#include "model/gguf_verify.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "base/file.h"

namespace shoal {
namespace {

constexpr uint64_t kPiece = 16 << 20;

class Verifier {
 public:
  Verifier(const GgufFile& file, const VerifyOptions& options) : file_(file), options_(options) {
    for (uint32_t part = 0; part < file.parts().size(); ++part) {
      for (uint64_t at = 0; at < file.parts()[part].size; at += kPiece) {
        pieces_.push_back({part, at, std::min(kPiece, file.parts()[part].size - at), {}});
      }
    }
  }

  Result<std::string> run() {
    std::vector<std::thread> threads;
    const int count = std::clamp(options_.threads, 1, 16);
    for (int i = 1; i < count; ++i) threads.emplace_back([this] { work(); });
    work();
    for (std::thread& thread : threads) thread.join();
    SHOAL_TRY(error_);
    return combined();
  }

 private:
  struct Piece {
    uint32_t part;
    uint64_t offset, bytes;
    XXH128_canonical_t hash;
  };

  void work() {
    const std::unique_ptr<uint8_t, decltype(&std::free)> memory(
        static_cast<uint8_t*>(std::aligned_alloc(File::kPage, kPiece + 2 * File::kPage)),
        &std::free);
    Status status = memory ? Status::ok() : resource_exhausted("no memory to read a file into");
    for (size_t i = next_.fetch_add(1); status && i < pieces_.size(); i = next_.fetch_add(1)) {
      if (failed_.load()) return;
      status = hash(pieces_[i], {memory.get(), kPiece + 2 * File::kPage});
    }
    if (status) return;
    failed_.store(true);
    const std::lock_guard lock(mutex_);
    if (error_.is_ok()) error_ = std::move(status);
  }

  Status hash(Piece& piece, std::span<uint8_t> memory) {
    if (options_.stop != nullptr && options_.stop->load()) {
      return cancelled("the check of the model's files was stopped");
    }
    SHOAL_ASSIGN(const std::span<uint8_t> bytes,
                 file_.source(piece.part).read_past_cache(piece.offset, piece.bytes, memory));
    XXH128_canonicalFromHash(&piece.hash, XXH3_128bits(bytes.data(), bytes.size()));
    if (options_.bytes_done != nullptr) options_.bytes_done->fetch_add(piece.bytes);
    return Status::ok();
  }

  std::string combined() const {
    std::vector<uint8_t> all;
    const auto append = [&](const void* data, size_t bytes) {
      const auto* from = static_cast<const uint8_t*>(data);
      all.insert(all.end(), from, from + bytes);
    };
    uint32_t part = 0;
    for (const Piece& piece : pieces_) {  // no part is empty: each has a header
      if (piece.offset == 0) append(&file_.parts()[part++].size, sizeof(uint64_t));
      append(&piece.hash, sizeof(piece.hash));
    }
    const XXH128_hash_t hash = XXH3_128bits(all.data(), all.size());
    return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
  }

  const GgufFile& file_;
  const VerifyOptions& options_;
  std::vector<Piece> pieces_;
  std::atomic<size_t> next_{0};
  std::atomic<bool> failed_{false};
  std::mutex mutex_;  // guards error_
  Status error_;
};

}  // namespace

Result<std::string> full_digest(const GgufFile& file, const VerifyOptions& options) {
  return Verifier(file, options).run();
}

}  // namespace shoal
