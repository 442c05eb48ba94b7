// Fuzz target: frames and sequences of frames. An input is a list of (u16 length, bytes) records,
// as several connections of a few workers would deliver them. Whatever decodes is valid, survives
// encoding again, and keeps the peer table's promises.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/check.h"
#include "wire/codec.h"
#include "wire/peer_table.h"
#include "wire/validate.h"

namespace shoal::wire {
namespace {

template <class M>
void check_frame_as(std::string_view frame) {
  const auto decoded = decode<M>(frame);
  if (!decoded) {
    SHOAL_CHECK(!decoded.status().message().empty(), "an error without a message");
    return;
  }
  const Status valid = validate(decoded->message);
  SHOAL_CHECK(valid.is_ok(), valid.message());
  const std::string bytes = encode(decoded->message, decoded->envelope);
  const auto again = decode<M>(bytes);
  SHOAL_CHECK(again.is_ok(), "not readable again: " + again.status().message());
  SHOAL_CHECK(encode(again->message, again->envelope) == bytes, "changed when read again");
}

void check_frame(std::string_view frame) {
  check_frame_as<ToCoordinator>(frame);
  check_frame_as<ToWorker>(frame);
}

// The selector byte in front of each frame picks connection, key and descriptor, or an event.
void deliver(uint8_t selector, std::string_view frame, PeerTable* table) {
  const std::string routing(1, static_cast<char>('r' + selector % 5));
  const std::string name(1, static_cast<char>('a' + selector / 5 % 3));
  const int fd = selector / 15 % 4;
  switch (selector / 60) {
    case 0:
      (void)table->closed(fd);
      return;
    case 1:
      (void)table->gone(routing);
      return;
    default:
      break;
  }
  const auto decoded = decode<ToCoordinator>(frame);
  if (!decoded) {
    (void)table->misbehaved(routing, name, fd);
    return;
  }
  const auto arrival = table->arrived(routing, name, fd, decoded->envelope);
  if (!arrival) return;
  SHOAL_CHECK(arrival->peer->name == name, "a peer of another key");
  SHOAL_CHECK(arrival->peer->received == decoded->envelope.sequence, "the sequence is not taken");
  if (auto peer = table->find_for_sending(arrival->peer->id, frame.size())) {
    table->sent(**peer, frame.size());
    SHOAL_CHECK((*peer)->outstanding.size() <= 8, "more outstanding frames than allowed");
  }
  SHOAL_CHECK(table->connections() <= 4, "more connections than descriptors");
}

}  // namespace
}  // namespace shoal::wire

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view input(reinterpret_cast<const char*>(data), size);
  shoal::wire::check_frame(input);
  shoal::wire::PeerTable table({1 << 16, 8});
  while (input.size() >= 3) {
    const auto selector = static_cast<uint8_t>(input[0]);
    const size_t length = static_cast<uint8_t>(input[1]) | static_cast<uint8_t>(input[2]) << 8;
    input.remove_prefix(3);
    const std::string_view frame = input.substr(0, length);
    input.remove_prefix(frame.size());
    shoal::wire::check_frame(frame);
    shoal::wire::deliver(selector, frame, &table);
  }
  return 0;
}
