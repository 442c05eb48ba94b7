#include "parallel/collective/directory_store.h"

#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <iterator>
#include <thread>

namespace shoal {

Result<std::string> DirectoryStore::path_of(const std::string& key) const {
  const bool clean =
      key.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-") ==
      std::string::npos;
  if (key.empty() || key.size() > 200 || key[0] == '.' || !clean) {
    return invalid_argument("'" + key + "' cannot be a key of a directory store");
  }
  return directory_ + "/" + key;
}

Status DirectoryStore::set(const std::string& key, const std::string& value) {
  SHOAL_ASSIGN(const std::string path, path_of(key));
  const std::string part = directory_ + "/." + key + "." + std::to_string(getpid());
  {
    std::ofstream out(part, std::ios::binary);
    out.write(value.data(), static_cast<std::streamsize>(value.size()));
    if (!out.flush()) return unavailable("cannot write " + part);
  }
  if (std::rename(part.c_str(), path.c_str()) != 0) return unavailable("cannot write " + path);
  return Status::ok();
}

Result<std::string> DirectoryStore::get(const std::string& key, TimePoint deadline) {
  SHOAL_ASSIGN(const std::string path, path_of(key));
  for (;;) {
    if (std::ifstream in(path, std::ios::binary); in) {
      return std::string(std::istreambuf_iterator<char>(in), {});
    }
    if (std::chrono::steady_clock::now() >= deadline) {
      return deadline_exceeded("nobody set '" + key + "' in " + directory_);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

}  // namespace shoal
