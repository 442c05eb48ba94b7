// µs per all-reduce between processes of this host, over shared memory and over Gloo on loopback,
// next to the round trip of the plain medium in the same run (shared memory: two processes that
// spin on a cache line; TCP: blocking sockets). What counts is the ratio: it survives another
// machine.
//
//   collective_bench [world …]      default: 2 and, with enough cores or not, 4
#include <arpa/inet.h>
#include <fmt/core.h>
#include <netinet/tcp.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <vector>

#include "parallel/collective/collective.h"
#include "parallel/collective/directory_store.h"
#include "parallel/collective/poller.h"

namespace shoal {
namespace {

using std::chrono::steady_clock;

constexpr double kSecondsPerFigure = 0.4;
double now_seconds() { return to_seconds(steady_clock::now().time_since_epoch()); }
TimePoint soon() { return steady_clock::now() + std::chrono::seconds(30); }

// What the processes of one measurement share: results of rank 0.
struct Board {
  std::atomic<uint64_t> ping, pong;
  double microseconds[16];
};

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<long>(values.size() / 2),
                   values.end());
  return values[values.size() / 2];
}

[[noreturn]] void die(const std::string& what) {
  fmt::print(stderr, "collective_bench: {}\n", what);
  _exit(1);
}

// Runs body(rank) in `world` processes.
void fork_ranks(int world, const std::function<void(int)>& body) {
  std::vector<pid_t> children;
  for (int rank = 0; rank < world; ++rank) {
    const pid_t pid = fork();
    if (pid < 0) die("fork failed");
    if (pid == 0) {
      body(rank);
      _exit(0);
    }
    children.push_back(pid);
  }
  for (const pid_t pid : children) {
    int status = 0;
    waitpid(pid, &status, 0);
    if (status != 0) die("a rank failed");
  }
}

double shm_round_trip(Board& board) {
  board.ping = board.pong = 0;
  constexpr uint64_t kBatch = 2000;
  fork_ranks(2, [&](int rank) {
    std::atomic<uint64_t>& mine = rank == 0 ? board.ping : board.pong;
    std::atomic<uint64_t>& theirs = rank == 0 ? board.pong : board.ping;
    std::vector<double> batches;
    uint64_t i = 0;
    for (int b = 0; b < 20; ++b) {
      const double start = now_seconds();
      for (uint64_t end = i + kBatch; i < end;) {
        ++i;
        if (rank == 0) mine.store(i, std::memory_order_release);
        Poller poller(soon());
        while (theirs.load(std::memory_order_acquire) < i) (void)poller.next();
        if (rank == 1) mine.store(i, std::memory_order_release);
      }
      batches.push_back((now_seconds() - start) / kBatch * 1e6);
    }
    if (rank == 0) board.microseconds[0] = median(batches);
  });
  return board.microseconds[0];
}

void exchange_bytes(int fd, bool first, std::vector<char>& data) {
  const auto pass = [&](bool sending) {
    for (size_t at = 0; at < data.size();) {
      const ssize_t n = sending ? send(fd, data.data() + at, data.size() - at, MSG_NOSIGNAL)
                                : recv(fd, data.data() + at, data.size() - at, 0);
      if (n <= 0) die("a socket failed");
      at += static_cast<size_t>(n);
    }
  };
  pass(first);
  pass(!first);
}

// There and back of `bytes` over loopback TCP.
double tcp_round_trip(Board& board, size_t bytes) {
  const int listener = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  if (bind(listener, generic, size) != 0 || listen(listener, 1) != 0 ||
      getsockname(listener, generic, &size) != 0) {
    die("cannot listen on loopback");
  }
  fork_ranks(2, [&](int rank) {
    int fd = 0;
    if (rank == 0) {
      fd = accept(listener, nullptr, nullptr);
    } else {
      fd = socket(AF_INET, SOCK_STREAM, 0);
      if (connect(fd, generic, size) != 0) die("cannot connect");
    }
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    std::vector<char> data(bytes);
    std::vector<double> batches;
    for (int b = 0; b < 15; ++b) {
      const double start = now_seconds();
      for (int i = 0; i < 300; ++i) exchange_bytes(fd, rank == 0, data);
      batches.push_back((now_seconds() - start) / 300 * 1e6);
    }
    if (rank == 0) board.microseconds[0] = median(batches);
  });
  close(listener);
  return board.microseconds[0];
}

