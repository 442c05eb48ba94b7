#include "worker/agent.h"

#include <unistd.h>

#include <fmt/core.h>

#include <chrono>

#include "base/log.h"
#include "base/quote.h"
#include "base/rng.h"
#include "worker/host_info.h"

namespace shoal {
namespace {

constexpr Duration kReceive = std::chrono::milliseconds(50);
constexpr Duration kJobWait = std::chrono::milliseconds(100);

double gib(uint64_t bytes) { return static_cast<double>(bytes) / (1 << 30); }

}  // namespace

Agent::Agent(const AgentOptions& options, wire::WorkerLink& link, Device& device)
    : options_(options),
      link_(link),
      device_(device),
      incarnation_(options.incarnation != 0 ? options.incarnation : random_seed()),
      store_(link),
      rank_(device),
      core_(options.core),
      jobs_(options.core.most_jobs) {}

Agent::~Agent() { jobs_.close(); }

void Agent::dispatch(const worker::Event& event) {
  worker::Actions actions;
  {
    const std::lock_guard lock(core_mutex_);
    actions = core_.handle(event, std::chrono::steady_clock::now());
  }
  for (worker::Action& action : actions) {
    std::visit([this](auto& a) { perform(std::move(a)); }, action);
  }
}

bool Agent::in_force(uint64_t epoch) const {
  const std::lock_guard lock(core_mutex_);
  return core_.in_force(epoch);
}

void Agent::perform(const worker::Introduce& introduce) {
  wire::Hello hello;
  hello.build = options_.build;
  hello.incarnation = incarnation_;
  hello.name = options_.name;
  hello.host_id = host_identity();
  hello.host_name = excerpt(host_name());
  hello.device_kind = options_.device_kind;
  hello.device = excerpt(device_.describe());
  hello.arithmetic = device_.arithmetic();
  hello.memory_bytes = device_.free_memory();
  hello.held_bytes = rank_.held_bytes();
  hello.threads = options_.threads;
  hello.data_address = options_.data_address;
  hello.model_digest = rank_.held_digest();
  hello.pid = ::getpid();
  hello.newest_epoch = introduce.newest_epoch;
  hello.settings_id = options_.core.settings_id;
  if (Status status = link_.send(hello); !status) log_debug("hello not sent: " + status.message());
}

void Agent::perform(const worker::Beat& beat) {
  wire::WorkerHeartbeat heartbeat = beat.heartbeat;
  heartbeat.resident_bytes = resident_bytes();
  (void)link_.send(heartbeat);  // a lost heartbeat is what the coordinator's deadline is for
}

void Agent::perform(const worker::Send& send) {
  const Status sent = link_.send(send.message);
  const auto* result = std::get_if<wire::StepResult>(&send.message);
  if (sent || result == nullptr) return;
  const Status why = sent.annotate(fmt::format("step {}", result->step));
  // A result the validator refuses will never arrive: say so now.
  if (sent.code() == Code::kInvalidArgument) {
    return dispatch(worker::Unsendable{result->epoch, why});
  }
  log_warn("result not sent: " + why.message());
}

// Closed queues take nothing: the agent ends.
void Agent::perform(worker::Load&& load) { (void)jobs_.try_push(std::move(load)); }
void Agent::perform(worker::Compute&& compute) { (void)jobs_.try_push(std::move(compute)); }

void Agent::perform(const worker::Withdraw& withdraw) {
  stop_loading_.store(true);
  store_.cancel(withdraw.epoch);  // late, of a plan that has a successor already: nothing
  rank_.abort(withdraw.epoch, withdraw.reason);
}

void Agent::perform(const worker::OpenStore& open) { store_.begin_epoch(open.epoch); }

void Agent::perform(const worker::Deliver& deliver) { store_.deliver(deliver.value); }

// Compute thread: it has just failed to load.
void Agent::perform(const worker::WatchFiles& watch) {
  watch_files(watch.epoch, plan_files_, plan_stamps_);
}

void Agent::perform(const worker::Log& entry) { log(entry.level, entry.text); }

void Agent::perform(const worker::End& end) {
  {
    const std::lock_guard lock(watch_mutex_);
    end_ = end;
  }
  ended_.store(true);
}

worker::Tick Agent::look() const {
  return {loading_.load(), bytes_done_.load(), bytes_total_.load()};
}

// It goes on while a load fails or another is on its way.
void Agent::report_changed_files(TimePoint now) {
  {
    const std::lock_guard lock(watch_mutex_);
    if (watch_.changed(now)) changed_epoch_ = watched_epoch_;
  }
  if (changed_epoch_ == 0) return;
  if (link_.send(wire::ModelChanged{changed_epoch_})) changed_epoch_ = 0;
}

void Agent::watch_files(uint64_t epoch, std::vector<std::string> files,
                        std::vector<FileStamp> seen) {
  const std::lock_guard lock(watch_mutex_);
  watched_epoch_ = epoch;
  watch_.begin(std::move(files), std::move(seen));
}

Status Agent::run() {
  std::thread compute([this] { compute_loop(); });
  while (!stopping_.load() && !ended_.load()) {
    dispatch(look());
    report_changed_files(std::chrono::steady_clock::now());
    if (auto message = link_.receive(kReceive)) dispatch(std::move(*message));
  }
  if (!ended_.load()) dispatch(worker::Stop{});
  jobs_.close();
  join(compute);
  return end_.status;
}

void Agent::join(std::thread& compute) {
  {
    std::unique_lock lock(done_mutex_);
    const bool done =
        done_changed_.wait_for(lock, options_.stop_grace, [&] { return compute_done_; });
    if (!done && options_.on_hung) {
      log_error("the compute thread does not end; leaving without it");
      options_.on_hung();
    }
  }
  compute.join();
}

void Agent::compute_loop() {
  while (!ended_.load()) {
    const auto job = jobs_.pop(kJobWait);
    report_experts();
    if (job) std::visit([this](const auto& j) { run_job(j); }, *job);
  }
  rank_.leave();
  std::lock_guard lock(done_mutex_);
  compute_done_ = true;
  done_changed_.notify_all();
}

void Agent::run_job(const worker::Load& load) {
  const wire::Assign& plan = load.plan;
  bytes_done_.store(0);
  bytes_total_.store(0);
  stop_loading_.store(false);
  // Withdrawn before, or between the message and the line above.
  if (!in_force(plan.epoch)) return dispatch(worker::Dropped{});
  loading_.store(true);
  Rank::FormOptions options;
  options.load = {.threads = options_.load_threads,
                  .bytes_done = &bytes_done_,
                  .bytes_total = &bytes_total_,
                  .stop = &stop_loading_};
  options.store = &store_;
  options.data_address = options_.data_address;
  plan_files_ = model_files(plan.model_path);
  plan_stamps_ = stamp_files(plan_files_);
  watch_files(plan.epoch, {}, {});
  auto ready = rank_.form(plan, options);
  loading_.store(false);
  if (ready) {
    log_info(fmt::format(
        "rank {}/{} ready: {:.2f} GiB of weights, {:.2f} GiB of KV cache, {:.1f} s", plan.rank,
        plan.world, gib(ready->weight_bytes), gib(ready->kv_bytes), ready->load_seconds));
  }
  const bool failed = !ready;
  dispatch(worker::LoadOver{plan.epoch, std::move(ready), rank_.load_failed(),
                            failed && device_.lost()});
}

void Agent::run_job(const worker::Compute& compute) {
  const wire::Step& step = compute.step;
  if (!in_force(step.epoch)) return dispatch(worker::Dropped{});
  auto result = rank_.run(step);
  if (result) return dispatch(worker::StepOver{step.epoch, std::move(result), false});
  rank_.leave();
  dispatch(worker::StepOver{step.epoch, result.status().annotate(fmt::format("step {}", step.step)),
                            device_.lost()});
}

void Agent::report_experts() {
  const TimePoint now = std::chrono::steady_clock::now();
  if (now - last_expert_report_ < kExpertReport) return;
  last_expert_report_ = now;
  const auto load = rank_.expert_load();
  if (!load || !in_force(load->epoch)) return;
  if (load->epoch == reported_epoch_ && load->tokens == reported_experts_) return;
  if (!link_.send(*load)) return;  // cumulative: the next one makes up for a lost one
  reported_epoch_ = load->epoch;
  reported_experts_ = load->tokens;
}

}  // namespace shoal
