// One valid instance of every message, all fields away from their defaults, and random ones.
#pragma once

#include <vector>

#include "base/rng.h"
#include "wire/messages.h"

namespace shoal::wire::testing {

inline Assign sample_assign() {
  Assign m;
  m.epoch = 9;
  m.rank = 1;
  m.world = 3;
  m.shares = {1.0, 2.5, 0.125};
  m.model_path = "/models/größe.gguf";
  m.model_digest = "xxh3:0123456789abcdef";
  m.model_full_digest = "fedcba9876543210";
  m.kv = KvPrecision::kF32;
  m.kv_blocks = {4096, 64};
  m.experts.shares = {0, 2, 1};
  m.experts.ranks = {1, 2, 4, 3};
  m.routing_rank = 2;
  m.block_tokens = 32;
  m.max_rows = 512;
  m.max_slots = 64;
  m.max_sequence_tokens = 131072;
  m.engine = CollectiveEngine::kShm;
  m.segment = "/shoal.7.9";
  m.int8_activations = false;
  m.step_timeout_seconds = 20.5;
  m.form_timeout_seconds = 30.25;
  return m;
}

inline Step sample_step() {
  NewSequence started;
  started.slot = 5;
  started.generation = 77;
  started.tokens = {1, 128000, 0, 2147483647};
  started.prompt_tokens = 3;
  started.seed = 0xfedcba9876543210ull;
  started.choice = 2;
  started.sampling = {0.7f, 0.9f, 0.05f, 40, 0.5f, -0.25f, 1.1f, 5, {{17, -100.0f}, {99, 2.5f}}};
  return {9,
          1234567,
          {3, 4095},
          {started},
          {{5, 0, {0, 12, 13}}, {5, 1, {kNoBlock, 7}}},
          {{5, 0, 3, 3, true}, {6, 99, 1, 1}}};
}

inline StepResult sample_step_result() {
  StepResult m{9, 1234567, {}, {}, {0.010, 0.002, 0.0005, 0.0001, 0.004}};
  m.rows.push_back({5, 77, 4711, -0.25f, {{4711, -0.25f}, {12, -1.5f}}});
  m.rows.push_back({6, 78, 0, -3.5f, {}});
  m.rows.push_back({7, 79, 0, 0, {}, true});
  m.scores.push_back(
      {5, 77, 1, {{-0.5f, {{3, -0.25f}, {1, -0.5f}}}, {-2, {}}, {-1, {{9, -1}}}}, false});
  m.scores.push_back({8, 80, 4000000, {{0, {}}}, true});
  return m;
}

// One of each kind, in the variant's order.
inline std::vector<ToCoordinator> messages_of_workers() {
  Hello hello;
  hello.build = "shoal 0.1.0";
  hello.incarnation = 0x123456789abcdef0ull;
  hello.name = "worker-0";
  hello.host_id = "boot-id";
  hello.host_name = "rack1";
  hello.device_kind = "cpu";
  hello.device = "8 cores, AVX2";
  hello.memory_bytes = 24ull << 30;
  hello.held_bytes = 5ull << 30;
  hello.threads = 8;
  hello.data_address = "10.0.0.2";
  hello.model_digest = "xxh3:0123456789abcdef";
  hello.arithmetic = "cpu avx2";
  hello.pid = 4242;
  hello.newest_epoch = 8;
  hello.settings_id = 0xfedcba9876543211ull;
  return {hello,
          LoadProgress{9, 5ull << 32, 6ull << 32},
          Ready{9, 20ull << 30, 3ull << 30, 1ull << 20, 12.5},
          Failed{9, true, "model.gguf: no such file", FailureKind::kFile},
          sample_step_result(),
          WorkerHeartbeat{9, 1234567, 21ull << 30, true},
          ExpertLoad{9, 2, {5, 1ull << 40, 0, 7}},
          Goodbye{"stopped"},
          ModelChanged{9},
          StoreSet{9, "rank0/address", std::string("\0\xff raw", 6)},
          StoreGet{9, "rank0/address"}};
}

inline std::vector<ToWorker> messages_of_coordinators() {
  return {sample_assign(),
          sample_step(),
          CoordinatorHeartbeat{9},
          Abort{9, "rank 2 is silent"},
          Refused{"protocol version 2; this coordinator speaks 1"},
          Shutdown{"drained"},
          Settings{4, {0, 1, 7}, "cuda:3"},
          StoreSet{9, "rank0/address", std::string("\0\xff raw", 6)}};
}

inline Hello sample_hello() { return std::get<Hello>(messages_of_workers()[0]); }

// A message of either side as what it is sent as; StoreSet, which both send, as a coordinator's.
template <class M>
auto as_sent(const M& message) {
  if constexpr (std::is_constructible_v<ToWorker, M>) {
    return ToWorker(message);
  } else {
    return ToCoordinator(message);
  }
}

// `call` with every sample of either side.
template <class Call>
void for_each_message(const Call& call) {
  for (const ToCoordinator& message : messages_of_workers()) call(message);
  for (const ToWorker& message : messages_of_coordinators()) call(message);
}

// A step of `rows` decode rows in steady state: nothing new, nothing ended.
inline Step decode_step(uint32_t rows) {
  Step step;
  step.epoch = 1u << 20;
  step.step = 1ull << 40;
  for (uint32_t i = 0; i < rows; ++i)
    step.rows.push_back({kMaxSlots - 1 - i, 1000000 + i, 1, 1});
  return step;
}

}  // namespace shoal::wire::testing
