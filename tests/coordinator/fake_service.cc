#include "tests/coordinator/fake_service.h"

#include <chrono>

#include "tests/coordinator/gateway_fakes.h"

namespace shoal::gateway::testing {

Script text_script(const std::string& text) {
  Script script;
  script.tokens = bytes_of(text);
  script.stop_token = kEos;
  return script;
}

FakeService::FakeService() {
  script_ = [](const GenerationRequest&) { return text_script("Hello world!"); };
  state_.ready = true;
  thread_ = std::thread([this] { run(); });
}

FakeService::~FakeService() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  thread_.join();
}

Result<RequestId> FakeService::submit(GenerationRequest request, std::shared_ptr<TokenSink> sink) {
  const std::lock_guard lock(mutex_);
  if (refuse_after_ == 0) return refusal_;
  if (refuse_after_ != SIZE_MAX) --refuse_after_;
  auto active = std::make_shared<Active>();
  active->script = script_(request);
  requests_.push_back(request);
  active->request = std::move(request);
  active->sink = std::move(sink);
  active_[next_id_] = std::move(active);
  return next_id_++;
}

void FakeService::cancel(RequestId id) {
  const std::lock_guard lock(mutex_);
  const auto found = active_.find(id);
  if (found == active_.end() || found->second->cancelled) return;
  found->second->cancelled = true;
  ++cancelled_;
}

bool FakeService::advance(Active& active) {
  const Script& script = active.script;
  FinishEvent finish;
  finish.cached_prompt_tokens = script.cached_tokens;
  if (active.cancelled) {
    finish.reason = FinishReason::kCancelled;
    active.sink->on_finish(finish);
    return false;
  }
  if (failing_) {
    finish.reason = FinishReason::kError;
    finish.error = failure_;
    active.sink->on_finish(finish);
    return false;
  }
  if (script.hold && !held_released_) return true;
  if (active.request.score_prompt && active.scored < active.request.prompt.size()) {
    PromptEvent event;
    event.position = static_cast<uint32_t>(active.scored);
    const size_t end = std::min(active.scored + 3, active.request.prompt.size());
    for (; active.scored < end; ++active.scored) {
      const auto logprob = -static_cast<float>(active.scored);
      wire::ScoredToken& token = event.tokens.emplace_back(wire::ScoredToken{logprob, {}});
      for (int32_t i = 0; i < active.request.sampling.top_logprobs; ++i) {
        token.top.push_back({'a' + i, logprob - static_cast<float>(i)});
      }
    }
    active.sink->on_prompt(event);
    return true;
  }
  if (active.sent >= active.request.max_tokens) {
    finish.reason = FinishReason::kLength;
    active.sink->on_finish(finish);
    return false;
  }
  TokenEvent event;
  event.logprob = -0.25f;
  if (active.sent < script.tokens.size() || script.endless) {
    event.token = script.tokens[active.sent % script.tokens.size()];
    for (int32_t i = 0; i < active.request.sampling.top_logprobs; ++i) {
      event.top.push_back({(event.token + i) % 256, -0.25f - static_cast<float>(i)});
    }
    ++active.sent;
    active.sink->on_token(event);
    return true;
  }
  if (script.finish == FinishReason::kStop && script.stop_token >= 0) {
    event.token = finish.stop_token = script.stop_token;
    event.is_stop = true;
    active.sink->on_token(event);
  }
  finish.reason = script.finish;
  finish.error = script.error;
  active.sink->on_finish(finish);
  return false;
}

void FakeService::run() {
  while (true) {
    std::vector<std::pair<RequestId, std::shared_ptr<Active>>> turn_of;
    {
      const std::lock_guard lock(mutex_);
      if (stop_) return;
      turn_of.assign(active_.begin(), active_.end());
    }
    for (auto& [id, active] : turn_of) {
      if (advance(*active)) continue;
      const std::lock_guard lock(mutex_);
      active_.erase(id);
      changed_.notify_all();
    }
    turn_of.clear();
    std::this_thread::sleep_for(turn.load());
  }
}

ServiceState FakeService::state() const {
  const std::lock_guard lock(mutex_);
  ServiceState out = state_;
  out.running = active_.size();
  return out;
}

void FakeService::drain() {
  const std::lock_guard lock(mutex_);
  state_.draining = true;
}

void FakeService::set_script(std::function<Script(const GenerationRequest&)> script) {
  const std::lock_guard lock(mutex_);
  script_ = std::move(script);
}
void FakeService::set_state(const ServiceState& state) {
  const std::lock_guard lock(mutex_);
  state_ = state;
}
void FakeService::refuse_after(size_t submissions, Status status) {
  const std::lock_guard lock(mutex_);
  refuse_after_ = submissions;
  refusal_ = std::move(status);
}
void FakeService::accept_all() {
  const std::lock_guard lock(mutex_);
  refuse_after_ = SIZE_MAX;
}
void FakeService::release_held() { held_released_ = true; }
void FakeService::fail_all(Status status) {
  failure_ = std::move(status);
  failing_ = true;
}
size_t FakeService::active() const {
  const std::lock_guard lock(mutex_);
  return active_.size();
}
size_t FakeService::submitted() const {
  const std::lock_guard lock(mutex_);
  return requests_.size();
}
size_t FakeService::cancelled() const {
  const std::lock_guard lock(mutex_);
  return cancelled_;
}
std::vector<GenerationRequest> FakeService::requests() const {
  const std::lock_guard lock(mutex_);
  return requests_;
}
bool FakeService::wait_idle() const {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, kPatience, [&] { return active_.empty(); });
}

}  // namespace shoal::gateway::testing
