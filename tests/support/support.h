// What every test needs: where things lie, visible skips, temporary folders, printed seeds.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace shoal::testing {

// The project's root.
std::string source_dir();
// The build tree of this preset, for files tests make.
std::string binary_dir();

// A path under the shared reference data ($SHOAL_SHARED, else ../shared beside the project), or
// nothing if it is not there: then SKIP visibly with SHOAL_SKIP_WITHOUT_SHARED.
std::optional<std::string> shared_path(const std::string& relative);

// A shipped model, e.g. "shoal-tiny-dense-q8_0.gguf".
std::string model_path(const std::string& name);

std::string read_file(const std::string& path);   // aborts if unreadable
// Decompresses a .gz under shared into the build tree once and returns the plain file's path.
std::string gunzip_shared(const std::string& relative);

// A folder that is removed with this object.
class TempDir {
 public:
  TempDir();
  ~TempDir();
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// $SHOAL_TEST_SEED or `fallback`; printed when the test fails, so that a run can be repeated.
uint64_t test_seed(uint64_t fallback);

}  // namespace shoal::testing

#define SHOAL_SKIP_WITHOUT_SHARED(relative)                                            \
  if (!::shoal::testing::shared_path(relative)) {                                      \
    GTEST_SKIP() << "needs the shared reference data: " << (relative) << " (SHOAL_SHARED)"; \
  }
