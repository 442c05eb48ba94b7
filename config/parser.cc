#include "config/parser.h"

#include <unistd.h>

#include <algorithm>
#include <optional>
#include <set>

#include <fmt/core.h>

#include "base/file.h"
#include "base/host.h"
#include "base/quote.h"
#include "config/schema.h"
#include "config/values.h"
#include "config/yaml_tree.h"

namespace shoal::config {
namespace {

using Kind = YamlNode::Kind;

// "cluster.yaml:12:9: kv.type: …"
Status error_at(const std::string& name, Place place, std::string_view key, std::string_view what) {
  return invalid_argument(fmt::format("{}: {}: {}", at(name, place), key, what));
}

std::string kind_name(const YamlNode& node) {
  switch (node.kind) {
    case Kind::kNull:
      return "nothing";
    case Kind::kScalar:
      return in_quotes(node.scalar);
    case Kind::kList:
      return "a list";
    case Kind::kMap:
      return "a map";
  }
  return "?";
}

// What may follow `prefix` ("" or "coordinator.") in the table: "coordinator", "listen", ….
std::vector<std::string_view> children(std::string_view prefix) {
  std::vector<std::string_view> names;
  for (const auto& field : config_fields()) {
    if (!field.key.starts_with(prefix)) continue;
    const std::string_view rest = field.key.substr(prefix.size());
    const std::string_view name = rest.substr(0, rest.find('.'));
    if (std::ranges::find(names, name) == names.end()) names.push_back(name);
  }
  if (prefix.empty()) names.push_back("workers");
  return names;
}

std::string unknown_key(std::string_view word, const std::vector<std::string_view>& known) {
  const std::string_view guess = nearest(word, known);
  if (!guess.empty())
    return fmt::format("unknown key {}; did you mean '{}'?", in_quotes(word), guess);
  std::string list;
  for (const auto name : known) list += (list.empty() ? "" : ", ") + std::string(name);
  return fmt::format("unknown key {}; known here: {}", in_quotes(word), list);
}

class Reader {
 public:
  Reader(const std::string& name, Settings* settings) : name_(name), settings_(settings) {}

  // A map of the file at `prefix` ("" or "kv.").
  Status section(const YamlNode& node, const std::string& prefix) {
    if (node.kind == Kind::kNull) return Status::ok();  // "kv:" with everything commented out
    if (node.kind != Kind::kMap) {
      return error_at(name_, node.place, shown(prefix),
                      fmt::format("expected a map of keys, got {}", kind_name(node)));
    }
    const auto known = children(prefix);
    for (const auto& [key, value] : node.entries) {
      if (std::ranges::find(known, key.scalar) == known.end()) {
        return error_at(name_, key.place, shown(prefix), unknown_key(key.scalar, known));
      }
      const std::string path = prefix + key.scalar;
      settings_->origins[path] = at(name_, value.place);
      if (path == "workers") {
        SHOAL_TRY(workers(value));
      } else if (const auto* field = find(path)) {
        SHOAL_TRY(set(*field, path, key, value, &settings_->config));
      } else {
        SHOAL_TRY(section(value, path + "."));
      }
    }
    return Status::ok();
  }

 private:
  static std::string shown(const std::string& prefix) {
    return prefix.empty() ? "configuration" : prefix.substr(0, prefix.size() - 1);
  }
  static const Field<Config>* find(std::string_view key) {
    const auto found = std::ranges::find(config_fields(), key, &Field<Config>::key);
    return found == config_fields().end() ? nullptr : &*found;
  }

  template <class T>
  Status set(const Field<T>& field, const std::string& path, const YamlNode& key,
             const YamlNode& value, T* object) {
    if (value.kind == Kind::kNull) {
      return error_at(
          name_, key.place, path,
          fmt::format("has no value; expected {}, or leave the key out", field.expected));
    }
    if (field.shape == Shape::kList && value.kind == Kind::kList) {
      return set_list(field, path, value, object);
    }
    if (value.kind != Kind::kScalar) {
      return error_at(name_, value.place, path,
                      fmt::format("expected {}, got {}", field.expected, kind_name(value)));
    }
    const Status status = field.set(*object, value.scalar);
    return status ? status : error_at(name_, value.place, path, status.message());
  }

  template <class T>
  Status set_list(const Field<T>& field, const std::string& path, const YamlNode& value,
                  T* object) {
    std::string joined;
    for (const YamlNode& item : value.items) {
      if (item.kind != Kind::kScalar || item.scalar.empty() ||
          item.scalar.find(',') != std::string::npos) {
        return error_at(name_, item.place, path,
                        fmt::format("expected {}, got {}", field.expected, kind_name(item)));
      }
      T trial{};  // for the place of the one entry that is wrong
      const Status status = field.set(trial, item.scalar);
      if (!status) return error_at(name_, item.place, path, status.message());
      joined += (joined.empty() ? "" : ",") + item.scalar;
    }
    const Status status = field.set(*object, joined);
    return status ? status : error_at(name_, value.place, path, status.message());
  }

