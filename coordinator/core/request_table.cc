#include "coordinator/core/request_table.h"

#include <algorithm>

namespace shoal {

Request& RequestTable::add(RequestId id, GenerationRequest request, TimePoint now) {
  auto owned = std::make_unique<Request>();
  Request& added = *owned;
  added.id = id;
  added.order = ++last_order_;
  added.prompt_tokens = static_cast<uint32_t>(request.prompt.size());
  added.tokens = std::move(request.prompt);
  added.sampling = std::move(request.sampling);
  added.seed = request.seed;
  added.choice = request.choice;
  added.max_tokens = request.max_tokens;
  added.stop_tokens = std::move(request.stop_tokens);
  added.ignore_eos = request.ignore_eos;
  added.scored = request.score_prompt ? 1 : added.prompt_tokens;
  added.kv.scope = std::move(request.cache_scope);
  added.arrived = now;
  const bool is_new = requests_.emplace(id, std::move(owned)).second;
  SHOAL_CHECK(is_new, "request id used twice");
  waiting_.emplace(added.order, &added);
  waiting_tokens_ += added.tokens.size();
  return added;
}

Request* RequestTable::find(RequestId id) {
  const auto it = requests_.find(id);
  return it == requests_.end() ? nullptr : it->second.get();
}

void RequestTable::unlink(Request& request) {
  switch (request.state) {
    case RequestState::kWaiting:
      waiting_.erase(request.order);
      waiting_tokens_ -= request.tokens.size();
      break;
    case RequestState::kPreempted:
      preempted_.erase(request.order);
      break;
    case RequestState::kRunning:
      running_.erase(request.admission);
      break;
  }
}

void RequestTable::erase(Request& request) {
  unlink(request);
  requests_.erase(request.id);
}

Request* RequestTable::next_to_start() const {
  if (!preempted_.empty()) return preempted_.begin()->second;
  return waiting_.empty() ? nullptr : waiting_.begin()->second;
}

void RequestTable::start(Request& request) {
  SHOAL_CHECK(request.state != RequestState::kRunning, "a running request cannot start");
  unlink(request);
  request.state = RequestState::kRunning;
  request.admission = ++last_admission_;
  request.scheduled = 0;
  running_.emplace(request.admission, &request);
}

void RequestTable::preempt(Request& request) {
  SHOAL_CHECK(request.state == RequestState::kRunning, "only a running request can be preempted");
  unlink(request);
  request.state = RequestState::kPreempted;
  request.scheduled = 0;
  request.kv.tables.clear();
  ++request.preemptions;
  preempted_.emplace(request.order, &request);
}

std::vector<Request*> RequestTable::all() const {
  std::vector<Request*> out;
  out.reserve(requests_.size());
  for (const auto& [id, request] : requests_) out.push_back(request.get());
  std::sort(out.begin(), out.end(),
            [](const Request* a, const Request* b) { return a->order < b->order; });
  return out;
}

void RequestTable::check_invariants() const {
  SHOAL_CHECK(waiting_.size() + preempted_.size() + running_.size() == requests_.size(),
              "a request is in no queue or in two");
  uint64_t tokens = 0;
  for (const auto& [order, request] : waiting_) {
    SHOAL_CHECK(request->state == RequestState::kWaiting && request->order == order,
                "a waiting request says it does not wait");
    SHOAL_CHECK(request->samples_in_flight == 0 && request->scores_in_flight == 0 &&
                    request->emitted() == 0 && request->kv.tables.empty(),
                "a waiting request holds something");
    tokens += request->tokens.size();
  }
  SHOAL_CHECK(tokens == waiting_tokens_, "waiting tokens do not add up");
  for (const auto& [order, request] : preempted_) {
    SHOAL_CHECK(request->state == RequestState::kPreempted && request->order == order &&
                    request->kv.tables.empty(),
                "a preempted request holds blocks");
  }
  for (const auto& [admission, request] : running_) {
    SHOAL_CHECK(request->state == RequestState::kRunning && request->admission == admission,
                "a running request says it does not run");
    SHOAL_CHECK(request->emitted() + request->samples_in_flight <= request->max_tokens,
                "more samples than the request asked for");
    SHOAL_CHECK(request->scheduled <= request->length(), "rows beyond the end of a request");
    SHOAL_CHECK(request->scored >= 1 && request->scored <= request->prompt_tokens,
                "scores of other tokens than the prompt's");
  }
}

}  // namespace shoal
