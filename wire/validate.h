// The one validator every incoming message passes, and every outgoing one too, so that a mistake
// shows at its origin. Pure and thread-safe. Errors are kInvalidArgument and name the field:
// "Step.rows[3].count: 0; must be at least 1".
#pragma once

#include <optional>
#include <string_view>

#include "base/status.h"
#include "wire/messages.h"

namespace shoal::wire {

// "Step", "Hello" …: for logs and errors.
std::string_view message_name(const ToWorker& message);
std::string_view message_name(const ToCoordinator& message);

// Every bound of wire/messages.h and those between fields.
Status validate(const ToWorker& message);
Status validate(const ToCoordinator& message);

// What send() does with free text (reasons, error messages): texts come from anywhere, exceptions
// and file names included, and a failure must not be lost because its message is odd. A copy with
// the text bounded and clean (base/quote.h), or nothing if `message` is fine as it is.
std::optional<ToWorker> with_clean_text(const ToWorker& message);
std::optional<ToCoordinator> with_clean_text(const ToCoordinator& message);

}  // namespace shoal::wire
