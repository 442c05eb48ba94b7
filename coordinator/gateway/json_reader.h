// Strict JSON for request bodies. Every bound is checked while parsing, before memory is spent:
// depth, number of containers and values; UTF-8 is strict, numbers are finite, and a key may not
// appear twice (RFC 8259 leaves the meaning open; two readers that differ are a security problem).
#pragma once

#include <cstddef>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string_view>

#include "base/status.h"

namespace shoal::gateway {

using Json = nlohmann::ordered_json;

struct JsonLimits {
  size_t depth = 32;          // recursive walkers behind the parser stay shallow
  size_t containers = 65536;  // an empty array costs 20 times the bytes it is written in
  size_t values = 4u << 20;   // the longest prompt a token array may hold
};

// Frees what `value` holds from the leaves up, leaving it empty. Json's own destructor asks for
// memory, as much as the largest array takes, and ends the process where there is none.
void dismantle(Json* value) noexcept;
// A document that is dismantled when its last owner goes.
std::shared_ptr<const Json> share_json(Json value);

// The one value in `text`, or kInvalidArgument saying what is wrong at which byte.
Result<Json> parse_json(std::string_view text, const JsonLimits& limits = {});

}  // namespace shoal::gateway
