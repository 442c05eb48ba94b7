#include "coordinator/gateway/generation.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace shoal::gateway {
namespace {

// An answer that is not streamed is held in memory and written in one go: at about 100 bytes for
// each log-probability this bounds it to some 50 MB.
constexpr uint64_t kMaxCollectedLogprobs = 1 << 19;

ApiError too_many_logprobs() {
  return invalid_field("logprobs",
                       "the answer holds too many log-probabilities for one body; use \"stream\": "
                       "true, a smaller max_tokens, or fewer 'logprobs'",
                       "answer_too_large");
}

}  // namespace

// Carries events from the core's thread to the connection's.
class ChoiceSink final : public TokenSink {
 public:
  ChoiceSink(std::shared_ptr<Generation> generation, size_t index)
      : generation_(std::move(generation)), index_(index) {}
  void on_prompt(const PromptEvent& event) override {
    generation_->exchange_->post([g = generation_, i = index_, event] { g->on_prompt(i, event); });
  }
  void on_token(const TokenEvent& event) override {
    generation_->exchange_->post([g = generation_, i = index_, event] { g->on_token(i, event); });
  }
  void on_finish(const FinishEvent& event) override {
    generation_->exchange_->post([g = generation_, i = index_, event] { g->on_finish(i, event); });
  }

 private:
  const std::shared_ptr<Generation> generation_;
  const size_t index_;
};

Generation::Generation(TokenService& service, const TextCodec& codec,
                       std::shared_ptr<Exchange> exchange, GenerationPlan plan)
    : service_(service),
      exchange_(std::move(exchange)),
      format_(codec, std::move(plan.head)),
      options_(std::move(plan.options)),
      prompts_(std::move(plan.prompts)),
      echoes_(std::move(plan.echoes)),
      seed_(plan.seed),
      cache_scope_(std::move(plan.cache_scope)),
      silence_(plan.silence) {
  const bool records = options_.logprobs() || options_.return_token_ids;
  for (size_t p = 0; p < prompts_.size(); ++p) {
    prompt_tokens_ += prompts_[p].size();
    std::optional<size_t> echoed;
    if (options_.echo) echoed = echoes_[p].characters();
    for (uint32_t i = 0; i < options_.n; ++i) {
      slots_.emplace_back(Choice(codec, options_.stop, records, echoed));
    }
  }
  unfinished_ = slots_.size();
}

void Generation::start() {
  exchange_->post([self = shared_from_this()] { self->submit_all(); });
}

void Generation::submit_all() {
  exchange_->on_gone([self = shared_from_this()] { self->client_gone(); });
  if (!options_.stream && least_logprobs() > kMaxCollectedLogprobs) fail(too_many_logprobs());
  for (size_t i = 0; i < slots_.size() && !over_; ++i) {
    if (const Status status = submit(i); !status) fail(from_status(status));
  }
  prompts_.clear();
  if (!over_ && options_.stream) {
    exchange_->after(silence_, [self = shared_from_this()] { self->keep_alive(); });
  }
}

Status Generation::submit(size_t index) {
  GenerationRequest request;
  request.prompt = prompts_[index / options_.n];
  request.sampling = options_.sampling;
  request.seed = seed_;
  request.choice = static_cast<uint32_t>(index % options_.n);
  const uint32_t left = service_.context_tokens() - static_cast<uint32_t>(request.prompt.size());
  // Where no token is wanted one is drawn, and dropped.
  request.max_tokens = std::min(left, std::max(1u, options_.max_tokens.value_or(left)));
  request.score_prompt = options_.echo && options_.logprobs();
  request.stop_tokens = options_.stop_token_ids;
  request.ignore_eos = options_.ignore_eos;
  request.cache_scope = cache_scope_;
  auto id =
      service_.submit(std::move(request), std::make_shared<ChoiceSink>(shared_from_this(), index));
  if (!id) return id.status();
  slots_[index].id = *id;
  slots_[index].submitted = true;
  return Status::ok();
}

// That are certain to be in the answer.
uint64_t Generation::least_logprobs() const {
  if (!options_.echo || !options_.logprobs()) return 0;
  return prompt_tokens_ * options_.n * (1 + static_cast<uint64_t>(options_.sampling.top_logprobs));
}

void Generation::on_prompt(size_t index, const PromptEvent& event) {
  if (over_ || slots_[index].finished) return;
  echo(index, event.position + event.tokens.size(), event);
}

// Tokens of the prompt up to `end`; `scores` of some of them.
void Generation::echo(size_t index, size_t end, const PromptEvent& scores) {
  ChoiceDelta delta = echoes_[index / options_.n].part(slots_[index].echoed, end);
  const size_t first = std::exchange(slots_[index].echoed, end);
  for (size_t i = 0; i < scores.tokens.size(); ++i) {
    TokenRecord& record = delta.records.at(scores.position - first + i);
    record.logprob = scores.tokens[i].logprob;
    record.top = scores.tokens[i].top;
  }
  if (!options_.logprobs() && !options_.return_token_ids) delta.records.clear();
  emit(index, std::move(delta));
}

