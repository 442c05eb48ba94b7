// Content-Encoding of requests (RFC 9110, section 8.4): what a client compressed. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "base/status.h"
#include "coordinator/gateway/http.h"

namespace shoal::gateway {

enum class ContentCoding : uint8_t { kIdentity, kGzip, kDeflate };

// For people and for Accept-Encoding.
inline constexpr const char* kContentCodings = "gzip, deflate, identity";

// Of a request's body; nothing: a coding that is not known here, or several on top of each other.
std::optional<ContentCoding> content_coding(const HttpRequest& head);

// The body as it was before kGzip or kDeflate (zlib's format, RFC 1950). `room` is asked before
// more than so many bytes are kept in all. kInvalidArgument: damaged, cut off, or with something
// behind it; kOutOfRange: it holds more than `limit` bytes; kResourceExhausted: no room.
Result<std::string> decode_content(ContentCoding coding, std::string_view body, uint64_t limit,
                                   const std::function<bool(uint64_t)>& room);

}  // namespace shoal::gateway
