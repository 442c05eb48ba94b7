// One rank of a Gloo group, as a program: joins through a directory, runs a seeded sequence of
// checked operations, then all-reduces until --seconds are over or something fails. For tests
// between network namespaces (netns_test.py).
//
//   collective_rank RANK WORLD ADDRESS DIRECTORY SEED STEPS SECONDS TIMEOUT
//
// Prints "checked" after the sequence, then "done" (exit 0) or "failed after S s: ERROR" (exit 3).
#include <fmt/core.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "parallel/collective/directory_store.h"
#include "tests/parallel/reference.h"

namespace shoal {
namespace {

using std::chrono::steady_clock;

int failed(TimePoint start, const std::string& why) {
  fmt::print("failed after {:.3f} s: {}\n", to_seconds(steady_clock::now() - start), why);
  return 3;
}

int run(char** argv) {
  const auto after = [](double seconds) { return steady_clock::now() + from_seconds(seconds); };
  const double seconds = std::atof(argv[7]);
  const double timeout = std::atof(argv[8]);
  DirectoryStore store(argv[4]);
  GlooOptions options;
  options.rank = std::atoi(argv[1]);
  options.world = std::atoi(argv[2]);
  options.address = argv[3];
  options.epoch = 5;
  options.store = &store;
  options.deadline = after(20);
  TimePoint start = steady_clock::now();
  auto member = make_gloo_collective(options);
  if (!member) return failed(start, member.status().to_string());
  const auto seed = static_cast<uint64_t>(std::atoll(argv[5]));
  const auto steps = static_cast<uint64_t>(std::atoll(argv[6]));
  const std::string wrong = testing::run_random_sequence(**member, 5, seed, steps, timeout);
  if (!wrong.empty()) return failed(start, wrong);
  fmt::print("checked\n");
  std::fflush(stdout);
  const TimePoint end = after(seconds);
  for (float go = 1; go > 0;) {
    std::vector<float> data(4096, 1.0f);
    go = steady_clock::now() < end ? 1 : 0;  // rank 0's answer counts
    start = steady_clock::now();
    Status status = (*member)->all_reduce_sum(data.data(), 4096, {5, after(timeout)});
    if (status) status = (*member)->broadcast(&go, sizeof(go), 0, {5, after(timeout)});
    if (!status) return failed(start, status.to_string());
    if (data[4095] != static_cast<float>(options.world)) return failed(start, "wrong sum");
  }
  fmt::print("done\n");
  return 0;
}

}  // namespace
}  // namespace shoal

int main(int argc, char** argv) {
  if (argc != 9) {
    fmt::print(stderr,
               "usage: collective_rank RANK WORLD ADDRESS DIRECTORY SEED STEPS SECONDS TIMEOUT\n");
    return 2;
  }
  return shoal::run(argv);
}
