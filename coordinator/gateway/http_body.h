// A request's body, taken off the wire as its framing says: so many bytes, or chunks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "coordinator/gateway/http_head.h"

namespace shoal::gateway {

class HttpBodyReader {
 public:
  enum class State { kMore, kDone, kBad, kTooLarge };

  // `limit`: bytes of the body, at least framing.length.
  HttpBodyReader(const HttpFraming& framing, size_t limit);

  // Takes bytes until the body is complete or refused; returns how many. Takes none after that.
  size_t put(std::string_view bytes);

  State state() const { return state_; }
  const char* fault() const { return fault_; }  // when kBad
  size_t size() const { return body_.size(); }
  // For sizes known beforehand and admitted: no growing by doubling.
  void expect(size_t bytes) { body_.reserve(bytes); }
  std::string take_body() { return std::move(body_); }

 private:
  // Where in the chunked coding (RFC 9112, section 7.1) the next byte is.
  enum class Place {
    kLength,     // a body of known length
    kSize,       // hexadecimal digits
    kExtension,  // behind ';', ignored
    kSizeEnd,    // the LF behind the chunk's size
    kData,
    kDataCr,
    kDataLf,
    kTrailer,  // the beginning of a trailer line, or of the empty one that ends the message
    kTrailerLine,
    kTrailerLf,
    kLastLf,
  };
  void framing_byte(char c);
  void size_byte(char c);
  void trailer_byte(char c);
  void end_of_size();
  void take_data(std::string_view bytes);
  void bad(const char* fault);
  void extra();

  const size_t limit_;
  State state_ = State::kMore;
  Place place_;
  uint64_t left_ = 0;  // of the body or the chunk
  size_t digits_ = 0;
  size_t extra_ = 0;  // bytes of extensions and trailers
  const char* fault_ = "";
  std::string body_;
};

}  // namespace shoal::gateway
