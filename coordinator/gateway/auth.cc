#include "coordinator/gateway/auth.h"

#include <fmt/format.h>
#include <sodium.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/file.h"
#include "base/host.h"
#include "base/quote.h"
#include "coordinator/gateway/http_server.h"

namespace shoal::gateway {
namespace {

constexpr size_t kMinKeyBytes = 16;  // anything shorter can be guessed
constexpr size_t kMaxKeyBytes = 256;
constexpr uint64_t kMaxFileBytes = 1 << 20;

Status check_key(std::string_view key) {
  if (key.size() < kMinKeyBytes || key.size() > kMaxKeyBytes) {
    return invalid_argument(fmt::format("an API key must have {} to {} characters, not {}",
                                        kMinKeyBytes, kMaxKeyBytes, key.size()));
  }
  const bool printable =
      std::all_of(key.begin(), key.end(), [](char c) { return c > ' ' && c < 127; });
  return printable ? Status::ok()
                   : invalid_argument("an API key may hold printable ASCII without spaces only");
}

std::string_view trim(std::string_view text) {
  const size_t first = text.find_first_not_of(" \t\r");
  if (first == text.npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r") - first + 1);
}

bool starts_with_bearer(std::string_view text) {
  constexpr std::string_view kBearer = "bearer ";
  if (text.size() < kBearer.size()) return false;
  for (size_t i = 0; i < kBearer.size(); ++i) {
    const char c = text[i] >= 'A' && text[i] <= 'Z' ? static_cast<char>(text[i] + 32) : text[i];
    if (c != kBearer[i]) return false;
  }
  return true;
}

}  // namespace

ApiKeys::Hash ApiKeys::hash(std::string_view key) {
  Hash out;
  crypto_generichash(out.data(), out.size(), reinterpret_cast<const unsigned char*>(key.data()),
                     key.size(), nullptr, 0);
  return out;
}

Result<ApiKeys> ApiKeys::from_keys(const std::vector<std::string>& keys) {
  if (sodium_init() < 0) return internal_error("libsodium does not start");
  ApiKeys out;
  for (const std::string& key : keys) {
    SHOAL_TRY(check_key(key));
    out.hashes_.push_back(hash(key));
  }
  return out;
}

Result<ApiKeys> ApiKeys::load(const std::string& path, bool allow_open) {
  struct stat info {};
  if (stat(path.c_str(), &info) != 0) {
    return not_found(fmt::format("API key file {}: {}", excerpt(path), std::strerror(errno)));
  }
  // Group read is allowed: that is how Kubernetes mounts a secret for a non-root user.
  if (!allow_open && (info.st_mode & (S_IWGRP | S_IRWXO)) != 0) {
    return failed_precondition(fmt::format(
        "API key file {} has mode {:o}: others can read or write it; run chmod 600 on it",
        excerpt(path), info.st_mode & 0777));
  }
  SHOAL_ASSIGN(const std::string text, read_text_file(path, kMaxFileBytes));
  std::vector<std::string> keys;
  size_t line_number = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view line = trim(std::string_view(text).substr(begin, end - begin));
    begin = end + 1;
    ++line_number;
    if (line.empty() || line.front() == '#') continue;
    SHOAL_TRY(check_key(line).annotate(fmt::format("{}:{}", excerpt(path), line_number)));
    keys.emplace_back(line);
  }
  if (keys.empty())
    return invalid_argument(fmt::format("API key file {} holds no key", excerpt(path)));
  return from_keys(keys);
}

std::optional<size_t> ApiKeys::find(std::string_view key) const {
  const Hash candidate = hash(key);
  std::optional<size_t> found;
  for (size_t i = 0; i < hashes_.size(); ++i) {
    if (sodium_memcmp(hashes_[i].data(), candidate.data(), candidate.size()) == 0) found = i;
  }
  return found;
}

std::optional<size_t> ApiKeys::identify(const HttpRequest& request) const {
  if (empty()) return 0;
  const std::string_view authorization = request.header("authorization");
  if (starts_with_bearer(authorization)) {
    if (const auto index = find(trim(authorization.substr(7)))) return index;
  }
  const std::string_view key = request.header("x-api-key");
  return key.empty() ? std::nullopt : find(key);
}

Status check_exposure(const std::string& host, const ApiKeys& keys, bool allow_unauthenticated) {
  if (is_loopback(host) || !keys.empty() || allow_unauthenticated) return Status::ok();
  return failed_precondition(fmt::format(
      "listening on {} would let anyone who reaches this machine use the model: give API keys "
      "(shoal keygen makes them), listen on 127.0.0.1, or allow unauthenticated access explicitly",
      host.empty() ? "0.0.0.0" : host));
}

}  // namespace shoal::gateway
