// Messages to protobuf bytes and back (the format: wire/shoal.proto). decode() accepts anything: it
// returns a message every field of which is within the bounds of wire/messages.h, or an error that
// names the field. Stateless and thread-safe.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/status.h"
#include "wire/messages.h"

namespace shoal::wire {

// What every frame carries besides its message.
struct EnvelopeInfo {
  uint32_t protocol_version = kProtocolVersion;
  std::string cluster;       // 1 … 64 bytes of UTF-8
  uint64_t incarnation = 0;  // of the sending process
  uint64_t sequence = 0;     // of the frame, per sending process and receiver; starts at 1
  uint64_t acknowledged = 0;  // the last sequence its sender has taken from us: credit for more
};

struct Decoded {
  EnvelopeInfo envelope;
  Message message;
};

inline constexpr size_t kMaxClusterId = 64;

// The frame. Does not validate: a link validates before it sends (wire/validate.h).
std::string encode(const Message& message, const EnvelopeInfo& envelope);

// kDataLoss: not a frame; kInvalidArgument: a field out of bounds; kUnsupported: another protocol
// version (Hello and Refused excepted: they are how versions find out that they differ).
Result<Decoded> decode(std::string_view frame);

}  // namespace shoal::wire
