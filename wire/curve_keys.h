// Long-term CURVE keys of the control plane and API keys of the HTTP side, and the files they live
// in. Keys are text: 32 bytes as Z85, 40 characters (ZeroMQ RFC 32). Thread-safe, stateless.
//
// A folder of keys, as `shoal keygen` writes it:
//   coordinator.key   mode 0600: "public <Z85>" and "secret <Z85>", one a line, "# " comments
//   coordinator.pub   the public key alone, on one line; what workers are given
//   NAME.key, NAME.pub  the same for a worker; the coordinator admits every NAME.pub but its own
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "base/status.h"

namespace shoal::wire {

inline constexpr size_t kZ85KeyLength = 40;
inline constexpr std::string_view kCoordinatorKeyName = "coordinator";

struct CurveKeyPair {
  std::string public_key;  // Z85
  std::string secret_key;  // Z85; never logged
};

// From the operating system's generator (libsodium inside libzmq).
Result<CurveKeyPair> make_curve_keys();

// Z85 of 32 bytes, and not one of the key pairs printed in ZeroMQ's documentation, whose secrets
// everybody knows. `what` starts the error: "workers[2].public_key".
Status check_public_key(std::string_view what, std::string_view key);
// As above, and the secret belongs to the public key.
Status check_key_pair(std::string_view what, const CurveKeyPair& keys);

// A worker's name, which is also its key's file name: [A-Za-z0-9._-]{1,64}, not starting with a
// dot, not "coordinator".
Status check_worker_name(std::string_view name);

// What NAME.key holds.
std::string key_file_text(const std::string& name, const CurveKeyPair& keys);

// Writes DIR/NAME.key (0600) and DIR/NAME.pub (0644), each atomically; makes DIR (0700) if needed.
// kAlreadyExists if either is there and `overwrite` is not set: a lost key locks a worker out.
Status write_key_pair(const std::string& dir, const std::string& name, const CurveKeyPair& keys,
                      bool overwrite = false);

// Reads a .key file. A file that group or others may read is refused (kFailedPrecondition, with
// the chmod to run), or only logged as a warning if `allow_open` is set.
Result<CurveKeyPair> read_key_pair(const std::string& path, bool allow_open = false);

// Reads a .pub file.
Result<std::string> read_public_key(const std::string& path);

// Public key → worker name, from every DIR/*.pub except coordinator.pub. Two names with one key
// are an error: the key is the identity.
Result<std::map<std::string, std::string>> read_allowed_keys(const std::string& dir);

// "sk-shoal-" and 32 random bytes in base 62 (43 digits, fixed width).
std::string make_api_key();

}  // namespace shoal::wire
