// What begins with a slash.
#pragma once

#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::chat {

class Session;

class Commands {
 public:
  explicit Commands(Session& session) : session_(session) {}

  // kMessage: `*text` is a message, without the slash that doubled its first one. kAgain: a
  // question is open.
  enum class Next { kMessage, kAgain, kNothing, kLeave };
  Next run(std::string* text);

  static std::vector<std::string> names();  // "/clear" …

 private:
  struct Entry;
  static const std::vector<Entry>& all();

  Next help(std::string_view);
  Next clear(std::string_view);
  Next system(std::string_view text);
  Next model(std::string_view name);
  Next save(std::string_view path);
  Next retry(std::string_view);
  Next history(std::string_view);
  Next set(std::string_view rest);
  Next stats(std::string_view what);
  Next leave(std::string_view) { return Next::kLeave; }
  void say(std::string_view text);

  Session& session_;
  std::set<std::string> saved_;  // files of this session, which it may overwrite
};

}  // namespace shoal::chat
