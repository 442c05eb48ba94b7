// Groups of ranks as threads of the test, over any engine.
#pragma once

#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "parallel/collective/collective.h"

namespace shoal::testing {

enum class Engine { kLocal, kShm, kGloo };
std::string engine_name(Engine engine);

inline TimePoint in_seconds(double s) { return std::chrono::steady_clock::now() + from_seconds(s); }

struct GroupOptions {
  Engine engine = Engine::kLocal;
  int world = 1;
  uint64_t epoch = 7;
  uint64_t slot_bytes = 0;  // local and shm
};
// Every member, made as the engine demands (a thread each where they wait for each other). Fails
// the test and returns fewer members on an error.
std::vector<std::unique_ptr<Collective>> make_group(const GroupOptions& options);

// A rendezvous between threads.
class MemoryStore final : public RendezvousStore {
 public:
  Status set(const std::string& key, const std::string& value) override;
  Result<std::string> get(const std::string& key, TimePoint deadline) override;

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, std::string> values_;
};

// A name for shared memory that no other test process uses.
std::string unique_shm_name();

// Runs body(rank) in a thread per rank and waits for all.
void run_ranks(int world, const std::function<void(int)>& body);

}  // namespace shoal::testing
