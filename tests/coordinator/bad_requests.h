// Requests that must be refused with 400, and the field each error must name. Used on the parsers
// directly and through a real HTTP server.
#pragma once

#include <string>
#include <vector>

namespace shoal::gateway::testing {

struct BadRequest {
  const char* path;
  std::string body;
  std::string param;  // "" : null
};

std::vector<BadRequest> bad_requests();

// Every field of every endpoint with a text of so many bytes: as its value, inside it, as a key, and
// bodies that are such a text. Not all are refused; `param` says nothing.
std::vector<BadRequest> long_requests(size_t bytes);

}  // namespace shoal::gateway::testing
