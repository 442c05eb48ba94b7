#include "coordinator/gateway/services.h"

#include <fmt/format.h>

#include <utility>

namespace shoal::gateway {
namespace {

GatewayOptions complete(GatewayOptions options, const TextCodec& codec) {
  options.limits.vocab_size = codec.vocab_size();
  options.limits.served_model = options.served_model;
  return options;
}

}  // namespace

Services::Services(GatewayDependencies dependencies, GatewayOptions gateway_options)
    : deps(std::move(dependencies)),
      options(complete(std::move(gateway_options), *deps.codec)),
      controls(deps.codec->control_texts()),
      created(deps.wall_seconds()) {}

std::string Services::new_id(const char* prefix) const {
  return fmt::format("{}-{:016x}{:016x}", prefix, deps.random(), deps.random());
}

}  // namespace shoal::gateway
