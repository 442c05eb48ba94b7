#include "model/gguf_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <unordered_set>

#include "base/quote.h"

namespace shoal {

static_assert(std::endian::native == std::endian::little, "the reader copies little-endian values");

namespace {

using Limits = GgufLimits;

// Sequential reads through a window, bounded by the file's end.
class Cursor {
 public:
  explicit Cursor(const ByteSource& source)
      : source_(source), end_(std::min(source.size(), Limits::kMaxHeaderBytes)) {}

  uint64_t offset() const { return offset_; }
  uint64_t remaining() const { return end_ - offset_; }

  // Fills `out` and moves on. `out` must not be allocated beyond remaining() by the caller.
  Status take(void* out, uint64_t n) {
    if (n > remaining()) return past_end(n);
    auto* to = static_cast<uint8_t*>(out);
    while (n > 0) {
      if (offset_ < window_start_ || offset_ >= window_start_ + window_.size()) {
        window_start_ = offset_;
        window_.resize(std::min<uint64_t>(kWindowBytes, remaining()));
        SHOAL_TRY(source_.read_at(window_start_, window_));
      }
      const uint64_t at = offset_ - window_start_;
      const uint64_t part = std::min<uint64_t>(n, window_.size() - at);
      std::memcpy(to, window_.data() + at, part);
      to += part;
      offset_ += part;
      n -= part;
    }
    return Status::ok();
  }

  template <class T>
  Status take(T* out) {
    return take(static_cast<void*>(out), sizeof(T));
  }

  Status past_end(uint64_t wanted) const {
    if (end_ == source_.size()) {
      return data_loss(fmt::format("needs {} bytes but only {} are left in the file (truncated?)",
                                   wanted, remaining()));
    }
    return data_loss(fmt::format("the header is longer than {} bytes", end_));
  }

 private:
  static constexpr uint64_t kWindowBytes = 256 << 10;
  const ByteSource& source_;
  const uint64_t end_;
  uint64_t offset_ = 0;
  uint64_t window_start_ = 0;
  std::vector<uint8_t> window_;
};

class HeaderReader {
 public:
  explicit HeaderReader(const ByteSource& source) : source_(source), cursor_(source) {}

  Result<GgufHeader> read() {
    header_.part.path = source_.name();
    header_.part.size = source_.size();
    SHOAL_TRY(at("the file header", read_fixed_part()));
    SHOAL_TRY(read_metadata());
    SHOAL_TRY(read_alignment());
    SHOAL_TRY(read_tensor_infos());
    SHOAL_TRY(place_tensors());
    SHOAL_TRY(check_overlap());
    return std::move(header_);
  }

 private:
  // An error with file, subject and the offset where the subject started.
  Status at(std::string_view subject, Status status) const {
    if (status.is_ok()) return status;
    return {status.code(), fmt::format("{}: {} at offset {}: {}", excerpt(source_.name()), subject,
                                       start_, status.message())};
  }

  Status read_fixed_part() {
    uint8_t magic[4];
    SHOAL_TRY(cursor_.take(&magic));
    if (std::memcmp(magic, "GGUF", 4) != 0) {
      return data_loss(fmt::format("not a GGUF file: it starts with {:02x} {:02x} {:02x} {:02x}",
                                   magic[0], magic[1], magic[2], magic[3]));
    }
    start_ = cursor_.offset();
    SHOAL_TRY(cursor_.take(&header_.version));
    SHOAL_TRY(check_version(header_.version));
    start_ = cursor_.offset();
    SHOAL_TRY(cursor_.take(&n_tensors_));
    SHOAL_TRY(check_count("tensor count", n_tensors_, Limits::kMaxTensors, kMinTensorBytes));
    start_ = cursor_.offset();
    SHOAL_TRY(cursor_.take(&n_keys_));
    return check_count("metadata key count", n_keys_, Limits::kMaxKeys, kMinKeyBytes);
  }