  Status workers(const YamlNode& node) {
    if (node.kind == Kind::kNull) return Status::ok();
    if (node.kind != Kind::kList) {
      return error_at(name_, node.place, "workers",
                      fmt::format("expected a list, got {}", kind_name(node)));
    }
    if (node.items.size() > kMaxWorkers) {
      return error_at(name_, node.place, "workers",
                      fmt::format("{} entries; at most {}", node.items.size(), kMaxWorkers));
    }
    std::vector<std::string_view> known;
    for (const auto& field : worker_fields()) known.push_back(field.key);
    for (size_t i = 0; i < node.items.size(); ++i) {
      const YamlNode& item = node.items[i];
      const std::string path = fmt::format("workers[{}]", i);
      if (item.kind != Kind::kMap) {
        return error_at(name_, item.place, path,
                        fmt::format("expected a map of keys, got {}", kind_name(item)));
      }
      settings_->origins[path] = at(name_, item.place);
      Worker worker;
      for (const auto& [key, value] : item.entries) {
        const auto field = std::ranges::find(worker_fields(), key.scalar, &Field<Worker>::key);
        if (field == worker_fields().end()) {
          return error_at(name_, key.place, path, unknown_key(key.scalar, known));
        }
        settings_->origins[fmt::format("{}.{}", path, key.scalar)] = at(name_, value.place);
        SHOAL_TRY(set(*field, fmt::format("{}.{}", path, key.scalar), key, value, &worker));
      }
      if (worker.name.empty()) return error_at(name_, item.place, path, "needs a name");
      settings_->config.workers.push_back(std::move(worker));
    }
    return Status::ok();
  }

