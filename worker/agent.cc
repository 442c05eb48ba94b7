#include "worker/agent.h"

#include <unistd.h>

#include <thread>

#include <fmt/core.h>

#include "base/log.h"
#include "base/quote.h"
#include "base/rng.h"
#include "worker/host_info.h"

namespace shoal {
namespace {

// Steps the coordinator may have in flight (two), plans, and room for both to be late.
constexpr size_t kQueuedJobs = 64;

bool may_be_tried_again(const Status& error) {
  return error.code() == Code::kUnavailable || error.code() == Code::kDeadlineExceeded ||
         error.code() == Code::kCancelled;
}

wire::FailureKind kind_of(const Status& error, bool load_failed) {
  if (error.code() == Code::kResourceExhausted) return wire::FailureKind::kMemory;
  if (load_failed && !may_be_tried_again(error)) return wire::FailureKind::kFile;
  return wire::FailureKind::kOther;
}

}  // namespace

Agent::Agent(const AgentOptions& options, wire::WorkerLink& link, Device& device)
    : options_(options),
      link_(link),
      device_(device),
      incarnation_(options.incarnation != 0 ? options.incarnation : random_seed()),
      store_(link),
      rank_(device),
      jobs_(kQueuedJobs) {}

Agent::~Agent() { jobs_.close(); }

void Agent::say_hello() {
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
  hello.newest_epoch = epoch_.load();
  hello.settings_id = options_.settings_id;
  if (Status status = link_.send(hello); !status) log_debug("hello not sent: " + status.message());
}

void Agent::heartbeat_if_due(TimePoint now) {
  if (now - last_heartbeat_ < options_.heartbeat) return;
  last_heartbeat_ = now;
  if (!welcome_) {
    say_hello();
    return;
  }
  wire::WorkerHeartbeat beat;
  beat.epoch = epoch_.load();
  beat.last_step = last_step_.load();
  beat.resident_bytes = resident_bytes();
  beat.busy = unfinished_.load() > 0;
  (void)link_.send(beat);  // a lost heartbeat is what the coordinator's deadline is for
}

void Agent::report_progress(TimePoint now) {
  if (!loading_.load() || now - last_progress_ < std::chrono::milliseconds(200)) return;
  last_progress_ = now;
  (void)link_.send(wire::LoadProgress{epoch_.load(), bytes_done_.load(), bytes_total_.load()});
}

// Control thread: it goes on while a load fails or another is on its way.
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

void Agent::give_up(const std::string& reason) {
  const uint64_t epoch = epoch_.load();
  stop_loading_.store(true);
  store_.cancel();
  rank_.abort(epoch, reason);
}

void Agent::handle(const wire::Assign& plan) {
  if (plan.epoch <= epoch_.load()) {
    // Of a coordinator that has not heard what this worker has seen: the next heartbeat says so.
    log_warn(fmt::format("dropped plan epoch {}: epoch {} is the newest seen here", plan.epoch,
                         epoch_.load()));
    last_heartbeat_ = {};
    return;
  }
  give_up(fmt::format("plan epoch {} replaces {}", plan.epoch, epoch_.load()));
  epoch_.store(plan.epoch);
  last_step_.store(0);
  store_.begin_epoch(plan.epoch);
  if (!give(plan)) report_failure(plan.epoch, unavailable("the worker's job queue is full"));
}

void Agent::handle(const wire::Step& step) {
  if (step.epoch != epoch_.load()) return;
  if (!give(step)) report_failure(step.epoch, unavailable("too many steps in flight"));
}

// Counted until it is done: a compute thread that hangs before it takes a job is as busy as one
// that hangs within.
bool Agent::give(Job job) {
  ++unfinished_;
  const bool taken = jobs_.try_push(std::move(job));
  if (!taken) --unfinished_;
  return taken;
}

void Agent::handle(const wire::StoreSet& value) { store_.deliver(value); }

// Its arrival is what it says.
void Agent::handle(const wire::CoordinatorHeartbeat&) {}

void Agent::handle(const wire::Abort& abort) {
  if (abort.epoch == epoch_.load()) give_up(abort.reason);
}

void Agent::handle(const wire::Refused& refused) {
  result_ = failed_precondition("the coordinator refused this worker: " +
                                bounded_message(refused.reason));
  ended_ = true;
}

void Agent::handle(const wire::Settings& settings) {
  // Hellos sent before this agent began bring more than one answer.
  if (wire::settings_id(settings) == options_.settings_id) return;
  new_settings_ = settings;
  ended_ = true;
}

void Agent::handle(const wire::Shutdown& shutdown) {
  log_info("shutting down: " + excerpt(shutdown.reason));
  ended_ = true;
}

Status Agent::run() {
  std::thread compute([this] { compute_loop(); });
  while (!stopping_.load() && !ended_) {
    const TimePoint now = std::chrono::steady_clock::now();
    if (welcome_ && observed_.advance(now) - heard_ > options_.coordinator_silence) {
      log_warn("the coordinator is silent; keeping the weights and introducing myself again");
      give_up("the coordinator is silent");
      welcome_ = false;
    }
    heartbeat_if_due(now);
    report_progress(now);
    report_changed_files(now);
    const auto message = link_.receive(std::chrono::milliseconds(50));
    if (!message) continue;
    heard_ = observed_.advance(std::chrono::steady_clock::now());
    welcome_ = true;
    std::visit([this](const auto& m) { handle(m); }, *message);
  }
  stopping_.store(true);
  if (device_lost_.load()) result_ = unavailable("the device is lost to this process; it ends");
  if (!new_settings_)
    (void)link_.send(wire::Goodbye{result_.is_ok() ? "stopped" : result_.message()});
  give_up("the worker stops");
  jobs_.close();
  join(compute);
  return result_;
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
  while (!stopping_.load()) {
    auto job = jobs_.pop(std::chrono::milliseconds(100));
    report_experts();
    if (!job) continue;
    if (const auto* plan = std::get_if<wire::Assign>(&*job)) {
      take_plan(*plan);
    } else {
      run_step(std::get<wire::Step>(*job));
    }
    --unfinished_;
  }
  rank_.leave();
  std::lock_guard lock(done_mutex_);
  compute_done_ = true;
  done_changed_.notify_all();
}

void Agent::take_plan(const wire::Assign& plan) {
  if (plan.epoch != epoch_.load()) return;
  bytes_done_.store(0);
  bytes_total_.store(0);
  stop_loading_.store(false);
  // The newest plan may have arrived between the check and the reset above.
  if (plan.epoch != epoch_.load()) return;
  loading_.store(true);
  Rank::FormOptions options;
  options.load = {.threads = options_.load_threads,
                  .bytes_done = &bytes_done_,
                  .bytes_total = &bytes_total_,
                  .stop = &stop_loading_};
  options.store = &store_;
  options.data_address = options_.data_address;
  const std::vector<std::string> files = model_files(plan.model_path);
  const std::vector<FileStamp> seen = stamp_files(files);
  watch_files(plan.epoch, {}, {});
  auto ready = rank_.form(plan, options);
  loading_.store(false);
  if (!ready) {
    const wire::FailureKind kind = kind_of(ready.status(), rank_.load_failed());
    if (kind == wire::FailureKind::kFile) watch_files(plan.epoch, files, seen);
    return failed(plan.epoch, ready.status(), kind);
  }
  log_info(fmt::format("rank {}/{} ready: {:.2f} GiB of weights, {:.2f} GiB of KV cache, {:.1f} s",
                       plan.rank, plan.world, static_cast<double>(ready->weight_bytes) / (1 << 30),
                       static_cast<double>(ready->kv_bytes) / (1 << 30), ready->load_seconds));
  (void)link_.send(*ready);
}

void Agent::run_step(const wire::Step& step) {
  if (step.epoch != epoch_.load()) return;
  auto result = rank_.run(step);
  if (!result) {
    rank_.leave();
    return failed(step.epoch, result.status().annotate(fmt::format("step {}", step.step)));
  }
  last_step_.store(step.step);
  if (Status sent = link_.send(*result); !sent) {
    // A result the validator refuses will never arrive: say so now. Not permanent: the request that
    // causes it runs into its own limit, the others go on.
    if (sent.code() == Code::kInvalidArgument) {
      return report_failure(step.epoch,
                            unavailable(fmt::format("step {}: {}", step.step, sent.message())));
    }
    log_warn(fmt::format("result of step {} not sent: {}", step.step, sent.message()));
  }
}

void Agent::report_experts() {
  const TimePoint now = std::chrono::steady_clock::now();
  if (now - last_expert_report_ < kExpertReport) return;
  last_expert_report_ = now;
  const auto load = rank_.expert_load();
  if (!load || load->epoch != epoch_.load()) return;
  if (load->epoch == reported_epoch_ && load->tokens == reported_experts_) return;
  if (!link_.send(*load)) return;  // cumulative: the next one makes up for a lost one
  reported_epoch_ = load->epoch;
  reported_experts_ = load->tokens;
}

// A process that has lost its device can only make room for another.
void Agent::failed(uint64_t epoch, const Status& error, wire::FailureKind kind) {
  report_failure(epoch, error, kind);
  if (!device_.lost()) return;
  device_lost_.store(true);
  stopping_.store(true);
}

void Agent::report_failure(uint64_t epoch, const Status& error, wire::FailureKind kind) {
  if (epoch != epoch_.load()) return;  // a newer plan is on its way: nobody waits for this one
  log_error(error.message());
  (void)link_.send(wire::Failed{epoch, !may_be_tried_again(error), error.message(), kind});
}

}  // namespace shoal
