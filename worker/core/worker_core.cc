#include "worker/core/worker_core.h"

#include <fmt/core.h>

#include "base/quote.h"

namespace shoal::worker {
namespace {

bool may_be_tried_again(const Status& error) {
  return error.code() == Code::kUnavailable || error.code() == Code::kDeadlineExceeded ||
         error.code() == Code::kCancelled;
}

wire::FailureKind kind_of(const Status& error, bool at_loading) {
  if (error.code() == Code::kResourceExhausted) return wire::FailureKind::kMemory;
  if (at_loading && !may_be_tried_again(error)) return wire::FailureKind::kFile;
  return wire::FailureKind::kOther;
}

}  // namespace

Actions Core::handle(const Event& event, TimePoint now) {
  Actions out;
  if (!ended_) std::visit([&](const auto& e) { on(e, now, out); }, event);
  return out;
}

void Core::on(const Tick& tick, TimePoint now, Actions& out) {
  if (welcome_ && observed_.advance(now) - heard_ > options_.coordinator_silence) {
    out.push_back(Log{LogLevel::kWarn,
                      "the coordinator is silent; keeping the weights and introducing myself "
                      "again"});
    gave_up_ = in_force_;
    give_up("the coordinator is silent", out);
    welcome_ = false;
  }
  beat_if_due(now, out);
  if (!tick.loading || now - last_progress_ < options_.progress) return;
  last_progress_ = now;
  out.push_back(Send{wire::LoadProgress{epoch_, tick.bytes_done, tick.bytes_total}});
}

void Core::beat_if_due(TimePoint now, Actions& out) {
  if (!beat_now_ && now - last_beat_ < options_.heartbeat) return;
  beat_now_ = false;
  last_beat_ = now;
  if (welcome_) {
    out.push_back(Beat{{epoch_, last_step_, 0, busy()}});
  } else {
    out.push_back(Introduce{epoch_});
  }
}

void Core::on(const wire::ToWorker& message, TimePoint now, Actions& out) {
  heard_ = observed_.advance(now);
  welcome_ = true;
  std::visit([&](const auto& m) { take(m, out); }, message);
}

void Core::take(const wire::Assign& plan, Actions& out) {
  if (plan.epoch <= epoch_) {
    // Of a coordinator that has not heard what this worker has seen: the next heartbeat says so.
    out.push_back(
        Log{LogLevel::kWarn, fmt::format("dropped plan epoch {}: epoch {} is the newest seen here",
                                         plan.epoch, epoch_)});
    beat_now_ = true;
    return;
  }
  give_up(fmt::format("plan epoch {} replaces {}", plan.epoch, epoch_), out);
  epoch_ = plan.epoch;
  in_force_ = true;
  gave_up_ = false;
  last_step_ = 0;
  out.push_back(OpenStore{epoch_});
  if (!has_room()) {
    return fail(epoch_, unavailable("the worker's job queue is full"), wire::FailureKind::kOther,
                out);
  }
  ++jobs_;
  out.push_back(Load{plan});
}

void Core::take(const wire::Step& step, Actions& out) {
  if (step.epoch != epoch_) return;
  if (gave_up_) {
    gave_up_ = false;
    out.push_back(
        Send{wire::Failed{epoch_, false, "the plan was given up while the coordinator was silent",
                          wire::FailureKind::kOther}});
  }
  if (!in_force_) return;
  if (!has_room()) {
    return fail(epoch_, unavailable("too many steps in flight"), wire::FailureKind::kOther, out);
  }
  ++jobs_;
  out.push_back(Compute{step});
}

// Its arrival is what it says.
void Core::take(const wire::CoordinatorHeartbeat&, Actions&) {}

void Core::take(const wire::Abort& abort, Actions& out) {
  if (abort.epoch != epoch_) return;
  gave_up_ = false;
  give_up(abort.reason, out);
}

void Core::take(const wire::Refused& refused, Actions& out) {
  end({failed_precondition("the coordinator refused this worker: " +
                           bounded_message(refused.reason)),
       refused.reason,
       {}},
      out);
}

void Core::take(const wire::Shutdown& shutdown, Actions& out) {
  out.push_back(Log{LogLevel::kInfo, "shutting down: " + excerpt(shutdown.reason)});
  end({Status::ok(), shutdown.reason, {}}, out);
}

void Core::take(const wire::Settings& settings, Actions& out) {
  // Hellos sent before this agent began bring more than one answer.
  if (wire::settings_id(settings) == options_.settings_id) return;
  end({Status::ok(), "other settings", settings}, out);
}

void Core::take(const wire::StoreSet& value, Actions& out) { out.push_back(Deliver{value}); }

void Core::on(const LoadOver& over, TimePoint, Actions& out) {
  --jobs_;
  if (over.ready) {
    if (in_force(over.epoch)) out.push_back(Send{*over.ready});
    return;
  }
  const wire::FailureKind kind = kind_of(over.ready.status(), over.at_loading);
  if (kind == wire::FailureKind::kFile && in_force(over.epoch)) {
    out.push_back(WatchFiles{over.epoch});
  }
  fail(over.epoch, over.ready.status(), kind, out);
  if (over.device_lost) lose_device(out);
}

void Core::on(const StepOver& over, TimePoint, Actions& out) {
  --jobs_;
  if (!over.result) {
    fail(over.epoch, over.result.status(), wire::FailureKind::kOther, out);
    if (over.device_lost) lose_device(out);
    return;
  }
  if (!in_force(over.epoch)) return;
  last_step_ = over.result->step;
  out.push_back(Send{*over.result});
}

void Core::on(const Dropped&, TimePoint, Actions&) { --jobs_; }

// Not permanent: the request that causes it runs into its own limit, the others go on.
void Core::on(const Unsendable& unsendable, TimePoint, Actions& out) {
  fail(unsendable.epoch, unavailable(unsendable.why.message()), wire::FailureKind::kOther, out);
}

void Core::on(const Stop&, TimePoint, Actions& out) {
  end({Status::ok(), "the worker stops", {}}, out);
}

void Core::give_up(const std::string& reason, Actions& out) {
  in_force_ = false;
  out.push_back(Withdraw{epoch_, reason});
}

void Core::fail(uint64_t epoch, const Status& error, wire::FailureKind kind, Actions& out) {
  if (!in_force(epoch)) return;
  out.push_back(Log{LogLevel::kError, error.message()});
  out.push_back(Send{wire::Failed{epoch, !may_be_tried_again(error), error.message(), kind}});
  give_up(error.message(), out);
}

// A process that has lost its device can only make room for another.
void Core::lose_device(Actions& out) {
  end({unavailable("the device is lost to this process; it ends"), "the device is lost", {}}, out);
}

void Core::end(End end, Actions& out) {
  if (!end.settings) {
    out.push_back(Send{wire::Goodbye{end.status.is_ok() ? "stopped" : end.status.message()}});
  }
  give_up("the worker stops", out);
  out.push_back(std::move(end));
  ended_ = true;
}

}  // namespace shoal::worker
