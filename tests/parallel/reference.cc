#include "tests/parallel/reference.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/rng.h"

namespace shoal::testing {
namespace {

std::string wrong(uint64_t step, const char* what) {
  return "step " + std::to_string(step) + ": wrong result of " + what;
}

}  // namespace

float sample(uint64_t seed, int rank, uint64_t i) {
  const uint64_t bits = mix64(mix64(seed + static_cast<uint64_t>(rank) * 1000003) + i);
  switch (bits % 37) {
    case 0:
      return 0.0f;
    case 1:
      return -0.0f;
    case 2:
      return 1e-41f;
    case 3:
      return 3e38f;
    default:
      break;
  }
  const float magnitude = std::ldexp(1.0f, static_cast<int>(bits >> 8 & 63) - 32);
  return static_cast<float>(static_cast<double>(bits >> 32) * 0x1p-32 - 0.5) * magnitude;
}

std::vector<float> samples(uint64_t seed, int rank, int64_t count) {
  std::vector<float> out(static_cast<size_t>(count));
  for (size_t i = 0; i < out.size(); ++i) out[i] = sample(seed, rank, i);
  return out;
}

std::vector<float> serial_sum(uint64_t seed, int world, int64_t count) {
  std::vector<float> out = samples(seed, 0, count);
  for (int rank = 1; rank < world; ++rank) {
    for (size_t i = 0; i < out.size(); ++i) out[i] = out[i] + sample(seed, rank, i);
  }
  return out;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

uint8_t byte_of(uint64_t seed, int rank, uint64_t i) {
  return static_cast<uint8_t>(mix64(seed ^ (static_cast<uint64_t>(rank) << 40) ^ i));
}

std::vector<uint8_t> bytes_of(uint64_t seed, int rank, uint64_t n) {
  std::vector<uint8_t> out(n);
  for (uint64_t i = 0; i < n; ++i) out[i] = byte_of(seed, rank, i);
  return out;
}

std::string run_random_sequence(Collective& member, uint64_t epoch, uint64_t seed, uint64_t steps,
                                double timeout_seconds) {
  Rng rng(seed);
  const int rank = member.rank();
  const int world = member.world();
  const auto nodes = static_cast<uint64_t>(world);
  for (uint64_t step = 1; step <= steps; ++step) {
    const uint64_t kind = rng.below(16);
    const uint64_t n = rng.below(4) == 0 ? rng.below(40'000) : rng.below(600);
    const int root = static_cast<int>(rng.below(nodes));
    const uint64_t hop = 1 + rng.below(std::max<uint64_t>(nodes - 1, 1));
    const int to = static_cast<int>((static_cast<uint64_t>(root) + hop) % nodes);
    const OpContext op{epoch, std::chrono::steady_clock::now() + from_seconds(timeout_seconds),
                       step};
    Status status;
    std::vector<uint8_t> data = bytes_of(step, rank, n);
    const char* bad = nullptr;
    if (kind < 8) {
      const auto count = static_cast<int64_t>(n);
      std::vector<float> floats = samples(seed + step, rank, count);
      status = member.all_reduce_sum(floats.data(), count, op);
      if (!same_bits(floats, serial_sum(seed + step, world, count))) bad = "all_reduce";
    } else if (kind < 11) {
      std::vector<uint8_t> out(n * nodes), expected;
      status = member.all_gather(data.data(), n, out.data(), op);
      for (int r = 0; r < world; ++r) {
        const std::vector<uint8_t> part = bytes_of(step, r, n);
        expected.insert(expected.end(), part.begin(), part.end());
      }
      if (out != expected) bad = "all_gather";
    } else if (kind < 13) {
      status = member.broadcast(data.data(), n, root, op);
      if (data != bytes_of(step, root, n)) bad = "broadcast";
    } else if (kind < 14) {
      status = member.barrier(op);
    } else if (world > 1 && rank == root) {
      status = member.send(data.data(), n, to, op);
    } else if (world > 1 && rank == to) {
      status = member.recv(data.data(), n, root, op);
      if (data != bytes_of(step, root, n)) bad = "recv";
    }
    if (!status) return "step " + std::to_string(step) + ": " + status.to_string();
    if (bad != nullptr) return wrong(step, bad);
  }
  return {};
}

}  // namespace shoal::testing