  static Status check_version(uint32_t version) {
    if (version == 2 || version == 3) return Status::ok();
    if (version == 0) return data_loss("version 0 does not exist");
    if ((version & 0xffff) == 0) {
      return unsupported("the file is big-endian; convert it to little-endian");
    }
    if (version == 1) return unsupported("version 1 is too old; convert the model again");
    return unsupported(fmt::format("version {} is unknown; versions 2 and 3 are read", version));
  }

  // A count read from the file: neither negative, nor beyond its limit, nor more than the rest of
  // the file could hold at `min_bytes` each.
  Status check_count(std::string_view what, uint64_t count, uint64_t limit,
                     uint64_t min_bytes) const {
    if (count >> 63) {
      return data_loss(fmt::format("{} is negative ({})", what, static_cast<int64_t>(count)));
    }
    if (count > limit) return data_loss(fmt::format("{} {} exceeds {}", what, count, limit));
    if (count > cursor_.remaining() / min_bytes) {
      return data_loss(fmt::format("{} {} cannot fit the {} bytes left in the file", what, count,
                                   cursor_.remaining()));
    }
    return Status::ok();
  }

  // A length-prefixed string, appended to `out`.
  Status read_string(std::string_view what, uint64_t limit, std::string* out) {
    uint64_t length = 0;
    SHOAL_TRY(cursor_.take(&length));
    SHOAL_TRY(check_count(what, length, limit, 1));
    const size_t before = out->size();
    out->resize(before + length);
    return cursor_.take(out->data() + before, length);
  }

  Status read_metadata() {
    std::vector<std::pair<std::string, GgufValue>> entries;
    std::unordered_set<std::string> seen;
    for (uint64_t i = 0; i < n_keys_; ++i) {
      start_ = cursor_.offset();
      std::string key;
      SHOAL_TRY(at(fmt::format("metadata key {}", i),
                   read_string("key length", Limits::kMaxKeyBytes, &key)));
      SHOAL_TRY(at(fmt::format("metadata key {} {}", i, in_quotes(key)), check_key(key)));
      const std::string subject = "key " + in_quotes(key);
      if (!seen.insert(key).second) {
        return at(subject, data_loss("the key appears twice"));
      }
      GgufValue value;
      SHOAL_TRY(at(subject, read_value(key, &value)));
      entries.emplace_back(std::move(key), std::move(value));
    }
    header_.metadata = GgufMetadata(source_.name());
    header_.metadata.assign(std::move(entries));
    return Status::ok();
  }

  static Status check_key(const std::string& key) {
    if (key.empty()) return data_loss("the key is empty");
    const bool printable = std::ranges::all_of(key, [](char c) { return c > 0x20 && c < 0x7f; });
    return printable ? Status::ok() : data_loss("a key must be printable ASCII without spaces");
  }

  static Result<GgufType> value_type(uint32_t id) {
    if (id < kGgufTypeIds) return static_cast<GgufType>(id);
    return data_loss(fmt::format("unknown value type {}", id));
  }

  Status read_value(const std::string& key, GgufValue* value) {
    uint32_t id = 0;
    SHOAL_TRY(cursor_.take(&id));
    SHOAL_ASSIGN(value->type, value_type(id));
    value->offset = start_ = cursor_.offset();
    if (value->type == GgufType::kArray) return read_array(value);
    value->element_type = value->type;
    if (value->type == GgufType::kString) {
      const uint64_t limit = key == "tokenizer.huggingface.json" ? Limits::kMaxTokenizerJsonBytes
                                                                 : Limits::kMaxStringBytes;
      SHOAL_TRY(read_string("string length", limit, &value->data));
      value->ends.push_back(value->data.size());
      return Status::ok();
    }
    return read_fixed(value);
  }

