// The seeds of the fuzz targets that read frames: made here from one valid instance of every
// message, so that they are of the protocol's version whatever that is. tests/tools/wire_seed_tool
// writes them; wire_seeds_test fails where those of tests/fuzz/corpus/ are others.
#pragma once

#include <map>
#include <string>

#include "tests/wire/sample_messages.h"
#include "wire/codec.h"
#include "wire/validate.h"

namespace shoal::wire::testing {

// One byte of selector (fuzz_wire.cc: connection, key and descriptor), a u16 length, the frame.
inline std::string delivered(uint8_t selector, const std::string& frame) {
  const auto size = static_cast<uint16_t>(frame.size());
  return std::string{static_cast<char>(selector), static_cast<char>(size & 0xff),
                     static_cast<char>(size >> 8)} +
         frame;
}

// By path below tests/fuzz/corpus/.
inline std::map<std::string, std::string> wire_seeds() {
  constexpr uint8_t kFirst = 120;  // frames of connection r, key a, descriptor 0
  constexpr uint8_t kClosed = 0, kGone = 60;
  std::map<std::string, std::string> seeds;
  // All messages as frames of two workers, one of which is started again; a connection that breaks
  // in between, and frames that do not count any more.
  std::string& sequence = seeds["fuzz_wire/sequence"];
  // Two workers say hello to the core; then all messages come as raw frames.
  std::string& raw = seeds["fuzz_wire_sequence/raw"];
  constexpr char kHello = 0, kRaw = 17;
  raw = std::string{kHello, 0, 0, kHello, 1, 0};
  uint64_t number = 0;
  for_each_message([&](const auto& message) {
    const EnvelopeInfo envelope{kProtocolVersion, "cluster", 5, ++number, number - 1};
    const std::string frame = encode(message, envelope);
    seeds["fuzz_wire/" + std::string(message_name(message))] = frame;
    sequence += delivered(kFirst, frame);
    sequence += delivered(kFirst + 1 + 5 + 15,
                          encode(message, {kProtocolVersion, "cluster", 6, number, 0}));
    if (number % 8 == 0) sequence += delivered(kClosed + 15, "") + delivered(kFirst, frame);
    if (number == 12) sequence += delivered(kGone, "");
    if (frame.size() < 256) {
      raw +=
          std::string{kRaw, static_cast<char>(number % 2), static_cast<char>(frame.size())} + frame;
    }
  });
  return seeds;
}

}  // namespace shoal::wire::testing
