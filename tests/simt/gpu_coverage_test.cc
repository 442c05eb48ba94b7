// docs/gpu-kernels.md against the sources: types, ops, kernels and tests that it names, and a run
// of attention with each head size it lists.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <sstream>

#include "kernels/cuda/code_formats.h"
#include "kernels/cuda/tile_formats.h"
#include "kernels/cuda/weight_tiles.h"
#include "tests/simt/gpu_attention_support.h"

namespace shoal {
namespace {

using namespace testing;
namespace fs = std::filesystem;

const fs::path kRoot = SHOAL_SOURCE_DIR;

std::string read_file(const fs::path& path) {
  std::ifstream in(path);
  EXPECT_TRUE(in.good()) << path;
  return {std::istreambuf_iterator<char>(in), {}};
}

using Cells = std::vector<std::string>;

Cells cells_of(const std::string& line) {
  Cells cells;
  std::istringstream in(line.substr(1));
  for (std::string cell; std::getline(in, cell, '|');) {
    const size_t first = cell.find_first_not_of(' ');
    if (first == std::string::npos) continue;
    cells.push_back(cell.substr(first, cell.find_last_not_of(' ') + 1 - first));
  }
  return cells;
}

// The rows below the header whose first cell is `header`.
std::vector<Cells> table(const std::string& header) {
  std::istringstream in(read_file(kRoot / "docs/gpu-kernels.md"));
  std::vector<Cells> rows;
  bool inside = false;
  for (std::string line; std::getline(in, line);) {
    if (line.empty() || line[0] != '|') {
      inside = false;
    } else if (line.rfind("| " + header + " |", 0) == 0) {
      inside = true;
    } else if (inside && line.rfind("|--", 0) != 0) {
      rows.push_back(cells_of(line));
    }
  }
  EXPECT_FALSE(rows.empty()) << "no table of " << header;
  return rows;
}

std::set<std::string> matches(const std::string& text, const std::string& pattern) {
  const std::regex regex(pattern);
  std::set<std::string> found;
  for (std::sregex_iterator i(text.begin(), text.end(), regex), end; i != end; ++i) {
    found.insert((*i)[1]);
  }
  return found;
}

// What `pattern` finds in the files of a folder.
std::set<std::string> matches_in(const fs::path& folder, const std::string& pattern) {
  std::set<std::string> found;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string extension = entry.path().extension();
    if (extension == ".h" || extension == ".cc") found.merge(matches(read_file(entry), pattern));
  }
  return found;
}

template <TensorType type>
std::string tile_products() {
  if constexpr (gpu::tile_unit_features(type) == 0)
    return "—";
  else
    return gpu::TileFormat<type>::kInteger ? "int8 tensor cores" : "float";
}

template <TensorType type>
std::string row_products() {
  if (gpu::CodeFormat<type>::kExists) return "int8 dot products";
  return body::Block<type>::elems == 1 ? "float" : "decoded to float";
}

template <TensorType type>
Cells expected_cells() {
  const int features = gpu::tile_unit_features(type);
  const std::string unit = features == 0 ? "—"
                                         : std::to_string(gpu::tile_unit_bytes(type)) +
                                               " B, 16 × " + std::to_string(features);
  return {std::string(traits(type).name), unit, tile_products<type>(), row_products<type>()};
}

template <TensorType... types>
std::vector<Cells> expected_types(body::TypeList<types...>) {
  return {expected_cells<types>()...};
}

TEST(GpuCoverage, TypesAreAsTheCodeHasThem) {
  const auto expected = expected_types(body::BlockTypes{});
  const auto written = table("Type");
  EXPECT_EQ(expected.size(), storable_types().size());
  if (written == expected) return;
  std::string lines;
  for (const Cells& row : expected) {
    for (const std::string& cell : row) lines += "| " + cell + " ";
    lines += "|\n";
  }
  FAIL() << "docs/gpu-kernels.md must say:\n" << lines;
}

TEST(GpuCoverage, OpsAreThoseOfTheDevice) {
  const std::string device = read_file(kRoot / "kernels/device.h");
  const auto ops = matches(device.substr(device.find("// ---- ops")), R"(virtual void (\w+)\()");
  std::set<std::string> written;
  for (const Cells& row : table("Op")) written.merge(matches(row[0], "`(\\w+)`"));
  EXPECT_EQ(written, ops);
}

// Every kernel has a line, and every name is one.
TEST(GpuCoverage, KernelsAreThoseOfTheSources) {
  std::set<std::string> named;
  for (const auto& entry : fs::directory_iterator(kRoot / "kernels/cuda")) {
    // The contract's example has one too.
    if (entry.path().extension() != ".h" || entry.path().filename() == "simt.h") continue;
    for (const std::string& definition : matches(read_file(entry), R"(kName =([^;]*);)")) {
      named.merge(matches(definition, "\"([\\w ]+)\""));
    }
  }
  EXPECT_GT(named.size(), 10u);
  std::set<std::string> written;
  for (const Cells& row : table("Op")) written.merge(matches(row[1], "`([\\w ]+)`"));
  EXPECT_EQ(written, named);
}

TEST(GpuCoverage, TestsExist) {
  const auto suites = matches_in(kRoot / "tests/simt", R"(TEST(?:_[PF])?\((\w+), )");
  const auto single = matches_in(kRoot / "tests/simt", R"(TEST(?:_[PF])?\((\w+, \w+)\))");
  const std::string page = read_file(kRoot / "docs/gpu-kernels.md");
  for (const Cells& row : table("Op")) {
    ASSERT_EQ(row.size(), 3u) << row[0];
    const auto wanted = matches(row[2], "`(\\w+)`");
    EXPECT_FALSE(wanted.empty()) << row[0] << " names no test";
    for (const std::string& suite : wanted) EXPECT_TRUE(suites.contains(suite)) << suite;
  }
  for (const std::string& test : matches(page, "`(\\w+\\.\\w+)`")) {
    const size_t dot = test.find('.');
    if (!suites.contains(test.substr(0, dot))) continue;  // a file
    EXPECT_TRUE(single.contains(test.substr(0, dot) + ", " + test.substr(dot + 1))) << test;
  }
}

// A step of two sequences on the checked emulator, with every size and type of KV.
TEST(GpuCoverage, HeadSizesRun) {
  const auto chosen =
      matches(read_file(kRoot / "kernels/cuda/attention.inl"), R"(TensorAttention<(\d+)>)");
  for (const Cells& row : table("Head size")) {
    ASSERT_EQ(row.size(), 3u);
    const bool tensor = row[0] == row[1] && chosen.contains(row[0]);
    EXPECT_EQ(row[2], tensor ? "`attention_tensor_" + row[0] + "`" : "`attention_f16`") << row[0];
    const int64_t size = std::stoll(row[0]), values = std::stoll(row[1]);
    for (const KvType type : {KvType::kF32, KvType::kF16}) {
      AttentionShape shape{4, 2, 2, size, 16, 40, type};
      if (values != size) shape = {4, 1, 4, size, 16, 40, type, values};
      const std::vector<AttentionRow> rows = {{0, 39}, {1, 17}};
      AttentionSpec spec;
      spec.q_heads = shape.q_heads;
      spec.group = shape.group;
      spec.scale = 1 / std::sqrt(static_cast<float>(size));
      Rng rng(7);
      const auto q = random_values(rng, 2 * shape.q_heads * size);
      const auto cpu = make_reference(), card = make_emulated_device(1);
      PagedCache expected(*cpu, shape, 2, 7), cache(*card, shape, 2, 7);
      const auto want = expected.attend(spec, rows, q, {}), got = cache.attend(spec, rows, q, {});
      ASSERT_EQ(got.size(), want.size());
      for (size_t i = 0; i < got.size(); ++i) {
        // Tensor cores multiply values with weights rounded to f16.
        ASSERT_NEAR(got[i], want[i], type == KvType::kF32 ? 1e-5 : 5e-4)
            << row[0] << ", feature " << i;
      }
    }
  }
}

}  // namespace
}  // namespace shoal
