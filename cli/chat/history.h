// What was typed, over many runs: a file of JSON strings, one a line, in the user's state folder.
// It is a convenience: that it cannot be read or written is never an error.
#pragma once

#include <string>
#include <vector>

namespace shoal::chat {

class History {
 public:
  // `path` empty: nothing is kept. Several programs may have one file: each appends.
  explicit History(std::string path) : path_(std::move(path)) {}

  // $XDG_STATE_HOME/shoal/chat_history, or that under ~/.local/state; empty where neither is an
  // absolute path, or there is no such home.
  static std::string default_path();

  // At most kMaxEntries, oldest first. A file that has outgrown its bounds is rewritten.
  std::vector<std::string> load();
  // Appends. Mode 0600; folders that are missing are made, for the user alone.
  void add(const std::string& entry);

  static constexpr size_t kMaxEntries = 1000;
  static constexpr size_t kMaxEntryBytes = 64 << 10;  // longer ones are not kept
  static constexpr size_t kMaxFileBytes = 4 << 20;

 private:
  std::string path_;
};

}  // namespace shoal::chat
