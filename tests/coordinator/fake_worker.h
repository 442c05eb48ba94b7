// A worker without a model: the real one's core (worker/core) around a fake device. That keeps
// slots, block tables and K/V caches exactly as the wire protocol says, refuses every step a real
// one would refuse, and "samples" a hash of the sequence.
// Every cell of its caches remembers the whole prefix it was computed from; every row checks all
// the cells it would read, in every KV group: a wrong, lost, overwritten or falsely shared block is
// a violation.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "base/clock.h"
#include "base/rng.h"
#include "coordinator/core/prefix_cache.h"
#include "wire/link.h"
#include "worker/core/worker_core.h"

namespace shoal::testing {

struct FakeModel {
  int32_t vocab = 1000;
  int32_t end_token = 7;
  int32_t poison = -1;    // a sequence that holds this token has no finite logit
  uint32_t end_odds = 0;  // one sample in this many is the end token; 0: only by chance
  std::vector<KvRule> rules = {KvRule{}};  // what rows see, by KV group

  int32_t sample(uint64_t seed, const std::vector<int32_t>& tokens) const;
  // Of the last of `tokens`, after the others.
  float logprob(std::span<const int32_t> tokens) const;
  // What a client must see: up to `max_tokens` tokens, the end token included if it comes.
  std::vector<int32_t> expected(std::vector<int32_t> prompt, uint64_t seed, uint32_t max_tokens,
                                bool ignore_end = false) const;
};

struct FakeWorkerOptions {
  std::string name = "w0";
  std::string host = "host0";
  std::string data_address = "10.0.0.1";
  uint64_t incarnation = 1;
  uint32_t protocol_version = wire::kProtocolVersion;
  int64_t pid = 100;
  Duration load_time = std::chrono::milliseconds(100);
  Duration min_step{}, max_step = std::chrono::milliseconds(1);
  Duration heartbeat = std::chrono::milliseconds(250);
  std::string fail_load;  // a permanent failure with this message …
  wire::FailureKind fail_kind = wire::FailureKind::kOther;  // … of this kind
  uint64_t seen_epoch = 0;                                  // of another coordinator
  uint64_t memory_bytes = uint64_t{1} << 30;
};

class FakeWorker {
 public:
  FakeWorker(const FakeWorkerOptions& options, const FakeModel& model, wire::WorkerLink& link,
             const Clock& clock, uint64_t seed);

  // Takes what has arrived and does what is due.
  void turn();
  std::optional<TimePoint> next_due() const;

  void poison(int32_t token) { model_.poison = token; }
  void stop() { tell(worker::Stop{}); }
  void set_hung(bool hung) { hung_ = hung; }          // computes nothing; heartbeats go on
  void see_epoch(uint64_t epoch);                     // of another coordinator's plan
  void set_frozen(bool frozen) { frozen_ = frozen; }  // as after SIGSTOP
  void say_model_changed() { send(wire::ModelChanged{epoch()}); }
  void set_fail_load(const std::string& message) { fail_load_ = message; }
  void fail_next_step(const std::string& message) { fail_step_ = message; }
  void set_step_time(Duration low, Duration high) { min_step_ = low, max_step_ = high; }

  bool exited() const { return exited_; }
  const std::string& exit_reason() const { return exit_reason_; }
  uint64_t epoch() const { return core_.newest_epoch(); }
  const wire::Assign& plan() const { return plan_; }
  uint64_t steps_run() const { return steps_run_; }
  uint64_t loads() const { return loads_; }  // of weights; keeping them is none
  size_t slots_used() const { return slots_.size(); }
  uint64_t rows_run() const { return rows_run_; }
  // Sequences, by seed, of which one read what the other had written: {writer, reader}.
  const std::set<std::pair<uint64_t, uint64_t>>& shared() const { return shared_; }
  // The first step a real worker would have refused, or empty.
  const std::string& violation() const { return violation_; }

 private:
  struct Slot {
    wire::NewSequence start;
    std::vector<int32_t> tokens;
    std::vector<uint64_t> prefixes;             // of the tokens up to and with each position
    std::vector<std::vector<uint32_t>> blocks;  // [groups]
    uint32_t end = 0;                           // of the newest row
  };
  struct Cell {           // one position in one group
    uint64_t prefix = 0;  // of which it was computed
    uint64_t seed = 0;    // of the sequence that wrote it
    uint64_t step = 0;
  };

  void tell(const worker::Event& event);  // the core; and does what it says
  void perform(worker::Action& action);
  void introduce(uint64_t newest_epoch);
  void begin();  // the next job, if there is one
  void work(TimePoint now);
  void load(const wire::Assign& plan);
  void compute(const wire::Step& step);
  std::string apply(const wire::Step& step);
  std::string append(const wire::BlockAppend& append);
  std::string run_rows(const wire::RowGroup& rows, wire::StepResult& result);
  std::string cover(Slot& slot, uint32_t begin, uint64_t end);
  std::string draw(const wire::RowGroup& rows, Slot& slot, wire::StepResult& result);
  std::string score(const wire::RowGroup& rows, const Slot& slot, wire::StepResult& result);
  std::string write(uint32_t group, uint32_t position, uint32_t slot);
  std::string read(uint32_t group, uint32_t position, uint32_t slot);
  // The cell of a position, or null: it has no block.
  Cell* cell(uint32_t group, uint32_t position, const Slot& slot);
  void send(const wire::ToCoordinator& message);
  Duration draw_step_time();

  const FakeWorkerOptions options_;
  FakeModel model_;
  wire::WorkerLink& link_;
  const Clock& clock_;
  Rng rng_;
  Duration min_step_, max_step_;

  worker::Core core_;
  bool exited_ = false, hung_ = false, frozen_ = false;
  std::string exit_reason_, fail_load_, fail_step_, violation_;
  TimePoint last_turn_{};
  wire::Assign plan_;  // the newest
  int loaded_rank_ = -1;
  uint64_t loads_ = 0, steps_run_ = 0, rows_run_ = 0, last_step_ = 0;
  std::deque<std::variant<worker::Load, worker::Compute>> jobs_;  // the first is under way
  std::optional<TimePoint> due_;                                  // its end
  std::map<uint32_t, Slot> slots_;
  std::vector<std::vector<Cell>> caches_;  // [groups][kv_blocks · block_tokens]
  std::set<std::pair<uint64_t, uint64_t>> shared_;
};

}  // namespace shoal::testing
