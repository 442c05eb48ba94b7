// From YAML, SHOAL_* variables and flags to a Config. All of it passes the same table of keys
// (config/schema.h); an error says where the value stands, the key, and what was expected:
//   cluster.yaml:12:9: kv.type: 'f61' is not one of f16, f32
// Unknown and duplicate keys are errors. Pure except for load().
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "config/config.h"

namespace shoal::config {

// A configuration and where its values came from, for errors between keys.
struct Settings {
  Config config;
  std::map<std::string, std::string> origins;  // key → "cluster.yaml:12:9", "SHOAL_KV_TYPE", "--kv"
};

// Every value in range, every key known; not yet consistent (check()).
Result<Settings> parse(std::string_view text, const std::string& name);

struct Override {
  std::string key;     // "kv.type"; also "coordinator.listen.host" and "….port"
  std::string value;   // as in YAML, without quotes; lists as "1,2"
  std::string origin;  // what an error names: "SHOAL_KV_TYPE", "--kv-type"
};
// Later ones win. Workers cannot be overridden.
Status apply_overrides(const std::vector<Override>& overrides, Settings* settings);

// The overrides among environment variables: SHOAL_KV_TYPE is kv.type, SHOAL_COORDINATOR_LISTEN is
// coordinator.listen. A variable that begins like a section but names no key, or that is a slip of
// the keys away from one, is an error; other SHOAL_ variables are left alone. `environment`: name →
// value.
Result<std::vector<Override>> environment_overrides(
    const std::map<std::string, std::string>& environment);
std::map<std::string, std::string> process_environment();  // the SHOAL_* part of environ

// What must hold between keys. The whole of it is what `shoal --check` checks.
Status check(const Settings& settings);

// file < environment < flags, then check(). `path` may be empty: defaults.
Result<Config> load(const std::string& path, const std::map<std::string, std::string>& environment,
                    const std::vector<Override>& flags);

// The same with this process's environment, and flags as key → value.
Result<Config> load(const std::string& path, const std::map<std::string, std::string>& flags);

// For help and documentation: every key with its default, range and explanation; workers' keys as
// "workers[].share".
struct KeyDoc {
  std::string key, default_value, expected, doc, variable;  // variable: "SHOAL_KV_TYPE" or empty
};
std::vector<KeyDoc> key_docs();

}  // namespace shoal::config