  const std::string& name_;
  Settings* settings_;
};

std::string variable_of(std::string_view key) {
  std::string name = "SHOAL_";
  for (const char c : key) {
    name += c == '.' ? '_' : static_cast<char>(c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c);
  }
  return name;
}

// Read by commands themselves.
constexpr std::string_view kOtherVariables[] = {"SHOAL_LOG_LEVEL", "SHOAL_WORKER_COORDINATOR",
                                                "SHOAL_API_KEY"};

// "8080_TCP", "8080_TCP_ADDR": what stands behind "_PORT_" in a variable of a Service.
bool is_port_of_service(std::string_view rest) {
  size_t digits = 0;
  while (digits < rest.size() && rest[digits] >= '0' && rest[digits] <= '9') ++digits;
  if (digits == 0) return false;
  rest.remove_prefix(digits);
  for (const std::string_view protocol : {"_TCP", "_UDP", "_SCTP"}) {
    if (!rest.starts_with(protocol)) continue;
    const std::string_view part = rest.substr(protocol.size());
    return part.empty() || part == "_PROTO" || part == "_PORT" || part == "_ADDR";
  }
  return false;
}

// Kubernetes sets these in every container for each Service: of one named shoal-coordinator
// SHOAL_COORDINATOR_SERVICE_HOST, …_SERVICE_PORT[_NAME], …_PORT (an URL), …_PORT_8080_TCP[_ADDR].
bool is_set_by_kubernetes(std::string_view name, std::string_view value) {
  if (name.ends_with("_SERVICE_HOST") || name.ends_with("_SERVICE_PORT") ||
      name.find("_SERVICE_PORT_") != std::string_view::npos) {
    return true;
  }
  const bool url =
      value.starts_with("tcp://") || value.starts_with("udp://") || value.starts_with("sctp://");
  if (name.ends_with("_PORT") && url) return true;
  for (size_t at = name.find("_PORT_"); at != std::string_view::npos;
       at = name.find("_PORT_", at + 1)) {
    if (is_port_of_service(name.substr(at + 6))) return true;
  }
  return false;
}

// "coordinator.listen.host" and "coordinator.listen.port": what flags set on their own.
std::optional<Status> set_half_of_listen(const Override& override, Settings* settings) {
  HostPort& listen = settings->config.coordinator.listen;
  if (override.key == "coordinator.listen.host") {
    auto host = parse_host(override.value);
    if (!host) return host.status();
    listen.host = std::move(host).value();
    settings->origins["coordinator.listen"] = override.origin;
    return Status::ok();
  }
  if (override.key == "coordinator.listen.port") {
    const auto port = parse_integer(override.value);
    if (!port || *port > 65535) {
      return invalid_argument(fmt::format("{} is no port in 0 … 65535", in_quotes(override.value)));
    }
    listen.port = static_cast<uint16_t>(*port);
    return Status::ok();
  }
  return {};
}

}  // namespace

Result<Settings> parse(std::string_view text, const std::string& name) {
  SHOAL_ASSIGN(const YamlNode root, read_yaml(text, name));
  Settings settings;
  SHOAL_TRY(Reader(name, &settings).section(root, ""));
  return settings;
}

Status apply_overrides(const std::vector<Override>& overrides, Settings* settings) {
  for (const Override& override : overrides) {
    if (const auto status = set_half_of_listen(override, settings)) {
      if (!status->is_ok()) return status->annotate(override.origin);
      continue;
    }
    const auto field = std::ranges::find(config_fields(), override.key, &Field<Config>::key);
    if (field == config_fields().end()) {
      std::vector<std::string_view> known;
      for (const auto& candidate : config_fields()) known.push_back(candidate.key);
      const std::string_view guess = nearest(override.key, known);
      return invalid_argument(
          guess.empty()
              ? fmt::format("{}: unknown key {}", override.origin, in_quotes(override.key))
              : fmt::format("{}: unknown key {}; did you mean '{}'?", override.origin,
                            in_quotes(override.key), guess));
    }
    const Status status = field->set(settings->config, override.value);
    if (!status) {
      return invalid_argument(
          fmt::format("{}: {}: {}", override.origin, override.key, status.message()));
    }
    settings->origins[override.key] = override.origin;
  }
  return Status::ok();
}

Result<std::vector<Override>> environment_overrides(
    const std::map<std::string, std::string>& environment) {
  std::vector<Override> overrides;
  std::vector<std::string> names;
  for (const auto& field : config_fields()) names.push_back(variable_of(field.key));
  std::vector<std::string_view> known(names.begin(), names.end());
  known.insert(known.end(), std::begin(kOtherVariables), std::end(kOtherVariables));
  std::set<std::string> sections;  // "SHOAL_KV_"
  for (const auto& field : config_fields()) {
    sections.insert(variable_of(field.key.substr(0, field.key.find('.'))) + "_");
  }
  for (const auto& [name, value] : environment) {
    if (is_set_by_kubernetes(name, value)) continue;
    const auto found = std::ranges::find(names, name);
    if (found != names.end()) {
      const auto index = static_cast<size_t>(found - names.begin());
      overrides.push_back({std::string(config_fields()[index].key), value, name});
      continue;
    }
    if (std::ranges::find(kOtherVariables, name) != std::end(kOtherVariables)) continue;
    const bool ours = std::ranges::any_of(
        sections, [&name](const std::string& section) { return name.starts_with(section); });
    const std::string_view guess = nearest(name, known);
    if (!ours && guess.empty()) continue;
    return invalid_argument(
        guess.empty()
            ? fmt::format("{}: no key of the configuration has this name", excerpt(name))
            : fmt::format("{}: unknown variable; did you mean {}?", excerpt(name), guess));
  }
  return overrides;
}

std::map<std::string, std::string> process_environment() {
  std::map<std::string, std::string> found;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    const size_t equals = text.find('=');
    if (!text.starts_with("SHOAL_") || equals == std::string_view::npos) continue;
    found.emplace(text.substr(0, equals), text.substr(equals + 1));
  }
  return found;
}

Result<Config> load(const std::string& path, const std::map<std::string, std::string>& environment,
                    const std::vector<Override>& flags) {
  Settings settings;
  if (!path.empty()) {
    SHOAL_ASSIGN(const std::string text, read_text_file(path, kMaxDocumentBytes));
    SHOAL_ASSIGN(settings, parse(text, path));
  }
  SHOAL_ASSIGN(const std::vector<Override> from_environment, environment_overrides(environment));
  SHOAL_TRY(apply_overrides(from_environment, &settings));
  SHOAL_TRY(apply_overrides(flags, &settings));
  SHOAL_TRY(check(settings));
  return std::move(settings.config);
}

Result<Config> load(const std::string& path, const std::map<std::string, std::string>& flags) {
  std::vector<Override> overrides;
  for (const auto& [key, value] : flags) overrides.push_back({key, value, "command line"});
  return load(path, process_environment(), overrides);
}

std::vector<KeyDoc> key_docs() {
  std::vector<KeyDoc> docs;
  const Config config;
  for (const auto& field : config_fields()) {
    docs.push_back({std::string(field.key), field.get(config), std::string(field.expected),
                    std::string(field.doc), variable_of(field.key)});
  }
  const Worker worker;
  for (const auto& field : worker_fields()) {
    docs.push_back({fmt::format("workers[].{}", field.key), field.get(worker),
                    std::string(field.expected), std::string(field.doc), ""});
  }
  return docs;
}

}  // namespace shoal::config