std::unique_ptr<Collective> join(bool shm, const std::string& place, int rank, int world) {
  DirectoryStore store(place);
  if (shm) {
    ShmOptions options;
    options.name = "/shoal.bench." + std::to_string(getppid());
    options.rank = rank;
    options.world = world;
    options.epoch = 1;
    options.deadline = soon();
    auto member = make_shm_collective(options);
    if (!member) die(member.status().to_string());
    return std::move(member).value();
  }
  GlooOptions options;
  options.address = "127.0.0.1";
  options.rank = rank;
  options.world = world;
  options.epoch = 1;
  options.store = &store;
  options.deadline = soon();
  auto member = make_gloo_collective(options);
  if (!member) die(member.status().to_string());
  return std::move(member).value();
}

// Median µs per all_reduce of `count` floats.
double time_all_reduce(Collective& member, int64_t count) {
  std::vector<float> data(static_cast<size_t>(count), 1.0f);
  const auto once = [&] {
    const Status status = member.all_reduce_sum(data.data(), count, {1, soon()});
    if (!status) die(status.to_string());
  };
  const int batch = static_cast<int>(std::clamp<int64_t>((1 << 20) / (count + 1), 1, 50));
  std::vector<double> batches;
  // All ranks must do the same number: rank 0 says when it is enough.
  for (float go = 1; go > 0;) {
    const double start = now_seconds();
    static double first;
    if (batches.empty()) first = start;
    for (int i = 0; i < batch; ++i) once();
    batches.push_back((now_seconds() - start) / batch * 1e6);
    go = now_seconds() - first < kSecondsPerFigure ? 1 : 0;
    const Status status = member.broadcast(&go, sizeof(go), 0, {1, soon()});
    if (!status) die(status.to_string());
    std::fill(data.begin(), data.end(), 1.0f);
  }
  return median(batches);
}

void measure(Board& board, bool shm, int world, double round_trip) {
  constexpr int64_t kBytes[] = {4, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 16 << 20};
  char place[] = "/tmp/shoal-bench-XXXXXX";
  if (mkdtemp(place) == nullptr) die("mkdtemp failed");
  fork_ranks(world, [&](int rank) {
    auto member = join(shm, place, rank, world);
    for (size_t i = 0; i < std::size(kBytes); ++i) {
      const double figure = time_all_reduce(*member, kBytes[i] / 4);
      if (rank == 0) board.microseconds[i] = figure;
    }
  });
  std::filesystem::remove_all(place);
  for (size_t i = 0; i < std::size(kBytes); ++i) {
    const double us = board.microseconds[i];
    fmt::print("{:5} world {}  {:9} bytes  {:10.1f} us  {:7.2f} x round trip  {:6.2f} GB/s\n",
               shm ? "shm" : "gloo", world, kBytes[i], us, us / round_trip,
               static_cast<double>(kBytes[i]) / us / 1e3);
  }
}

int run(int argc, char** argv) {
  void* memory =
      mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) die("mmap failed");
  Board& board = *new (memory) Board();
  std::vector<int> worlds;
  for (int i = 1; i < argc; ++i) worlds.push_back(std::atoi(argv[i]));
  if (worlds.empty()) worlds = {2, 4};
  fmt::print("{} usable cores\n", usable_cores());
  for (const int world : worlds) {
    if (world < 2 || world > 64) die("worlds are 2 to 64");
    const double shm = shm_round_trip(board);
    fmt::print("round trip: shared memory {:.2f} us\n", shm);
    measure(board, true, world, shm);
    const double tcp = tcp_round_trip(board, 16 << 10);
    fmt::print("round trip: TCP, 16384 bytes {:.1f} us; 1 byte {:.1f} us\n", tcp,
               tcp_round_trip(board, 1));
    measure(board, false, world, tcp);
  }
  return 0;
}

}  // namespace
}  // namespace shoal

int main(int argc, char** argv) { return shoal::run(argc, argv); }
