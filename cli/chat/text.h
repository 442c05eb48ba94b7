// Text on its way from a server to a terminal: JSON that is not quite UTF-8, characters whose bytes
// come in different pieces, control characters that a terminal would obey.
#pragma once

#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

namespace shoal::chat {

// A server that cuts its tokens' bytes (or UTF-16 halves) anywhere sends JSON that no strict parser
// takes. Here such bytes survive the parser.
struct LooseJson {
  nlohmann::json json;  // discarded: not JSON even so
  bool marked = false;  // strings hold marks of what is no UTF-8; only bytes() may read them

  // A string's bytes as the server meant them, halves of UTF-16 pairs as three bytes each (CESU-8).
  std::string bytes(const nlohmann::json& string) const;
};
LooseJson parse_loosely(std::string_view text);

// Pieces of a text, cut anywhere, become valid UTF-8: a character is held back until it is whole,
// what never becomes one is U+FFFD.
class Utf8Joiner {
 public:
  std::string feed(std::string_view bytes);
  std::string finish();

 private:
  std::string take(bool last);
  std::string pending_;
};

// Valid UTF-8 with every control character but \n and \t escaped: \x1b, \xc2\x9b; \r\n is \n. What
// a terminal may be given of a text that is not ours. A \r at the end of a piece counts as alone.
std::string for_terminal(std::string_view text);

}  // namespace shoal::chat
