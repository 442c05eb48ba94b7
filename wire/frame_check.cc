#include "wire/frame_check.h"

#include <cstdint>

#include <fmt/core.h>

#include "wire/messages.h"

namespace shoal::wire {
namespace {

// Repeated messages a frame may hold: new sequences of every slot, or results, and as many appends.
// Bounds what parsing can allocate to a small multiple of the frame.
constexpr int kMaxNestedMessages = 4 * kMaxSlots;
// Cluster id and message, and room for what later versions may add to the envelope.
constexpr int kMaxEnvelopeParts = 8;
constexpr uint64_t kFirstBodyField = 16;  // of Envelope; smaller numbers are scalars and text

// A cursor over protobuf's wire format, just enough to count elements.
class Scanner {
 public:
  explicit Scanner(std::string_view bytes) : bytes_(bytes) {}
  bool done() const { return bytes_.empty(); }

  // The next field; `payload` is what a length-delimited one contains. False: malformed.
  bool next(uint64_t* number, bool* is_bytes, std::string_view* payload) {
    uint64_t tag = 0, length = 0;
    if (!varint(&tag)) return false;
    *number = tag >> 3;
    *is_bytes = (tag & 7) == 2;
    *payload = {};
    switch (tag & 7) {
      case 0:
        return varint(&length);
      case 1:
        return skip(8);
      case 5:
        return skip(4);
      case 2:
        if (!varint(&length) || length > bytes_.size()) return false;
        *payload = bytes_.substr(0, length);
        return skip(length);
      default:
        return false;  // groups are not used
    }
  }

 private:
  bool varint(uint64_t* value) {
    *value = 0;
    for (int shift = 0; shift < 64 && !bytes_.empty(); shift += 7) {
      const auto byte = static_cast<uint8_t>(bytes_.front());
      bytes_.remove_prefix(1);
      *value |= uint64_t{byte & 0x7fu} << shift;
      if (byte < 0x80) return true;
    }
    return false;
  }
  bool skip(uint64_t count) {
    if (count > bytes_.size()) return false;
    bytes_.remove_prefix(count);
    return true;
  }

  std::string_view bytes_;
};

}  // namespace

Status check_nested_count(std::string_view frame) {
  int nested = 0;
  int parts = 0;
  uint64_t number = 0;
  bool is_bytes = false;
  Scanner envelope(frame);
  while (!envelope.done()) {
    std::string_view body;
    if (!envelope.next(&number, &is_bytes, &body)) return data_loss("a malformed frame");
    // A second body replaces the first, but the arena keeps both.
    if (is_bytes && ++parts > kMaxEnvelopeParts) {
      return data_loss("a frame of more than one message");
    }
    if (!is_bytes || number < kFirstBodyField) continue;
    Scanner message(body);
    while (!message.done()) {
      std::string_view element;
      if (!message.next(&number, &is_bytes, &element)) return data_loss("a malformed frame");
      if (is_bytes && ++nested > kMaxNestedMessages) {
        return data_loss(fmt::format("a frame of more than {} elements", kMaxNestedMessages));
      }
    }
  }
  return Status::ok();
}

}  // namespace shoal::wire
