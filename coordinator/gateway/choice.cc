#include "coordinator/gateway/choice.h"

#include <algorithm>
#include <utility>

namespace shoal::gateway {
namespace {

size_t count_characters(std::string_view text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xc0) != 0x80;
  }));
}

}  // namespace

Choice::Choice(const TextCodec& codec, std::vector<std::string> stop, bool keep_records,
               std::optional<size_t> echoed)
    : stream_(codec.new_stream()),
      matcher_(std::move(stop)),
      keep_records_(keep_records),
      keep_end_(echoed.has_value()),
      produced_characters_(echoed.value_or(0)) {}

ChoiceDelta Choice::on_token(const TokenEvent& event) {
  if (finished_ || matcher_.stopped()) return {};
  ++completion_tokens_;
  if (keep_records_ && (!event.is_stop || keep_end_)) {
    pending_.push_back(
        {produced_bytes_, {event.token, event.logprob, event.top, produced_characters_}});
  }
  if (event.is_stop) return {};
  const std::string piece = stream_->push(event.token);
  produced_bytes_ += piece.size();
  produced_characters_ += count_characters(piece);
  return release(matcher_.push(piece), false);
}

ChoiceDelta Choice::on_finish(FinishReason reason) {
  if (finished_) return {};
  finished_ = true;
  if (matcher_.stopped()) {
    finish_reason_ = "stop";
    return {};
  }
  if (reason == FinishReason::kStop) finish_reason_ = "stop";
  if (reason == FinishReason::kLength) finish_reason_ = "length";
  const std::string rest = stream_->flush();
  produced_bytes_ += rest.size();
  std::string text = matcher_.push(rest);
  if (matcher_.stopped()) {
    finish_reason_ = "stop";
  } else {
    text += matcher_.flush();
  }
  return release(std::move(text), true);
}

ChoiceDelta Choice::release(std::string text, bool all) {
  ChoiceDelta delta;
  released_bytes_ += text.size();
  delta.text = std::move(text);
  // Stopped: what begins at or behind the cut is dropped; everything before it goes out now.
  const bool cut = matcher_.stopped();
  while (!pending_.empty() && (pending_.front().begin < released_bytes_ || (all && !cut))) {
    delta.records.push_back(std::move(pending_.front().record));
    pending_.pop_front();
  }
  if (cut) pending_.clear();
  return delta;
}

}  // namespace shoal::gateway
