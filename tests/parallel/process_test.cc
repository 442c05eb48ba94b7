// Ranks as processes: forked before this process makes any thread, killed, stopped, starved.
#include <dirent.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <string>
#include <thread>

#include "parallel/collective/collective.h"
#include "parallel/collective/directory_store.h"
#include "tests/parallel/group.h"
#include "tests/parallel/reference.h"
#include "tests/support/support.h"

namespace shoal {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;
using testing::Engine;
using testing::in_seconds;

constexpr uint64_t kEpoch = 3;
OpContext within(double s) { return {kEpoch, in_seconds(s), 0}; }

// A child that runs `body` and hands back its text through a pipe.
class Child {
 public:
  explicit Child(const std::function<std::string()>& body) {
    int ends[2];
    EXPECT_EQ(pipe(ends), 0);
    std::fflush(nullptr);  // or the child prints it again
    pid_ = fork();
    if (pid_ == 0) {
      close(ends[0]);
      const std::string text = body();
      const bool whole =
          write(ends[1], text.data(), text.size()) == static_cast<ssize_t>(text.size());
      _exit(whole ? 0 : 1);
    }
    close(ends[1]);
    out_ = ends[0];
  }
  ~Child() {
    if (!waited_) {
      kill(pid_, SIGKILL);
      waitpid(pid_, nullptr, 0);
    }
    close(out_);
  }
  pid_t pid() const { return pid_; }
  void signal(int number) const { kill(pid_, number); }
  // Everything the child said; waits for its end.
  std::string text() {
    std::string all;
    char buffer[4096];
    for (ssize_t n; (n = read(out_, buffer, sizeof(buffer))) > 0;) {
      all.append(buffer, static_cast<size_t>(n));
    }
    waitpid(pid_, nullptr, 0);
    waited_ = true;
    return all;
  }