  Status read_array(GgufValue* value) {
    uint32_t id = 0;
    SHOAL_TRY(cursor_.take(&id));
    SHOAL_ASSIGN(value->element_type, value_type(id));
    if (value->element_type == GgufType::kArray) {
      return unsupported("arrays of arrays are not supported");
    }
    SHOAL_TRY(cursor_.take(&value->count));
    const bool strings = value->element_type == GgufType::kString;
    const uint64_t min_bytes = strings ? 8 : gguf_type_bytes(value->element_type);
    SHOAL_TRY(check_count("array length", value->count, Limits::kMaxArrayElements, min_bytes));
    if (!strings) return read_fixed(value);
    value->ends.reserve(value->count);
    for (uint64_t i = 0; i < value->count; ++i) {
      const uint64_t element_start = cursor_.offset();
      Status status = read_string("string length", Limits::kMaxArrayStringBytes, &value->data);
      if (!status) return status.annotate(fmt::format("element {} at offset {}", i, element_start));
      value->ends.push_back(value->data.size());
    }
    return Status::ok();
  }

  // value->count elements of a fixed size, which fit the file.
  Status read_fixed(GgufValue* value) {
    const uint64_t bytes = value->count * gguf_type_bytes(value->element_type);
    if (bytes > cursor_.remaining()) return cursor_.past_end(bytes);
    value->data.resize(bytes);
    SHOAL_TRY(cursor_.take(value->data.data(), bytes));
    if (value->element_type == GgufType::kBool) {
      const auto bad = std::ranges::find_if(value->data, [](char c) { return c != 0 && c != 1; });
      if (bad != value->data.end()) {
        return data_loss(
            fmt::format("a bool holds {}, neither 0 nor 1", static_cast<uint8_t>(*bad)));
      }
    }
    return Status::ok();
  }

  Status read_alignment() {
    constexpr std::string_view kKey = "general.alignment";
    const GgufValue* value = header_.metadata.find_value(kKey);
    if (value == nullptr) return Status::ok();
    if (value->type != GgufType::kUint32) {
      return header_.metadata.key_error(kKey, "expected uint32, found " + value->describe());
    }
    const auto alignment = static_cast<uint64_t>(value->int_at(0));
    if (!std::has_single_bit(alignment) || alignment < 8 || alignment > Limits::kMaxAlignment) {
      return header_.metadata.key_error(kKey, fmt::format("{} is not a power of two from 8 to {}",
                                                          alignment, Limits::kMaxAlignment));
    }
    header_.part.alignment = static_cast<uint32_t>(alignment);
    return Status::ok();
  }

  Status read_tensor_infos() {
    std::unordered_set<std::string> seen;
    for (uint64_t i = 0; i < n_tensors_; ++i) {
      start_ = cursor_.offset();
      TensorInfo tensor;
      SHOAL_TRY(at(fmt::format("tensor {}", i),
                   read_string("name length", Limits::kMaxTensorNameBytes, &tensor.name)));
      const std::string subject = fmt::format("tensor {} {}", i, in_quotes(tensor.name));
      SHOAL_TRY(at(subject, check_tensor_name(tensor.name)));
      if (!seen.insert(tensor.name).second) {
        return at(subject, data_loss("the tensor name appears twice"));
      }
      SHOAL_TRY(at(subject, read_shape_and_type(&tensor)));
      info_offsets_.push_back(start_);
      header_.tensors.push_back(std::move(tensor));
    }
    header_.part.header_bytes = cursor_.offset();
    return Status::ok();
  }

  static Status check_tensor_name(const std::string& name) {
    if (name.empty()) return data_loss("the name is empty");
    const bool clean = std::ranges::none_of(name, [](char c) {
      const auto byte = static_cast<unsigned char>(c);
      return byte < 0x20 || byte == 0x7f;
    });
    return clean ? Status::ok() : data_loss("the name contains a control character");
  }

