#include "tests/simt/mutation.h"

#include <cstdlib>
#include <fstream>
#include <mutex>
#include <set>
#include <string>
#include <tuple>

namespace shoal::emulator {
namespace {

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

// attention_tensor of attention_tensor_80: instances of one text are mutated together.
std::string family(const std::string& kernel) {
  const size_t suffix = kernel.rfind('_');
  if (suffix == std::string::npos) return kernel;
  const std::string last = kernel.substr(suffix + 1);
  const bool instance =
      last == "f16" || last == "f32" || last.find_first_not_of("0123456789") == std::string::npos;
  return instance ? kernel.substr(0, suffix) : kernel;
}

std::string describe(const char* kernel, const char* kind, const std::source_location& site) {
  const std::string file = site.file_name();
  return family(kernel) + " " + kind + " " + file.substr(file.rfind('/') + 1) + ":" +
         std::to_string(site.line()) + ":" + std::to_string(site.column());
}

// Lists every place once.
class Sites {
 public:
  explicit Sites(const std::string& path) : file_(path, std::ios::app) {}

  void add(const char* kernel, const char* kind, const std::source_location& site) {
    const std::lock_guard lock(mutex_);
    if (!seen_.emplace(kernel, kind, site.file_name(), site.line(), site.column()).second) return;
    file_ << describe(kernel, kind, site) + "\n" << std::flush;
  }

 private:
  std::mutex mutex_;
  std::ofstream file_;
  std::set<std::tuple<std::string, const char*, std::string, uint32_t, uint32_t>> seen_;
};

}  // namespace

const bool kMutants = !variable("SHOAL_MUTANT").empty() || !variable("SHOAL_MUTANT_SITES").empty();

bool mutated(const char* kernel, const char* kind, const std::source_location& site) {
  static const std::string path = variable("SHOAL_MUTANT_SITES");
  static const std::string mutant = variable("SHOAL_MUTANT");
  static const size_t colon = mutant.find(':');
  static const uint32_t line =
      colon == std::string::npos ? 0 : static_cast<uint32_t>(std::atoi(mutant.c_str() + colon + 1));
  if (!path.empty()) {
    static Sites sites(path);
    sites.add(kernel, kind, site);
  }
  if (mutant.empty()) return false;
  // Cheap first: this is asked at every barrier of every thread.
  return site.line() == line && describe(kernel, kind, site) == mutant;
}

bool edited(int number) {
  static const std::string mutant = variable("SHOAL_MUTANT");
  static const int wanted = mutant.rfind("edit:", 0) == 0 ? std::atoi(mutant.c_str() + 5) : -1;
  return number == wanted;
}

}  // namespace shoal::emulator
