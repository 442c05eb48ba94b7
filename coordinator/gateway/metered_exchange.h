// Reports how an HTTP exchange ended, whichever way it did.
#pragma once

#include <functional>
#include <memory>
#include <string_view>

#include "base/clock.h"
#include "coordinator/gateway/http.h"

namespace shoal::gateway {

// A route of ours (never the client's text), the status the client was sent, and how long it took
// until the last of it was handed over. Called once per exchange, on any thread; must not block.
using ExchangeObserver = std::function<void(std::string_view route, int status, double seconds)>;

// The status of an exchange whose client left before anything was sent (nginx's number for it).
inline constexpr int kClientClosedRequest = 499;

// `route` lives as long as the program, `clock` as long as the exchange.
std::shared_ptr<Exchange> metered(std::shared_ptr<Exchange> exchange, std::string_view route,
                                  const Clock& clock, ExchangeObserver observer);

}  // namespace shoal::gateway
