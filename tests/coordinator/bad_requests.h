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

}  // namespace shoal::gateway::testing
