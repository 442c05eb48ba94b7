// Origins of web pages (RFC 6454): SCHEME://HOST[:PORT], and patterns of such. Pure.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace shoal::config {

// In lower case. `port` is "" where it is the scheme's own. As a pattern: port "*" stands for any;
// `below`: host begins with '.' and stands for every name that ends so.
struct Origin {
  std::string scheme, host, port;
  bool below = false;

  bool is_pattern() const { return below || port == "*"; }
  bool matches(const Origin& origin) const;
};

// "https://chat.example.org", "http://[::1]:3000", "http://localhost:*", "https://*.example.org";
// nothing if it is none of that, or longer than 512 bytes.
std::optional<Origin> parse_origin(std::string_view text);

}  // namespace shoal::config