  // dims, type and the offset within the data section (left in file_offset).
  Status read_shape_and_type(TensorInfo* tensor) {
    uint32_t n_dims = 0;
    SHOAL_TRY(cursor_.take(&n_dims));
    if (n_dims < 1 || n_dims > 4)
      return data_loss(fmt::format("{} dimensions; 1 to 4 are valid", n_dims));
    tensor->n_dims = static_cast<int>(n_dims);
    for (uint32_t d = 0; d < n_dims; ++d) {
      SHOAL_TRY(cursor_.take(&tensor->dims[d]));
      if (tensor->dims[d] < 1 || tensor->dims[d] > Limits::kMaxDim) {
        return data_loss(fmt::format("dimension {} is {}; 1 to 2^40 are valid", d,
                                     static_cast<int64_t>(tensor->dims[d])));
      }
    }
    uint32_t id = 0;
    SHOAL_TRY(cursor_.take(&id));
    SHOAL_ASSIGN(tensor->type, tensor_type_from_id(id));
    SHOAL_ASSIGN(tensor->bytes, tensor_bytes(tensor->type, std::span(tensor->dims).first(n_dims)));
    return cursor_.take(&tensor->file_offset);
  }

  // Turns offsets into absolute ones and checks them against the file's end.
  Status place_tensors() {
    GgufPart& part = header_.part;
    const uint64_t mask = part.alignment - 1;
    part.data_offset = (part.header_bytes + mask) & ~mask;
    uint64_t total = 0;
    for (size_t i = 0; i < header_.tensors.size(); ++i) {
      TensorInfo& tensor = header_.tensors[i];
      start_ = info_offsets_[i];
      const std::string subject = fmt::format("tensor {} {}", i, in_quotes(tensor.name));
      const uint64_t relative = tensor.file_offset;
      if ((relative & mask) != 0) {
        return at(subject, data_loss(fmt::format("data offset {} is not a multiple of {}", relative,
                                                 part.alignment)));
      }
      if (__builtin_add_overflow(total, tensor.bytes, &total) || (total >> 63) != 0) {
        return at(subject, data_loss("the sum of all tensor sizes overflows 63 bits"));
      }
      uint64_t end = 0;
      if (__builtin_add_overflow(part.data_offset, relative, &tensor.file_offset) ||
          __builtin_add_overflow(tensor.file_offset, tensor.bytes, &end) || end > part.size) {
        return at(subject, data_loss(fmt::format(
                               "{} bytes of data at offset {} of the data section (which starts at "
                               "{}) run past the end of the file ({} bytes); is it truncated?",
                               tensor.bytes, relative, part.data_offset, part.size)));
      }
    }
    return Status::ok();
  }

  // Gaps between tensors are tolerated, shared bytes are not.
  Status check_overlap() {
    std::vector<size_t> order(header_.tensors.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::ranges::sort(order, {}, [this](size_t i) { return header_.tensors[i].file_offset; });
    for (size_t k = 1; k < order.size(); ++k) {
      const TensorInfo& before = header_.tensors[order[k - 1]];
      const TensorInfo& tensor = header_.tensors[order[k]];
      if (before.file_offset + before.bytes <= tensor.file_offset) continue;
      start_ = info_offsets_[order[k]];
      return at(fmt::format("tensor {} {}", order[k], in_quotes(tensor.name)),
                data_loss(fmt::format("its data at offset {} overlaps tensor {} ({} bytes at {})",
                                      tensor.file_offset, in_quotes(before.name), before.bytes,
                                      before.file_offset)));
    }
    return Status::ok();
  }

  // The fewest bytes a key (length, 1 character, type, 1-byte value) or a tensor info takes.
  static constexpr uint64_t kMinKeyBytes = 8 + 1 + 4 + 1;
  static constexpr uint64_t kMinTensorBytes = 8 + 1 + 4 + 8 + 4 + 8;

  const ByteSource& source_;
  Cursor cursor_;
  GgufHeader header_;
  uint64_t n_tensors_ = 0;
  uint64_t n_keys_ = 0;
  uint64_t start_ = 0;                  // of what is being read, for messages
  std::vector<uint64_t> info_offsets_;  // of each tensor info, for messages
};

}  // namespace

Result<GgufHeader> read_gguf_header(const ByteSource& source) {
  return HeaderReader(source).read();
}

}  // namespace shoal
