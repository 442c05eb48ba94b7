#include "coordinator/gateway/echo.h"

#include <algorithm>
#include <utility>

#include "base/status.h"

namespace shoal::gateway {
namespace {

bool is_continuation(char c) { return (static_cast<unsigned char>(c) & 0xc0) == 0x80; }

}  // namespace

Echo::Echo(const TextCodec& codec, std::vector<int32_t> ids, std::string text)
    : ids_(std::move(ids)), text_(std::move(text)) {
  place(codec);
}

Echo::Echo(const TextCodec& codec, std::vector<int32_t> ids) : ids_(std::move(ids)) {
  int32_t previous = -1;
  for (const int32_t id : ids_) text_ += codec.text_bytes(id, std::exchange(previous, id));
  place(codec);
}

void Echo::place(const TextCodec& codec) {
  size_t at = 0, counted = 0;  // bytes; counted: those before it are in characters_
  int32_t previous = -1;
  for (const int32_t id : ids_) {
    size_t begin = at;
    while (begin > 0 && begin < text_.size() && is_continuation(text_[begin])) --begin;
    for (; counted < begin; ++counted) characters_ += is_continuation(text_[counted]) ? 0 : 1;
    begins_.push_back(begin);
    offsets_.push_back(characters_);
    const std::string piece = codec.text_bytes(id, std::exchange(previous, id));
    if (text_.compare(at, piece.size(), piece) == 0) at += piece.size();
  }
  for (; counted < text_.size(); ++counted) characters_ += is_continuation(text_[counted]) ? 0 : 1;
}

size_t Echo::begin(size_t token) const {
  return token < begins_.size() ? begins_[token] : text_.size();
}

ChoiceDelta Echo::part(size_t first, size_t last) const {
  SHOAL_CHECK(first <= last && last <= tokens(), "a part of a prompt");
  ChoiceDelta delta;
  delta.text = text_.substr(begin(first), begin(last) - begin(first));
  for (size_t i = first; i < last; ++i) {
    TokenRecord& record = delta.records.emplace_back();
    record.id = ids_[i];
    record.text_offset = offsets_[i];
  }
  return delta;
}

}  // namespace shoal::gateway