 private:
  pid_t pid_ = -1;
  int out_ = -1;
  bool waited_ = false;
};

// Where the ranks of one group meet.
struct Place {
  Place(Engine e, int w) : engine(e), world(w), name(testing::unique_shm_name()) {}
  Result<std::unique_ptr<Collective>> join(int rank, double seconds = 20) const {
    if (engine == Engine::kShm) {
      ShmOptions options;
      options.name = name;
      options.rank = rank;
      options.world = world;
      options.epoch = kEpoch;
      options.deadline = in_seconds(seconds);
      return make_shm_collective(options);
    }
    DirectoryStore store(directory.path());
    GlooOptions options;
    options.address = "127.0.0.1";
    options.rank = rank;
    options.world = world;
    options.epoch = kEpoch;
    options.store = &store;
    options.deadline = in_seconds(seconds);
    return make_gloo_collective(options);
  }
  Engine engine;
  int world;
  std::string name;
  testing::TempDir directory;
};

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// Reduces until something fails; "after 0.12 s: the error".
std::string reduce_until_failure(const Place& place, int rank, double timeout) {
  auto member = place.join(rank);
  if (!member) return "cannot join: " + member.status().to_string();
  std::vector<float> data(4096, 1.0f);
  for (;;) {
    const TimePoint start = steady_clock::now();
    const Status status = (*member)->all_reduce_sum(data.data(), 4096, within(timeout));
    if (!status) {
      return "after " + std::to_string(to_seconds(steady_clock::now() - start)) +
             " s: " + status.to_string();
    }
    std::fill(data.begin(), data.end(), 1.0f);
  }
}

double seconds_of(const std::string& text) {
  return contains(text, "after ") ? std::stod(text.substr(text.find("after ") + 6)) : -1;
}

class Processes : public ::testing::TestWithParam<Engine> {};

TEST_P(Processes, RandomSequence) {
  const uint64_t seed = testing::test_seed(77);
  const Place place(GetParam(), 4);
  std::vector<std::unique_ptr<Child>> ranks;
  for (int rank = 0; rank < 4; ++rank) {
    ranks.push_back(std::make_unique<Child>([&, rank]() -> std::string {
      auto member = place.join(rank);
      if (!member) return member.status().to_string();
      return testing::run_random_sequence(**member, kEpoch, seed, 200, 30);
    }));
  }
  for (auto& rank : ranks) EXPECT_EQ(rank->text(), "");
}

TEST_P(Processes, KilledRankIsNoticedLongBeforeTheDeadline) {
  const Place place(GetParam(), 3);
  std::vector<std::unique_ptr<Child>> ranks;
  for (int rank = 0; rank < 3; ++rank) {
    ranks.push_back(
        std::make_unique<Child>([&, rank] { return reduce_until_failure(place, rank, 20); }));
  }
  std::this_thread::sleep_for(milliseconds(400));
  const pid_t victim = ranks[2]->pid();
  ranks[2]->signal(SIGKILL);  // and not reaped: it stays a zombie
  for (int rank = 0; rank < 2; ++rank) {
    const std::string text = ranks[static_cast<size_t>(rank)]->text();
    EXPECT_TRUE(contains(text, "unavailable")) << text;
    EXPECT_LT(seconds_of(text), 1.5) << text;
    EXPECT_GE(seconds_of(text), 0) << text;
    if (GetParam() == Engine::kShm) {
      EXPECT_TRUE(contains(text, "rank 2 (pid " + std::to_string(victim) + ") died")) << text;
    } else {
      EXPECT_TRUE(contains(text, "rank 2 died, left the group or is cut off")) << text;
    }
  }
}

TEST_P(Processes, StoppedRankCostsTheDeadline) {
  const Place place(GetParam(), 3);
  std::vector<std::unique_ptr<Child>> ranks;
  for (int rank = 0; rank < 3; ++rank) {
    ranks.push_back(
        std::make_unique<Child>([&, rank] { return reduce_until_failure(place, rank, 1.0); }));
  }
  std::this_thread::sleep_for(milliseconds(400));
  ranks[1]->signal(SIGSTOP);
  for (const int rank : {0, 2}) {
    const std::string text = ranks[static_cast<size_t>(rank)]->text();
    EXPECT_TRUE(contains(text, "deadline exceeded") || contains(text, "aborted the group")) << text;
    // Over the network a rank may be kept waiting by one that itself waits for the stopped one.
    EXPECT_TRUE(contains(text, "for rank ")) << text;
    EXPECT_LT(seconds_of(text), 1.6) << text;
  }
  ranks[1]->signal(SIGCONT);
  const std::string text = ranks[1]->text();  // fenced: it cannot go on alone
  EXPECT_TRUE(contains(text, "unavailable") || contains(text, "deadline")) << text;
}

TEST_P(Processes, AbortReachesOtherProcesses) {
  const Place place(GetParam(), 2);
  Child waiting([&] { return reduce_until_failure(place, 0, 20); });
  Child aborting([&]() -> std::string {
    auto member = place.join(1);
    if (!member) return member.status().to_string();
    std::this_thread::sleep_for(milliseconds(100));
    (*member)->abort("the plan was withdrawn");
    std::this_thread::sleep_for(milliseconds(300));
    return (*member)->barrier(within(1)).to_string();
  });
  const std::string text = waiting.text();
  EXPECT_TRUE(contains(text, "the plan was withdrawn")) << text;
  EXPECT_LT(seconds_of(text), 1) << text;
  EXPECT_TRUE(contains(aborting.text(), "the plan was withdrawn"));
}

TEST_P(Processes, MissingRankFailsTheJoin) {
  const Place place(GetParam(), 3);
  Child zero([&] { return place.join(0, 0.5).status().to_string(); });
  Child one([&] { return place.join(1, 0.5).status().to_string(); });
  for (Child* child : {&zero, &one}) {
    const TimePoint start = steady_clock::now();
    const std::string text = child->text();
    EXPECT_TRUE(contains(text, "deadline exceeded")) << text;
    EXPECT_LT(to_seconds(steady_clock::now() - start), 2);
    if (GetParam() == Engine::kShm) {
      EXPECT_TRUE(contains(text, "rank 2")) << text;
    }
  }
}

// More ranks than cores must go on: six on one core.
TEST_P(Processes, MoreRanksThanCores) {
  const Place place(GetParam(), 6);
  std::vector<std::unique_ptr<Child>> ranks;
  for (int rank = 0; rank < 6; ++rank) {
    ranks.push_back(std::make_unique<Child>([&, rank]() -> std::string {
      cpu_set_t one;
      CPU_ZERO(&one);
      CPU_SET(0, &one);
      (void)sched_setaffinity(0, sizeof(one), &one);
      auto member = place.join(rank);
      if (!member) return member.status().to_string();
      std::vector<float> data(4096, 1.0f);
      for (int i = 0; i < 100; ++i) {
        const Status status = (*member)->all_reduce_sum(data.data(), 4096, within(10));
        if (!status) return status.to_string();
      }
      return {};
    }));
  }
  for (auto& rank : ranks) EXPECT_EQ(rank->text(), "");
}

INSTANTIATE_TEST_SUITE_P(Engines, Processes, ::testing::Values(Engine::kShm, Engine::kGloo),
                         [](const auto& param) { return testing::engine_name(param.param); });

ShmOptions shm_options(const std::string& name, int rank, int world) {
  ShmOptions options;
  options.name = name;
  options.rank = rank;
  options.world = world;
  options.epoch = kEpoch;
  options.deadline = in_seconds(10);
  return options;
}

int open_segment(const std::string& name) { return shm_open(name.c_str(), O_RDWR, 0); }

TEST(Shm, NameIsGoneOnceFormed) {
  const Place place(Engine::kShm, 2);
  Child one([&] { return reduce_until_failure(place, 1, 20); });
  Child zero([&]() -> std::string {
    auto member = place.join(0);
    if (!member) return member.status().to_string();
    return open_segment(place.name) < 0 && errno == ENOENT ? "gone" : "still there";
  });
  EXPECT_EQ(zero.text(), "gone");
  EXPECT_TRUE(contains(one.text(), "left the group"));
}

TEST(Shm, StaleSegmentOfADeadPredecessorIsReplaced) {
  const Place place(Engine::kShm, 2);
  {
    Child crashed([&] { return place.join(0, 20).status().to_string(); });
    int fd = -1;
    while ((fd = open_segment(place.name)) < 0) std::this_thread::sleep_for(milliseconds(1));
    close(fd);
    std::this_thread::sleep_for(milliseconds(20));
  }  // killed while it waited for rank 1
  int fd = open_segment(place.name);
  ASSERT_GE(fd, 0);
  close(fd);
  Child one([&]() -> std::string {  // finds the stale one first
    auto member = place.join(1);
    return member ? (*member)->barrier(within(10)).to_string() : member.status().to_string();
  });
  std::this_thread::sleep_for(milliseconds(100));
  Child zero([&]() -> std::string {
    auto member = place.join(0);
    return member ? (*member)->barrier(within(10)).to_string() : member.status().to_string();
  });
  EXPECT_EQ(zero.text(), "ok");
  EXPECT_EQ(one.text(), "ok");
}

TEST(Shm, TwoGroupsUnderOneName) {
  const Place place(Engine::kShm, 2);
  Child first([&] { return place.join(0, 20).status().to_string(); });
  int fd = -1;
  while ((fd = open_segment(place.name)) < 0) std::this_thread::sleep_for(milliseconds(1));
  close(fd);
  std::this_thread::sleep_for(milliseconds(20));
  Child second([&] { return place.join(0, 20).status().to_string(); });
  const std::string text = second.text();
  EXPECT_TRUE(contains(text, "already exists") || contains(text, "forming now")) << text;
  first.signal(SIGKILL);
  EXPECT_EQ(first.text(), "");
  shm_unlink(place.name.c_str());
}

TEST(Shm, DisagreementNamesBothFigures) {
  const struct {
    const char* name;
    void (*change)(ShmOptions&);
    const char* text;
  } cases[] = {
      {"epoch", [](ShmOptions& o) { o.epoch = kEpoch + 1; }, "plan epoch 4 here but 3 at rank 0"},
      {"world", [](ShmOptions& o) { o.world = 3; }, "group size 3 here but 2 at rank 0"},
      {"slots", [](ShmOptions& o) { o.slot_bytes = 4096; }, "slot size 4096 here but 1048576"},
  };
  for (const auto& c : cases) {
    const std::string name = testing::unique_shm_name();
    Child zero([&] {
      ShmOptions options = shm_options(name, 0, 2);
      options.deadline = in_seconds(0.5);
      return make_shm_collective(options).status().to_string();
    });
    Child one([&] {
      ShmOptions options = shm_options(name, 1, 2);
      c.change(options);
      return make_shm_collective(options).status().to_string();
    });
    const std::string text = one.text();
    EXPECT_TRUE(contains(text, c.text)) << c.name << ": " << text;
    EXPECT_TRUE(contains(zero.text(), "deadline")) << c.name;
  }
}

TEST(Shm, RefusesWhatDoesNotFitAndBadOptions) {
  ShmOptions options = shm_options(testing::unique_shm_name(), 0, 2);
  options.slot_bytes = uint64_t{1} << 40;
  Status status = make_shm_collective(options).status();
  EXPECT_EQ(status.code(), Code::kResourceExhausted) << status.to_string();
  EXPECT_TRUE(contains(status.message(), "MiB of shared memory but /dev/shm has"))
      << status.message();
  EXPECT_LT(open_segment(options.name), 0);  // nothing left behind

  const auto refused = [](ShmOptions bad) {
    EXPECT_EQ(make_shm_collective(bad).status().code(), Code::kInvalidArgument) << bad.name;
  };
  for (const char* name : {"", "/", "noslash", "/a/b"}) refused(shm_options(name, 0, 2));
  refused(shm_options("/x", 2, 2));
  refused(shm_options("/x", -1, 2));
  refused(shm_options("/x", 0, 65));
  options = shm_options("/x", 0, 2);
  options.slot_bytes = 8;
  refused(options);
}

// A pid means nothing in another PID namespace: there only the deadline counts.
TEST(Shm, OtherPidNamespaceIsNotJudged) {
  const Place place(Engine::kShm, 2);
  Child zero([&] { return reduce_until_failure(place, 0, 1.0); });
  Child outer([&]() -> std::string {
    if (unshare(CLONE_NEWPID) != 0) return "not permitted";
    const pid_t inner = fork();
    if (inner == 0) {
      auto member = place.join(1);
      std::vector<float> data(4096);
      if (member) (void)(*member)->all_reduce_sum(data.data(), 4096, within(5)).is_ok();
      raise(SIGKILL);  // pid 1 of its namespace: only its parent can
      std::this_thread::sleep_for(std::chrono::seconds(5));
      _exit(0);
    }
    std::this_thread::sleep_for(milliseconds(500));
    kill(inner, SIGKILL);
    waitpid(inner, nullptr, 0);
    return "killed";
  });
  const std::string said = outer.text();
  if (said == "not permitted") GTEST_SKIP() << "unshare(CLONE_NEWPID) is not permitted here";
  const std::string text = zero.text();
  EXPECT_TRUE(contains(text, "deadline exceeded")) << text;
  EXPECT_FALSE(contains(text, "died")) << text;
}

// Checked when all tests are over.
class NothingLeftBehind : public ::testing::Environment {
  void TearDown() override {
    DIR* shm = opendir("/dev/shm");
    if (shm == nullptr) return;
    const std::string prefix = "shoal.test." + std::to_string(getpid()) + ".";
    while (const dirent* entry = readdir(shm)) {
      EXPECT_NE(std::string(entry->d_name).rfind(prefix, 0), 0u) << entry->d_name;
    }
    closedir(shm);
  }
};
const auto* const kEnvironment =
    ::testing::AddGlobalTestEnvironment(new NothingLeftBehind);  // owned by GoogleTest

}  // namespace
}  // namespace shoal
