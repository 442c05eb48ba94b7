// Where an OpenAI API is: what people write after --url, made into the addresses that are asked.
#pragma once

#include <string>
#include <string_view>

#include "base/status.h"

namespace shoal::chat {

struct Endpoint {
  std::string base;   // "http://user:secret@host:8080/prefix/v1", without a slash at the end
  std::string query;  // "?api-version=2", or empty
  std::string shown;  // as base, without user and secret: for messages
  // This machine's own address: no proxy is asked, whatever the environment says.
  bool loopback = false;
  bool secure = false;  // https

  // `path` begins with a slash: "/chat/completions".
  std::string url(std::string_view path) const { return base + std::string(path) + query; }
};

// "host:8080", "https://host/prefix/", "http://[::1]:8080/v1", ".../v1/chat/completions": http
// where no scheme is named, /v1 where no segment of the path is a version. kInvalidArgument says
// what is wrong with it.
Result<Endpoint> parse_endpoint(std::string_view url);

}  // namespace shoal::chat
