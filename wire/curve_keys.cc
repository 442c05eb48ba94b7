#include "wire/curve_keys.h"

#include <sys/random.h>
#include <sys/stat.h>
#include <zmq.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <vector>

#include <fmt/core.h>

#include "base/check.h"
#include "base/file.h"
#include "base/log.h"
#include "base/quote.h"

namespace shoal::wire {
namespace {

constexpr uint64_t kMaxKeyFileBytes = 4096;
constexpr size_t kMaxWorkerName = 64;
constexpr size_t kMaxKeyFiles = 4096;
constexpr size_t kKeyBytes = 32;

// The pairs of zmq_curve(7), public and secret. They end up in deployments by copy and paste.
constexpr std::string_view kDocumentedKeys[] = {
    "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID", "D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs",
    "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7", "JTKVSB%%)wK0E.X)V>+}o?pNmC{O&4W4b!Ni{Lh6"};

Status check_key(std::string_view what, std::string_view key) {
  std::array<uint8_t, kKeyBytes> bytes;
  // zmq_z85_decode checks characters and length, and wants a C string.
  if (key.size() != kZ85KeyLength || key.find('\0') != std::string_view::npos ||
      zmq_z85_decode(bytes.data(), std::string(key).c_str()) == nullptr) {
    return invalid_argument(
        fmt::format("{}: not a CURVE key; expected {} characters of Z85 (see `shoal keygen`)", what,
                    kZ85KeyLength));
  }
  if (std::ranges::find(kDocumentedKeys, key) != std::end(kDocumentedKeys)) {
    return invalid_argument(
        fmt::format("{}: this key is printed in ZeroMQ's documentation, everybody has its secret; "
                    "make one with "
                    "`shoal keygen`",
                    what));
  }
  return Status::ok();
}

std::string_view trimmed(std::string_view line) {
  while (!line.empty() && (line.back() == '\r' || line.back() == ' ')) line.remove_suffix(1);
  while (!line.empty() && line.front() == ' ') line.remove_prefix(1);
  return line;
}

// Lines without comments ("# …": Z85 itself contains '#' but no blank) and empty ones.
std::vector<std::string_view> lines_of(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = trimmed(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    if (!line.empty() && line != "#" && !line.starts_with("# ")) lines.push_back(line);
  }
  return lines;
}

Status check_mode(const std::string& path, bool allow_open) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) {
    return not_found(fmt::format("{}: {}", path, std::strerror(errno)));
  }
  if ((info.st_mode & 077) == 0) return Status::ok();
  const std::string message =
      fmt::format("{}: mode {:04o} lets others read this secret key; run: chmod 600 {}", path,
                  info.st_mode & 07777, path);
  if (!allow_open) return failed_precondition(message);
  log_warn(message);
  return Status::ok();
}

}  // namespace

Result<CurveKeyPair> make_curve_keys() {
  char public_key[kZ85KeyLength + 1], secret_key[kZ85KeyLength + 1];
  if (zmq_curve_keypair(public_key, secret_key) != 0) {
    return unsupported("this libzmq was built without CURVE (libsodium)");
  }
  CurveKeyPair keys{public_key, secret_key};
  ::explicit_bzero(secret_key, sizeof(secret_key));
  return keys;
}

Status check_public_key(std::string_view what, std::string_view key) {
  return check_key(what, key);
}

Status check_key_pair(std::string_view what, const CurveKeyPair& keys) {
  SHOAL_TRY(check_key(fmt::format("{} (public)", what), keys.public_key));
  SHOAL_TRY(check_key(fmt::format("{} (secret)", what), keys.secret_key));
  char derived[kZ85KeyLength + 1];
  if (zmq_curve_public(derived, keys.secret_key.c_str()) != 0) {
    return unsupported("this libzmq was built without CURVE (libsodium)");
  }
  if (keys.public_key != derived) {
    return invalid_argument(
        fmt::format("{}: the public key does not belong to the secret key", what));
  }
  return Status::ok();
}

