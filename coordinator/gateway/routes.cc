#include "coordinator/gateway/generate.h"
#include "coordinator/gateway/route.h"

namespace shoal::gateway {

namespace endpoints {
Endpoint chat, completion;                    // chat.cc, completion.cc
Endpoint models, model;                       // models.cc
Endpoint tokenize, detokenize;                // tokens.cc
Endpoint health, ready;                       // health.cc
Endpoint metrics, cluster, version, summary;  // operations.cc
}  // namespace endpoints

namespace {

using namespace endpoints;

constexpr Route kRoutes[] = {
    {"POST", "/v1/chat/completions", chat, Access::kKey, kChatId},
    {"POST", "/v1/completions", completion, Access::kKey, kCompletionId},
    {"GET", "/v1/models", models},
    {"GET", "/v1/models/*", model},
    {"POST", "/tokenize", tokenize},
    {"POST", "/detokenize", detokenize},
    {"GET", "/health", health, Access::kOpen},
    {"GET", "/ready", ready, Access::kOpen},
    {"GET", "/metrics", metrics, Access::kMetrics},
    {"GET", "/cluster", cluster},
    {"GET", "/version", version},
    {"GET", "/", summary},
};

}  // namespace

std::span<const Route> routes() { return kRoutes; }

bool matches(const Route& route, std::string_view path) {
  const std::string_view pattern = route.path;
  if (pattern.ends_with('*')) return path.starts_with(pattern.substr(0, pattern.size() - 1));
  return pattern == path;
}

}  // namespace shoal::gateway
