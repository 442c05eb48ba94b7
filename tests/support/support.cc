#include "tests/support/support.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "base/check.h"

namespace shoal::testing {

namespace fs = std::filesystem;

std::string source_dir() { return SHOAL_SOURCE_DIR; }
std::string binary_dir() { return SHOAL_BINARY_DIR; }

std::optional<std::string> shared_path(const std::string& relative) {
  const char* configured = std::getenv("SHOAL_SHARED");
  const fs::path root = configured ? fs::path(configured) : fs::path(source_dir()) / ".." / "shared";
  const fs::path path = root / relative;
  std::error_code error;
  if (!fs::exists(path, error)) return std::nullopt;
  return path.string();
}

std::string model_path(const std::string& name) { return source_dir() + "/models/" + name; }

std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  SHOAL_CHECK(in.good(), "cannot read " + path);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

std::string gunzip_shared(const std::string& relative) {
  const auto from = shared_path(relative);
  SHOAL_CHECK(from.has_value(), "no shared file " + relative);
  const fs::path to =
      fs::path(binary_dir()) / "oracle" / fs::path(relative).filename().replace_extension();
  std::error_code error;
  if (fs::exists(to, error)) return to.string();
  fs::create_directories(to.parent_path());
  // Through a private name and a rename: tests run in parallel.
  const std::string temporary = to.string() + "." + std::to_string(::getpid());
  const std::string command = "gzip -dc '" + *from + "' > '" + temporary + "'";
  SHOAL_CHECK(std::system(command.c_str()) == 0, "failed: " + command);
  fs::rename(temporary, to);
  return to.string();
}

TempDir::TempDir() {
  std::string pattern = (fs::temp_directory_path() / "shoal-test-XXXXXX").string();
  SHOAL_CHECK(::mkdtemp(pattern.data()) != nullptr, "mkdtemp failed");
  path_ = pattern;
}

TempDir::~TempDir() {
  std::error_code error;
  fs::remove_all(path_, error);
}

uint64_t test_seed(uint64_t fallback) {
  const char* configured = std::getenv("SHOAL_TEST_SEED");
  const uint64_t seed = configured ? std::strtoull(configured, nullptr, 0) : fallback;
  ::testing::Test::RecordProperty("seed", std::to_string(seed));
  std::fprintf(stderr, "seed: SHOAL_TEST_SEED=%llu\n", static_cast<unsigned long long>(seed));
  return seed;
}

}  // namespace shoal::testing
