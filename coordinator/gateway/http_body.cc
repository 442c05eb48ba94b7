#include "coordinator/gateway/http_body.h"

#include <algorithm>

#include "base/check.h"

namespace shoal::gateway {
namespace {

constexpr size_t kMaxSizeDigits = 8;  // 4 GiB; bodies end at 1 GiB
// Extensions and trailers are read for nothing: of one message no more than this together.
constexpr size_t kMaxExtra = 16 << 10;

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

bool is_text(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return c == '\t' || (byte >= 0x20 && byte != 0x7f);
}

}  // namespace

HttpBodyReader::HttpBodyReader(const HttpFraming& framing, size_t limit)
    : limit_(limit),
      place_(framing.chunked ? Place::kSize : Place::kLength),
      left_(framing.chunked ? 0 : framing.length) {
  SHOAL_CHECK(left_ <= limit_, "a body beyond its limit is refused with its head");
  if (!framing.has_body()) state_ = State::kDone;
}

void HttpBodyReader::bad(const char* fault) {
  fault_ = fault;
  state_ = State::kBad;
}

void HttpBodyReader::extra() {
  if (++extra_ > kMaxExtra) bad("chunk extensions and trailers are too long");
}

size_t HttpBodyReader::put(std::string_view bytes) {
  size_t used = 0;
  while (state_ == State::kMore && used < bytes.size()) {
    if (place_ != Place::kLength && place_ != Place::kData) {
      framing_byte(bytes[used++]);
      continue;
    }
    const size_t part = static_cast<size_t>(std::min<uint64_t>(left_, bytes.size() - used));
    take_data(bytes.substr(used, part));
    used += part;
  }
  return used;
}

void HttpBodyReader::take_data(std::string_view bytes) {
  body_ += bytes;
  left_ -= bytes.size();
  if (left_ > 0) return;
  if (place_ == Place::kLength) {
    state_ = State::kDone;
  } else {
    place_ = Place::kDataCr;
  }
}

void HttpBodyReader::framing_byte(char c) {
  switch (place_) {
    case Place::kSize:
    case Place::kExtension:
      size_byte(c);
      return;
    case Place::kSizeEnd:
      if (c != '\n') return bad("a chunk's size must end with CR LF");
      return end_of_size();
    case Place::kDataCr:
    case Place::kDataLf:
      if (c != (place_ == Place::kDataCr ? '\r' : '\n')) return bad("a chunk must end with CR LF");
      digits_ = 0;
      place_ = place_ == Place::kDataCr ? Place::kDataLf : Place::kSize;
      return;
    default:
      trailer_byte(c);
  }
}

void HttpBodyReader::size_byte(char c) {
  if (place_ == Place::kSize) {
    if (const int digit = hex_digit(c); digit >= 0) {
      if (++digits_ > kMaxSizeDigits) return bad("a chunk's size has too many digits");
      left_ = left_ * 16 + static_cast<uint64_t>(digit);
      return;
    }
    if (digits_ == 0 || (c != '\r' && c != ';')) {
      return bad("a chunk's size must be hexadecimal digits");
    }
  }
  if (c == '\r') {
    place_ = Place::kSizeEnd;
  } else if (!is_text(c)) {
    bad("a control character in a chunk extension");
  } else {
    place_ = Place::kExtension;
    extra();
  }
}

void HttpBodyReader::end_of_size() {
  if (left_ == 0) {
    place_ = Place::kTrailer;
  } else if (left_ > limit_ - body_.size()) {
    state_ = State::kTooLarge;
  } else {
    place_ = Place::kData;
  }
}

// Trailers are of no use here; their form is checked all the same.
void HttpBodyReader::trailer_byte(char c) {
  extra();
  if (state_ != State::kMore) return;
  if (place_ == Place::kTrailerLf || place_ == Place::kLastLf) {
    if (c != '\n') return bad("a trailer line must end with CR LF");
    if (place_ == Place::kLastLf) state_ = State::kDone;
    place_ = Place::kTrailer;
  } else if (c == '\r') {
    place_ = place_ == Place::kTrailer ? Place::kLastLf : Place::kTrailerLf;
  } else if (!is_text(c) || (place_ == Place::kTrailer && (c == ' ' || c == '\t' || c == ':'))) {
    bad("a trailer line is not NAME: VALUE");
  } else {
    place_ = Place::kTrailerLine;
  }
}

}  // namespace shoal::gateway
