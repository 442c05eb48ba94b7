#include "tests/parallel/group.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <thread>

namespace shoal::testing {

std::string engine_name(Engine engine) {
  switch (engine) {
    case Engine::kLocal:
      return "local";
    case Engine::kShm:
      return "shm";
    case Engine::kGloo:
      return "gloo";
  }
  return "?";
}

std::string unique_shm_name() {
  static std::atomic<int> counter{0};
  return "/shoal.test." + std::to_string(getpid()) + "." + std::to_string(++counter);
}

void run_ranks(int world, const std::function<void(int)>& body) {
  std::vector<std::thread> threads;
  for (int rank = 0; rank < world; ++rank) threads.emplace_back([&body, rank] { body(rank); });
  for (std::thread& thread : threads) thread.join();
}

Status MemoryStore::set(const std::string& key, const std::string& value) {
  std::lock_guard lock(mutex_);
  values_[key] = value;
  changed_.notify_all();
  return Status::ok();
}

Result<std::string> MemoryStore::get(const std::string& key, TimePoint deadline) {
  std::unique_lock lock(mutex_);
  if (!changed_.wait_until(lock, deadline, [&] { return values_.count(key) > 0; })) {
    return deadline_exceeded("nobody set '" + key + "'");
  }
  return values_[key];
}

std::vector<std::unique_ptr<Collective>> make_group(const GroupOptions& options) {
  if (options.engine == Engine::kLocal) return make_local_collectives(options.world, options.epoch);
  std::vector<std::unique_ptr<Collective>> members(static_cast<size_t>(options.world));
  const std::string name = unique_shm_name();
  MemoryStore store;
  run_ranks(options.world, [&](int rank) {
    if (options.engine == Engine::kGloo) {
      GlooOptions gloo;
      gloo.address = "127.0.0.1";
      gloo.rank = rank;
      gloo.world = options.world;
      gloo.epoch = options.epoch;
      gloo.store = &store;
      gloo.deadline = in_seconds(20);
      auto member = make_gloo_collective(gloo);
      ASSERT_TRUE(member.is_ok()) << member.status().to_string();
      members[static_cast<size_t>(rank)] = std::move(member).value();
      return;
    }
    ShmOptions shm;
    shm.name = name;
    shm.rank = rank;
    shm.world = options.world;
    shm.epoch = options.epoch;
    shm.slot_bytes = options.slot_bytes;
    shm.deadline = in_seconds(20);
    auto member = make_shm_collective(shm);
    ASSERT_TRUE(member.is_ok()) << member.status().to_string();
    members[static_cast<size_t>(rank)] = std::move(member).value();
  });
  for (auto& member : members) {
    if (!member) return {};
  }
  return members;
}

}  // namespace shoal::testing
