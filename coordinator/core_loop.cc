#include "coordinator/core_loop.h"

#include <pthread.h>

#include <fmt/core.h>

#include "base/log.h"

namespace shoal {
namespace {

// Messages taken in one turn, so that a flood delays deadlines and submissions only so much.
constexpr int kMaxMessagesPerTurn = 256;
// The list of workers is copied this often; the counters on every turn.
constexpr Duration kFullStateInterval = std::chrono::milliseconds(50);

}  // namespace

CoreLoop::CoreLoop(CoreLoopOptions options, wire::CoordinatorLink& link, CoreObserver& observer,
                   const Clock& clock)
    : options_(std::move(options)),
      link_(link),
      observer_(observer),
      clock_(clock),
      last_turn_(clock.now()),
      core_(options_.core, observer),
      view_(core_.admission()),
      state_(core_.state(clock.now())) {}

CoreLoop::~CoreLoop() { stop("the coordinator is shutting down"); }

void CoreLoop::start() {
  SHOAL_CHECK(!thread_.joinable() && !stopping_.load(), "a core starts once");
  thread_ = std::thread([this] { run(); });
}

void CoreLoop::stop(const std::string& reason) {
  {
    std::lock_guard lock(mutex_);
    if (closed_) return;
    closed_ = true;
    rare_events_.push_back(StopEvent{reason});
  }
  stopping_.store(true);
  link_.wake();
  if (thread_.joinable()) thread_.join();
}

Result<RequestId> CoreLoop::submit(GenerationRequest request, std::shared_ptr<TokenSink> sink) {
  RequestId id = 0;
  {
    std::lock_guard lock(mutex_);
    AdmissionView view = view_;
    view.waiting += pending_requests_;
    view.waiting_tokens += pending_tokens_;
    view.draining = draining_ || closed_;
    if (Status status = check_admission(view, request); !status) {
      observer_.request_rejected(rejection_reason(status));
      return status;
    }
    id = ++last_id_;
    ++pending_requests_;
    pending_tokens_ += request.prompt.size();
    submissions_.push_back({SubmitEvent{id, std::move(request)}, std::move(sink)});
  }
  link_.wake();
  return id;
}

void CoreLoop::cancel(RequestId id) {
  {
    std::lock_guard lock(mutex_);
    if (closed_ || id > last_id_) return;
    cancels_.insert(id);
  }
  link_.wake();
}

void CoreLoop::drain() {
  {
    std::lock_guard lock(mutex_);
    if (draining_ || closed_) return;
    draining_ = true;
    rare_events_.push_back(DrainEvent{});
  }
  link_.wake();
}

void CoreLoop::worker_died(const std::string& name, int64_t pid, const std::string& reason) {
  {
    std::lock_guard lock(mutex_);
    if (closed_) return;
    rare_events_.push_back(WorkerDiedEvent{name, pid, reason});
  }
  link_.wake();
}

ServiceState CoreLoop::state() const {
  const TimePoint now = clock_.now();
  ServiceState state;
  {
    std::lock_guard lock(mutex_);
    state = state_;
    state.draining = draining_ || closed_;
    state.waiting += pending_requests_;
  }
  state.seconds_since_loop = to_seconds(now - last_turn_.load());
  state.control = link_.counters();
  if (state.ready || !options_.supervision) return state;
  if (const std::string text = options_.supervision(); !text.empty()) {
    if (!state.not_ready_reason.empty()) state.not_ready_reason += "; ";
    state.not_ready_reason += text;
  }
  return state;
}

void CoreLoop::run() {
  ::pthread_setname_np(::pthread_self(), "core");
  while (!stopping_.load()) turn();
  handle(collect());  // the last submissions, and the StopEvent that ends them
  publish(clock_.now());
  SHOAL_CHECK(sinks_.empty(), "a request was left without an end");
}

void CoreLoop::turn() {
  std::vector<Event> events = collect();
  receive(events, events.empty() ? options_.tick : Duration::zero());
  const TimePoint now = clock_.now();
  if (now - last_tick_ >= options_.tick) {
    last_tick_ = now;
    events.push_back(TickEvent{});
  }
  handle(std::move(events));
  publish(now);
  last_turn_.store(clock_.now());
}

std::vector<Event> CoreLoop::collect() {
  std::vector<Event> events;
  std::lock_guard lock(mutex_);
  for (Submission& submission : submissions_) {
    sinks_.emplace(submission.event.id, std::move(submission.sink));
    events.push_back(std::move(submission.event));
  }
  submissions_.clear();
  for (const RequestId id : cancels_) events.push_back(CancelEvent{id});
  cancels_.clear();
  for (Event& event : rare_events_) events.push_back(std::move(event));
  rare_events_.clear();
  return events;
}

void CoreLoop::receive(std::vector<Event>& events, Duration timeout) {
  for (int i = 0; i < kMaxMessagesPerTurn; ++i) {
    auto incoming = link_.receive(i == 0 ? timeout : Duration::zero());
    // What broke did so before this message came: it may be of the process that takes the place.
    while (auto peer = link_.next_disconnected()) events.push_back(DisconnectedEvent{*peer});
    if (!incoming) break;
    events.push_back(std::move(*incoming));
  }
}

void CoreLoop::handle(std::vector<Event> events) {
  // A send that fails makes an event of its own; each takes a peer away, so this ends.
  while (!events.empty()) {
    std::vector<Event> follow_up;
    const TimePoint now = clock_.now();
    Actions actions = core_.handle(events, now);
    // First the state, then what clients hear: whoever is told of a lost group must not read
    // "ready".
    publish(now);
    for (Action& action : actions) perform(action, follow_up);
    events = std::move(follow_up);
  }
}

void CoreLoop::perform(Action& action, std::vector<Event>& follow_up) {
  if (const auto* message = std::get_if<SendAction>(&action)) {
    send(*message, follow_up);
  } else if (const auto* accepted = std::get_if<AcceptAction>(&action)) {
    link_.accept(accepted->peer);
  } else if (const auto* prompt = std::get_if<PromptAction>(&action)) {
    tell(prompt->id, [&] { sinks_.at(prompt->id)->on_prompt(prompt->event); });
  } else if (const auto* token = std::get_if<TokenAction>(&action)) {
    tell(token->id, [&] { sinks_.at(token->id)->on_token(token->event); });
  } else if (const auto* finish = std::get_if<FinishAction>(&action)) {
    const auto sink = sinks_.extract(finish->id);
    tell(finish->id, [&] { sink.mapped()->on_finish(finish->event); });
  } else if (const auto* lost = std::get_if<WorkerLostAction>(&action)) {
    if (options_.on_worker_lost) options_.on_worker_lost(*lost);
  } else if (const auto* line = std::get_if<LogAction>(&action)) {
    log(line->level, line->text);
  }
}

// A sink that throws (no memory for the event) costs its own request only.
template <class Call>
void CoreLoop::tell(RequestId id, const Call& call) {
  try {
    call();
  } catch (const std::exception& error) {
    log_error(fmt::format("a request is cancelled, its answer failed within the server: {}",
                          error.what()));
    cancel(id);
  }
}

void CoreLoop::send(const SendAction& action, std::vector<Event>& follow_up) {
  const std::vector<Status> sent = link_.send(action.peers, action.message);
  // A heartbeat that does not fit can be missed; anything else is needed, in order.
  const bool is_heartbeat = std::holds_alternative<wire::CoordinatorHeartbeat>(action.message);
  for (size_t i = 0; i < sent.size(); ++i) {
    if (sent[i] || (is_heartbeat && sent[i].code() == Code::kResourceExhausted)) continue;
    follow_up.push_back(
        PeerGoneEvent{action.peers[i], "it cannot be reached: " + sent[i].message()});
  }
}

void CoreLoop::publish(TimePoint now) {
  AdmissionView view = core_.admission();
  std::lock_guard lock(mutex_);
  pending_requests_ = submissions_.size();
  pending_tokens_ = 0;
  for (const Submission& s : submissions_) pending_tokens_ += s.event.request.prompt.size();
  if (view.ready != view_.ready || now - last_full_state_ >= kFullStateInterval) {
    last_full_state_ = now;
    state_ = core_.state(now);
  } else {
    core_.update_counters(state_);
  }
  view_ = std::move(view);
}

}  // namespace shoal
