#include "cli/chat/history.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include <nlohmann/json.hpp>

#include "base/descriptor.h"
#include "base/file.h"

namespace shoal::chat {
namespace {

using Json = nlohmann::json;

std::string as_line(const std::string& entry) {
  return Json(entry).dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

// The last bytes of a regular file, from the start of a line; whether something was left out.
std::string tail_of(const std::string& path, bool* cut) {
  const auto file = File::open(path);
  if (!file) return "";
  const uint64_t bytes = std::min<uint64_t>(file->size(), History::kMaxFileBytes);
  std::string text(bytes, '\0');
  const std::span<uint8_t> out(reinterpret_cast<uint8_t*>(text.data()), text.size());
  if (!file->read_at(file->size() - bytes, out)) return "";
  *cut = bytes < file->size();
  if (*cut) text.erase(0, text.find('\n') + 1);
  return text;
}

}  // namespace

std::string History::default_path() {
  const auto absolute = [](const char* name) -> std::string {
    const char* value = std::getenv(name);
    return value != nullptr && value[0] == '/' ? value : "";
  };
  if (const std::string state = absolute("XDG_STATE_HOME"); !state.empty())
    return state + "/shoal/chat_history";
  const std::string home = absolute("HOME");
  std::error_code ignored;
  if (home.empty() || !std::filesystem::is_directory(home, ignored)) return "";
  return home + "/.local/state/shoal/chat_history";
}

std::vector<std::string> History::load() {
  std::vector<std::string> entries;
  if (path_.empty()) return entries;
  bool cut = false;
  const std::string text = tail_of(path_, &cut);
  for (size_t at = 0; at < text.size();) {
    size_t end = text.find('\n', at);
    if (end == std::string::npos) end = text.size();
    const Json json = Json::parse(text.begin() + static_cast<std::ptrdiff_t>(at),
                                  text.begin() + static_cast<std::ptrdiff_t>(end), nullptr, false);
    if (json.is_string()) entries.push_back(json.get<std::string>());
    at = end + 1;
  }
  // Rewritten only now and then: others may append at the same time, and what they do is then lost.
  cut = cut || entries.size() > 2 * kMaxEntries;
  if (entries.size() > kMaxEntries)
    entries.erase(entries.begin(), entries.end() - static_cast<std::ptrdiff_t>(kMaxEntries));
  if (cut) {
    std::string kept;
    size_t first = entries.size();
    for (size_t bytes = 0; first > 0; --first) {
      bytes += as_line(entries[first - 1]).size();
      if (bytes > kMaxFileBytes / 2) break;
    }
    for (size_t i = first; i < entries.size(); ++i) kept += as_line(entries[i]);
    (void)write_file_atomically(path_, kept, 0600);
  }
  return entries;
}

void History::add(const std::string& entry) {
  if (path_.empty() || entry.empty() || entry.size() > kMaxEntryBytes) return;
  const std::filesystem::path folder = std::filesystem::path(path_).parent_path();
  std::error_code ignored;
  std::filesystem::create_directories(folder.parent_path(), ignored);
  ::mkdir(folder.c_str(), 0700);
  const Descriptor file(::open(
      path_.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0600));
  struct stat info {};
  if (!file.valid() || ::fstat(file.get(), &info) != 0 || !S_ISREG(info.st_mode)) return;
  if ((info.st_mode & 077) != 0) ::fchmod(file.get(), 0600);
  const std::string line = as_line(entry);
  (void)!::write(file.get(), line.data(), line.size());
}

}  // namespace shoal::chat
