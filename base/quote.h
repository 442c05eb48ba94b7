// Text from outside (requests, files, messages, arguments) in messages of ours: how much of it is
// shown, and in what form. A message that quotes what it refuses must not be as long as that, break
// a line of the log or move a terminal's cursor.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace shoal {

// Of one piece of input.
inline constexpr size_t kQuotedBytes = 200;
// Of a whole message that leaves the process or crosses the wire: what is longer is cut there,
// whoever wrote it.
inline constexpr size_t kMessageBytes = 1000;

// `text` as valid UTF-8 on one line: control characters and bytes that are no UTF-8 as \xNN (\n,
// \r, \t as these), cut at a character's end so that at most `max` bytes of result show it, and
// then "… (N bytes)" says how long it is. Short clean text is itself.
std::string excerpt(std::string_view text, size_t max = kQuotedBytes);

// The same in single quotes: 'text', or 'te…' (N bytes).
std::string in_quotes(std::string_view text, size_t max = kQuotedBytes);

// A message on its way out: the same, but line feeds stay, and at most kMessageBytes in all; so
// what has been through here once comes out of here as it is.
std::string bounded_message(std::string_view message);

}  // namespace shoal
