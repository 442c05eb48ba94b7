// What a frame would cost to parse, before anything is allocated for it.
#pragma once

#include <string_view>

#include "base/status.h"

namespace shoal::wire {

// Elements of messages (length-delimited fields two levels down) are what costs many times its
// bytes once parsed; everything else is at most 4 bytes of memory a byte.
// kDataLoss: too many of them, more than one message, or no protobuf.
Status check_nested_count(std::string_view frame);

}  // namespace shoal::wire
