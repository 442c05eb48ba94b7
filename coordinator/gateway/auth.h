// API keys: who may use the HTTP side. Keys are kept as hashes and compared in constant time; they
// are never logged and never part of an error.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "coordinator/gateway/http.h"

namespace shoal::gateway {

class ApiKeys {
 public:
  ApiKeys() = default;  // no keys: everybody is let in

  // One key per line (16 to 256 printable characters), '#' starts a comment line, empty lines are
  // skipped. Refuses a file without any key and, unless `allow_open`, one that others may read or
  // write.
  static Result<ApiKeys> load(const std::string& path, bool allow_open = false);
  static Result<ApiKeys> from_keys(const std::vector<std::string>& keys);

  bool empty() const { return hashes_.empty(); }
  size_t size() const { return hashes_.size(); }
  // Takes the same time whichever key it is, and whether it is one.
  bool accepts(std::string_view key) const { return find(key).has_value(); }
  // True without keys, or when "Authorization: Bearer KEY" or "X-API-Key: KEY" holds one of them.
  bool accepts(const HttpRequest& request) const { return identify(request).has_value(); }
  // Which of the keys, by number; 0 without keys. Nothing if the request is not accepted.
  std::optional<size_t> identify(const HttpRequest& request) const;

 private:
  using Hash = std::array<uint8_t, 32>;
  static Hash hash(std::string_view key);
  std::optional<size_t> find(std::string_view key) const;
  std::vector<Hash> hashes_;
};

// kFailedPrecondition when `host` can be reached from other machines and nothing guards it.
Status check_exposure(const std::string& host, const ApiKeys& keys, bool allow_unauthenticated);

}  // namespace shoal::gateway