Status check_worker_name(std::string_view name) {
  const bool fits = !name.empty() && name.size() <= kMaxWorkerName && name.front() != '.' &&
                    std::ranges::all_of(name, [](char c) {
                      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                             (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
                    });
  if (fits && name != kCoordinatorKeyName) return Status::ok();
  return invalid_argument(
      fmt::format("{} is no worker name: 1 … {} of A-Z a-z 0-9 . _ -, no leading dot, not '{}'",
                  in_quotes(name), kMaxWorkerName, kCoordinatorKeyName));
}

std::string key_file_text(const std::string& name, const CurveKeyPair& keys) {
  return fmt::format("# Shoal: secret key of {}. Keep it private.\npublic {}\nsecret {}\n", name,
                     keys.public_key, keys.secret_key);
}

Status write_key_pair(const std::string& dir, const std::string& name, const CurveKeyPair& keys,
                      bool overwrite) {
  SHOAL_TRY(check_key_pair(name, keys));
  if (name != kCoordinatorKeyName) SHOAL_TRY(check_worker_name(name));
  if (::mkdir(dir.c_str(), 0700) != 0 && errno != EEXIST) {
    return unavailable(fmt::format("cannot make {}: {}", dir, std::strerror(errno)));
  }
  const std::string base = fmt::format("{}/{}", dir, name);
  for (const char* suffix : {".key", ".pub"}) {
    struct stat info {};
    if (!overwrite && ::lstat((base + suffix).c_str(), &info) == 0) {
      return Status(Code::kAlreadyExists,
                    base + suffix + ": exists already; remove it, or overwrite it on purpose");
    }
  }
  // Secret first: a public key without its secret would admit nobody, but look complete.
  SHOAL_TRY(write_file_atomically(base + ".key", key_file_text(name, keys), 0600));
  return write_file_atomically(base + ".pub", keys.public_key + "\n", 0644);
}

Result<CurveKeyPair> read_key_pair(const std::string& path, bool allow_open) {
  SHOAL_TRY(check_mode(path, allow_open));
  SHOAL_ASSIGN(const std::string text, read_text_file(path, kMaxKeyFileBytes));
  CurveKeyPair keys;
  for (const std::string_view line : lines_of(text)) {
    if (line.starts_with("public ")) {
      keys.public_key = trimmed(line.substr(7));
    } else if (line.starts_with("secret ")) {
      keys.secret_key = trimmed(line.substr(7));
    } else {  // the line is not quoted: it may be a secret
      return data_loss(path + ": a line that is neither 'public KEY' nor 'secret KEY'");
    }
  }
  SHOAL_TRY(check_key_pair(path, keys));
  return keys;
}

Result<std::string> read_public_key(const std::string& path) {
  SHOAL_ASSIGN(const std::string text, read_text_file(path, kMaxKeyFileBytes));
  const auto lines = lines_of(text);
  if (lines.size() != 1) return data_loss(path + ": expected one line with a public key");
  SHOAL_TRY(check_key(path, lines[0]));
  return std::string(lines[0]);
}

Result<std::map<std::string, std::string>> read_allowed_keys(const std::string& dir) {
  std::error_code error;
  std::vector<std::filesystem::path> files;
  for (auto entry = std::filesystem::directory_iterator(dir, error);
       !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
    if (entry->path().extension() == ".pub") files.push_back(entry->path());
    if (files.size() > kMaxKeyFiles) {
      return resource_exhausted(fmt::format("{}: more than {} keys", dir, kMaxKeyFiles));
    }
  }
  if (error) return not_found(fmt::format("{}: {}", dir, error.message()));
  std::sort(files.begin(), files.end());
  std::map<std::string, std::string> allowed;
  for (const auto& file : files) {
    const std::string name = file.stem().string();
    if (name == kCoordinatorKeyName) continue;
    SHOAL_TRY(check_worker_name(name).annotate(file.string()));
    SHOAL_ASSIGN(const std::string key, read_public_key(file.string()));
    const auto [other, inserted] = allowed.emplace(key, name);
    if (!inserted) {
      return invalid_argument(fmt::format("{}: the same key as {}'s; every worker needs its own",
                                          file.string(), other->second));
    }
  }
  return allowed;
}

std::string make_api_key() {
  constexpr std::string_view kDigits =
      "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
  constexpr size_t kLength = 43;  // ⌈256 / log2(62)⌉
  std::array<uint8_t, kKeyBytes> random;
  ssize_t got;
  do {  // reads up to 256 bytes are never short once the generator is seeded
    got = ::getrandom(random.data(), random.size(), 0);
  } while (got < 0 && errno == EINTR);
  SHOAL_CHECK(got == static_cast<ssize_t>(random.size()), "getrandom failed");
  // The bytes as one big-endian number, divided by 62 again and again.
  std::string digits(kLength, '0');
  for (size_t i = kLength; i-- > 0;) {
    unsigned remainder = 0;
    for (uint8_t& byte : random) {
      const unsigned value = remainder << 8 | byte;
      byte = static_cast<uint8_t>(value / 62);
      remainder = value % 62;
    }
    digits[i] = kDigits[remainder];
  }
  return "sk-shoal-" + digits;
}

}  // namespace shoal::wire
