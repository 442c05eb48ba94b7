// wire_seed_tool tests/fuzz/corpus: writes the seeds of the fuzz targets that read frames. To be
// run when a message or the protocol's version changes.
#include <cstdio>
#include <filesystem>
#include <fstream>

#include "tests/wire/wire_seeds.h"

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: wire_seed_tool tests/fuzz/corpus\n");
    return 2;
  }
  const std::filesystem::path corpus(argv[1]);
  std::filesystem::remove_all(corpus / "fuzz_wire");
  std::filesystem::create_directories(corpus / "fuzz_wire");
  for (const auto& [path, bytes] : shoal::wire::testing::wire_seeds()) {
    std::ofstream out(corpus / path, std::ios::binary);
    out << bytes;
    if (!out.flush()) {
      std::fprintf(stderr, "cannot write %s\n", (corpus / path).c_str());
      return 1;
    }
  }
  return 0;
}