void Generation::echo_rest(size_t index) {
  if (!options_.echo) return;
  const size_t tokens = echoes_[index / options_.n].tokens();
  if (slots_[index].echoed < tokens) echo(index, tokens, {});
}

void Generation::on_token(size_t index, const TokenEvent& event) {
  Slot& slot = slots_[index];
  if (over_ || slot.finished || options_.max_tokens == 0u) return;
  echo_rest(index);
  if (over_) return;
  ChoiceDelta delta = slot.choice.on_token(event);
  if (slot.choice.stopped_by_text() && !slot.cancelled) {
    slot.cancelled = true;
    service_.cancel(slot.id);
  }
  emit(index, std::move(delta));
}

void Generation::on_finish(size_t index, const FinishEvent& event) {
  Slot& slot = slots_[index];
  if (over_ || slot.finished) return;
  slot.finished = true;
  slot.cached_prompt_tokens = event.cached_prompt_tokens;
  const bool dropped = options_.max_tokens == 0u && event.reason == FinishReason::kStop;
  ChoiceDelta delta = slot.choice.on_finish(dropped ? FinishReason::kLength : event.reason);
  const auto reason = slot.choice.finish_reason();
  if (!reason) {
    const bool error = event.reason == FinishReason::kError && !event.error.is_ok();
    fail(from_status(error ? event.error : unavailable("the request was cancelled by the server")));
    return;
  }
  echo_rest(index);
  if (!over_) emit(index, std::move(delta));
  if (over_) return;
  slot.result.finish_reason = *reason;
  if (options_.stream) {
    ensure_stream();
    exchange_->write(format_.chunk_finish(static_cast<uint32_t>(index), *reason));
  }
  if (--unfinished_ == 0) complete();
}

void Generation::emit(size_t index, ChoiceDelta delta) {
  if (delta.empty()) return;
  if (options_.stream) {
    ensure_stream();
    wrote_lately_ = true;
    exchange_->write(format_.chunk_delta(static_cast<uint32_t>(index), delta));
    return;
  }
  for (const TokenRecord& record : delta.records) collected_logprobs_ += 1 + record.top.size();
  if (collected_logprobs_ > kMaxCollectedLogprobs) return fail(too_many_logprobs());
  FinishedChoice& result = slots_[index].result;
  result.text += delta.text;
  std::move(delta.records.begin(), delta.records.end(), std::back_inserter(result.records));
}

void Generation::complete() {
  over_ = true;
  note_tokens();
  if (options_.stream) {
    if (options_.include_usage) exchange_->write(format_.chunk_usage(usage()));
    exchange_->write(AnswerFormat::chunk_done());
    exchange_->finish();
    return;
  }
  std::vector<FinishedChoice> results;
  for (Slot& slot : slots_) results.push_back(std::move(slot.result));
  HttpResponse response;
  response.body = format_.body(results, usage());
  exchange_->respond(std::move(response));
}

// One choice failed: the answer cannot be completed, so the others are of no use.
void Generation::fail(const ApiError& error) {
  over_ = true;
  note_tokens();
  cancel_all();
  if (!stream_started_) {
    exchange_->respond(error_response(error));
    return;
  }
  exchange_->write(AnswerFormat::chunk_error(error_body(error)));
  exchange_->finish();
}

void Generation::client_gone() {
  if (over_) return;
  over_ = true;
  note_tokens();
  cancel_all();
}

void Generation::cancel_all() {
  for (Slot& slot : slots_) {
    if (slot.submitted && !slot.finished && !slot.cancelled) {
      slot.cancelled = true;
      service_.cancel(slot.id);
    }
  }
}

void Generation::ensure_stream() {
  if (stream_started_) return;
  stream_started_ = true;
  wrote_lately_ = true;
  exchange_->start_stream(200, "text/event-stream; charset=utf-8",
                          {{"Cache-Control", "no-cache"}, {"X-Accel-Buffering", "no"}});
  if (format_.head().kind != AnswerKind::kChat) return;
  for (size_t i = 0; i < slots_.size(); ++i) {
    exchange_->write(format_.chunk_role(static_cast<uint32_t>(i)));
  }
}

void Generation::keep_alive() {
  if (over_) return;
  ensure_stream();
  if (!std::exchange(wrote_lately_, false)) exchange_->write(": waiting\n\n");
  exchange_->after(silence_, [self = shared_from_this()] { self->keep_alive(); });
}

void Generation::note_tokens() {
  const Usage used = usage();
  exchange_->note_tokens(used.prompt_tokens, used.completion_tokens);
}

Usage Generation::usage() const {
  Usage out;
  out.prompt_tokens = prompt_tokens_;
  for (size_t i = 0; i < slots_.size(); ++i) {
    out.completion_tokens += slots_[i].choice.completion_tokens();
    // A prompt counts once however many choices it has, and so does what was cached of it.
    if (i % options_.n == 0) out.cached_tokens += slots_[i].cached_prompt_tokens;
  }
  return out;
}

}  // namespace shoal::gateway
