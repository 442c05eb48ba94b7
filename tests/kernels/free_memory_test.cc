// Free memory under control groups of both versions, from made-up trees.
#include "kernels/cpu/free_memory.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "tests/support/support.h"

namespace shoal {
namespace {

class Tree {
 public:
  Tree() {
    put("/proc/meminfo",
        "MemTotal:  16000000 kB\nMemFree: 1 kB\nMemAvailable:   8000000 kB\nBuffers: 2 kB\n");
  }
  void put(const std::string& path, const std::string& text) {
    const std::filesystem::path full = dir_.path() + path;
    std::filesystem::create_directories(full.parent_path());
    std::ofstream(full) << text;
  }
  uint64_t free() const { return free_memory_bytes(dir_.path()); }

 private:
  testing::TempDir dir_;
};

TEST(FreeMemory, WithoutGroups) {
  Tree tree;
  EXPECT_EQ(tree.free(), uint64_t{8000000} * 1024);
  EXPECT_EQ(free_memory_bytes("/nowhere"), 0u);
  EXPECT_GT(free_memory_bytes(), 0u);
}

TEST(FreeMemory, Version2TakesTheTightestAncestor) {
  Tree tree;
  tree.put("/proc/self/cgroup", "0::/outer/inner\n");
  tree.put("/sys/fs/cgroup/outer/inner/memory.max", "max\n");
  EXPECT_EQ(tree.free(), uint64_t{8000000} * 1024);
  tree.put("/sys/fs/cgroup/outer/memory.max", "1000000\n");
  tree.put("/sys/fs/cgroup/outer/memory.current", "700000\n");
  EXPECT_EQ(tree.free(), 300000u);
  tree.put("/sys/fs/cgroup/outer/memory.stat",
           "anon 5\nfile 600000\ninactive_file 200000\nactive_file 1\n");
  EXPECT_EQ(tree.free(), 500000u);
  tree.put("/sys/fs/cgroup/outer/inner/memory.max", "400000\n");
  tree.put("/sys/fs/cgroup/outer/inner/memory.current", "500000\n");
  EXPECT_EQ(tree.free(), 0u);
}

TEST(FreeMemory, Version1AndAGroupSeenAsRoot) {
  Tree tree;
  tree.put("/proc/self/cgroup", "9:name=systemd:/\n4:cpu,memory:/docker/abc\n0::/\n");
  tree.put("/sys/fs/cgroup/memory/memory.limit_in_bytes", "5000000\n");
  tree.put("/sys/fs/cgroup/memory/memory.usage_in_bytes", "1000000\n");
  EXPECT_EQ(tree.free(), 4000000u);
  tree.put("/sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes", "9223372036854771712\n");
  EXPECT_EQ(tree.free(), 4000000u);
  tree.put("/sys/fs/cgroup/memory.max", "3000000\n");
  EXPECT_EQ(tree.free(), 3000000u);
}

}  // namespace
}  // namespace shoal
