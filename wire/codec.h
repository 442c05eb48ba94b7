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
  std::string cluster;        // 1 … 64 bytes of UTF-8
  uint64_t incarnation = 0;   // of the sending process
  uint64_t sequence = 0;      // of the frame, per sending process and receiver; starts at 1
  uint64_t acknowledged = 0;  // the last sequence its sender has taken from us: credit for more
};

template <class M>
struct Decoded {
  EnvelopeInfo envelope;
  M message;
};

inline constexpr size_t kMaxClusterId = 64;

// A message as it is in every frame that carries it: several receivers share it. Does not validate:
// a link validates before it sends (wire/validate.h).
std::string encode_body(const ToWorker& message);
std::string encode_body(const ToCoordinator& message);
// The frame.
std::string encode_frame(const EnvelopeInfo& envelope, std::string_view body);
template <class M>
std::string encode(const M& message, const EnvelopeInfo& envelope) {
  return encode_frame(envelope, encode_body(message));
}

// kDataLoss: not a frame; kInvalidArgument: a field out of bounds, or a message for the other side;
// kUnsupported: another protocol version (Hello and Refused excepted: they are how versions find
// out that they differ). M: ToWorker or ToCoordinator.
template <class M>
Result<Decoded<M>> decode(std::string_view frame);
extern template Result<Decoded<ToWorker>> decode(std::string_view frame);
extern template Result<Decoded<ToCoordinator>> decode(std::string_view frame);

}  // namespace shoal::wire
