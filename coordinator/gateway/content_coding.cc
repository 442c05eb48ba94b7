#include "coordinator/gateway/content_coding.h"

#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <limits>
#include <memory>
#include <new>

#include "base/check.h"

namespace shoal::gateway {
namespace {

constexpr size_t kStep = 64 << 10;

std::string_view without_spaces(std::string_view text) {
  const size_t first = text.find_first_not_of(" \t");
  if (first == text.npos) return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

std::optional<ContentCoding> coding_named(std::string_view text) {
  std::string name(text);
  for (char& c : name) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  if (name == "identity") return ContentCoding::kIdentity;
  if (name == "gzip" || name == "x-gzip") return ContentCoding::kGzip;
  if (name == "deflate") return ContentCoding::kDeflate;
  return std::nullopt;
}

// What a coding may decode: the whole of one stream, or of several gzip members in a row.
class Inflater {
 public:
  Inflater(ContentCoding coding, std::string_view body) : coding_(coding) {
    constexpr int kGzipOnly = 16;
    const int window = coding == ContentCoding::kGzip ? MAX_WBITS + kGzipOnly : MAX_WBITS;
    SHOAL_CHECK(body.size() <= std::numeric_limits<uInt>::max(), "bodies are at most 1 GiB");
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(body.data()));
    stream_.avail_in = static_cast<uInt>(body.size());
    if (inflateInit2(&stream_, window) != Z_OK) throw std::bad_alloc();
  }
  ~Inflater() { inflateEnd(&stream_); }
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;

  bool done() const { return done_; }

  // Up to out.size() bytes; how many.
  Result<size_t> read(std::array<char, kStep>& out) {
    stream_.next_out = reinterpret_cast<Bytef*>(out.data());
    stream_.avail_out = static_cast<uInt>(out.size());
    const int code = inflate(&stream_, Z_NO_FLUSH);
    const size_t count = out.size() - stream_.avail_out;
    if (code == Z_MEM_ERROR) throw std::bad_alloc();
    if (code == Z_STREAM_END) return end_of_stream(count);
    if (code == Z_OK && (count > 0 || stream_.avail_in > 0)) return count;
    if (code == Z_OK || code == Z_BUF_ERROR) return invalid_argument("it is cut off");
    return invalid_argument(stream_.msg != nullptr ? stream_.msg : "it is damaged");
  }

 private:
  Result<size_t> end_of_stream(size_t count) {
    done_ = stream_.avail_in == 0;
    if (done_) return count;
    if (coding_ != ContentCoding::kGzip) return invalid_argument("something follows its end");
    if (inflateReset(&stream_) != Z_OK) return internal_error("zlib cannot begin again");
    return count;
  }

  const ContentCoding coding_;
  z_stream stream_{};
  bool done_ = false;
};

}  // namespace

std::optional<ContentCoding> content_coding(const HttpRequest& head) {
  auto coding = ContentCoding::kIdentity;
  for (const auto& [name, value] : head.headers) {
    if (name != "content-encoding") continue;
    for (std::string_view rest = value; !rest.empty();) {
      const size_t comma = std::min(rest.find(','), rest.size());
      const std::string_view text = without_spaces(rest.substr(0, comma));
      rest.remove_prefix(std::min(comma + 1, rest.size()));
      if (text.empty()) continue;
      const auto next = coding_named(text);
      if (!next || (*next != ContentCoding::kIdentity && coding != ContentCoding::kIdentity)) {
        return std::nullopt;
      }
      if (*next != ContentCoding::kIdentity) coding = *next;
    }
  }
  return coding;
}

Result<std::string> decode_content(ContentCoding coding, std::string_view body, uint64_t limit,
                                   const std::function<bool(uint64_t)>& room) {
  SHOAL_CHECK(coding != ContentCoding::kIdentity, "there is something to decode");
  Inflater inflater(coding, body);
  std::string out;
  const auto buffer = std::make_unique<std::array<char, kStep>>();
  while (!inflater.done()) {
    SHOAL_ASSIGN(const size_t count, inflater.read(*buffer));
    const uint64_t size = out.size() + count;
    if (size > limit) {
      return out_of_range(fmt::format("the body exceeds {} bytes when decoded", limit));
    }
    if (!room(size)) return resource_exhausted("too many large requests at the same time");
    out.append(buffer->data(), count);
  }
  return out;
}

}  // namespace shoal::gateway
