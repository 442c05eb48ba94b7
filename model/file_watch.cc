#include "model/file_watch.h"

#include <sys/stat.h>

#include <cctype>
#include <utility>

#include <fmt/core.h>

#include "model/gguf.h"

namespace shoal {

std::vector<std::string> model_files(const std::string& path) {
  // "-00001-of-00003.gguf": the numbers have five digits.
  constexpr size_t kSuffix = 20, kTotal = 10, kDigits = 5;
  if (path.size() <= kSuffix) return {path};
  const std::string prefix = path.substr(0, path.size() - kSuffix);
  const std::string suffix = path.substr(path.size() - kSuffix);
  uint64_t total = 0;
  for (const char c : suffix.substr(kTotal, kDigits)) {
    if (std::isdigit(static_cast<unsigned char>(c)) == 0) return {path};
    total = total * 10 + static_cast<uint64_t>(c - '0');
  }
  if (total == 0 || total > GgufLimits::kMaxParts) return {path};
  const auto part = [&](uint64_t number) {
    return fmt::format("{}-{:05}-of-{:05}.gguf", prefix, number, total);
  };
  if (path != part(1)) return {path};
  std::vector<std::string> paths;
  for (uint64_t number = 1; number <= total; ++number) paths.push_back(part(number));
  return paths;
}

std::vector<FileStamp> stamp_files(const std::vector<std::string>& paths) {
  std::vector<FileStamp> stamps;
  for (const std::string& path : paths) {
    FileStamp& stamp = stamps.emplace_back();
    struct stat info {};
    if (::stat(path.c_str(), &info) != 0) continue;
    stamp = {true, info.st_dev, info.st_ino, static_cast<uint64_t>(info.st_size),
             int64_t{info.st_mtim.tv_sec} * 1'000'000'000 + info.st_mtim.tv_nsec};
  }
  return stamps;
}

void FileWatch::begin(std::vector<std::string> paths, std::vector<FileStamp> seen) {
  paths_ = std::move(paths);
  failed_ = std::move(seen);
  last_ = failed_;
  next_ = {};
}

bool FileWatch::changed(TimePoint now) {
  if (paths_.empty() || now < next_) return false;
  next_ = now + kInterval;
  std::vector<FileStamp> stamps = stamp_files(paths_);
  const bool still = stamps == last_;
  last_ = std::move(stamps);
  if (!still || last_ == failed_) return false;
  end();
  return true;
}

}  // namespace shoal
