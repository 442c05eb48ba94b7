#include "parallel/collective/gloo_mesh.h"

#include <arpa/inet.h>
#include <gloo/rendezvous/context.h>
#include <gloo/rendezvous/store.h>
#include <gloo/transport/buffer.h>
#include <gloo/transport/tcp/device.h>
#include <signal.h>

#include <atomic>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <thread>

#include <fmt/core.h>

#include "base/check.h"

#if defined(__SANITIZE_THREAD__)
// Gloo's library is not instrumented: its locks are unseen, and the hint of arrived() is a race by
// design.
extern "C" const char* __tsan_default_suppressions() {
  return "race:gloo::transport::tcp::Pair::read\n";
}
#endif

namespace shoal {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr uint64_t kMaxHostName = 256;

// Gloo starts its messages with "[/path/file.cc:123] ".
std::string without_location(const std::string& what) {
  const size_t end = what.find("] ");
  return !what.empty() && what[0] == '[' && end != std::string::npos ? what.substr(end + 2) : what;
}

// An error of the injected store on its way through Gloo.
struct StoreError : std::runtime_error {
  explicit StoreError(Status s) : std::runtime_error(s.message()), status(std::move(s)) {}
  Status status;
};

// Gloo's view of the RendezvousStore. Values come from peers: Gloo slices them without looking, so
// their sizes are checked here against this rank's own.
class StoreAdapter final : public gloo::rendezvous::Store {
 public:
  StoreAdapter(RendezvousStore& store, TimePoint deadline) : store_(store), deadline_(deadline) {}

  void set(const std::string& key, const std::vector<char>& data) override {
    if (key.rfind("rank_", 0) != 0) address_bytes_ = data.size();
    std::lock_guard lock(mutex_);
    if (closed_) throw StoreError(cancelled("gave up connecting"));
    if (Status status = store_.set(key, std::string(data.begin(), data.end())); !status) {
      throw StoreError(status.annotate("rendezvous key '" + key + "'"));
    }
  }

  std::vector<char> get(const std::string& key) override {
    // The lock is held while the store waits: close() returns only when no call is inside.
    std::lock_guard lock(mutex_);
    if (closed_) throw StoreError(cancelled("gave up connecting"));
    const Result<std::string> value = store_.get(key, deadline_);
    if (!value) throw StoreError(value.status().annotate("rendezvous key '" + key + "'"));
    const bool host = key.rfind("rank_", 0) == 0;
    if (host ? value->size() > kMaxHostName : value->size() != address_bytes_) {
      throw StoreError(
          data_loss(fmt::format("rendezvous key '{}' has {} bytes, expected {}", key, value->size(),
                                host ? "a host name" : std::to_string(address_bytes_))));
    }
    return {value->begin(), value->end()};
  }

  void wait(const std::vector<std::string>& keys) override {
    for (const std::string& key : keys) get(key);
  }
  void wait(const std::vector<std::string>& keys, const milliseconds&) override { wait(keys); }

  // No call reaches the store after this.
  void close() {
    std::lock_guard lock(mutex_);
    closed_ = true;
  }

 private:
  RendezvousStore& store_;
  const TimePoint deadline_;
  std::mutex mutex_;
  bool closed_ = false;
  uint64_t address_bytes_ = 0;
};

int halves(Channel channel) {
  return channel == Channel::kPing || channel == Channel::kAbort ? 1 : 2;
}

// Turns any exception of Gloo into a Status.
template <class Body>
Status guarded(const std::string& who, Body&& body) {
  try {
    body();
    return Status::ok();
  } catch (const StoreError& error) {
    return error.status;
  } catch (const std::exception& error) {
    return unavailable(who + ": " + without_location(error.what()));
  }
}

// Gloo writes to sockets without MSG_NOSIGNAL: a peer that is gone would kill this process.
void ignore_sigpipe() {
  struct sigaction action {};
  if (sigaction(SIGPIPE, nullptr, &action) == 0 && action.sa_handler == SIG_DFL) {
    action.sa_handler = SIG_IGN;
    sigaction(SIGPIPE, &action, nullptr);
  }
}

// One half of a channel to one peer. Memory: payload right-aligned to `capacity`, then the Trailer,
// so that the trailer is at one place whatever the size.
struct Endpoint {
  std::vector<std::byte> in, out;
  std::unique_ptr<gloo::transport::Buffer> in_buffer, out_buffer;
  bool sent = false;  // a send whose completion has not been collected
};

}  // namespace

struct GlooMesh::State {
  int rank = 0;
  int world = 0;
  uint64_t piece_bytes = 0;
  std::shared_ptr<gloo::transport::Device> device;
  std::shared_ptr<gloo::rendezvous::Context> context;
  std::vector<std::vector<Endpoint>> endpoints;  // [peer][slot]; destroyed before the context
  std::atomic<bool> abort_told{false};

  // How connecting went, for the thread that waits for it.
  std::shared_ptr<StoreAdapter> store;
  std::mutex mutex;
  std::condition_variable changed;
  bool done = false;
  Status status;

  ~State() {
    endpoints.clear();
    context.reset();
    device.reset();
  }
  uint64_t capacity(Channel channel) const {
    switch (channel) {
      case Channel::kTurn:
      case Channel::kMail:
        return piece_bytes;
      case Channel::kAck:
      case Channel::kPing:
        return 0;
      case Channel::kAbort:
        return kAbortBytes;
    }
    return 0;
  }
  static size_t slot(Channel channel, int half) {
    return static_cast<size_t>(2 * static_cast<int>(channel) + half);
  }
  Endpoint& at(int peer, Channel channel, int half) {
    return endpoints[static_cast<size_t>(peer)][slot(channel, half)];
  }
  Trailer& in_trailer(int peer, Channel channel, int half) {
    return *reinterpret_cast<Trailer*>(at(peer, channel, half).in.data() + capacity(channel));
  }

  void connect(const GlooOptions& options);
  void make_buffers();
};

void GlooMesh::State::connect(const GlooOptions& options) {
  gloo::transport::tcp::attr attr;
  attr.hostname = options.address;
  device = gloo::transport::tcp::CreateDevice(attr);
  context = std::make_shared<gloo::rendezvous::Context>(rank, world);
  // Gloo waits five times its timeout for a connection.
  const auto left =
      std::chrono::duration_cast<milliseconds>(options.deadline - steady_clock::now());
  context->setTimeout(std::max(left / 5, milliseconds(100)));
  context->connectFullMesh(*store, device);
  make_buffers();
}

void GlooMesh::State::make_buffers() {
  endpoints.resize(static_cast<size_t>(world));
  for (int peer = 0; peer < world; ++peer) {
    if (peer == rank) continue;
    auto& pair = context->getPair(peer);
    std::vector<Endpoint>& slots = endpoints[static_cast<size_t>(peer)];
    slots.resize(10);
    for (int c = 0; c < 5; ++c) {
      const auto channel = static_cast<Channel>(c);
      for (int half = 0; half < halves(channel); ++half) {
        Endpoint& end = slots[slot(channel, half)];
        const uint64_t bytes = capacity(channel) + sizeof(Trailer);
        end.in.resize(bytes);
        end.out.resize(bytes);
        const int id = static_cast<int>(slot(channel, half));
        end.in_buffer = pair->createRecvBuffer(id, end.in.data(), bytes);
        end.out_buffer = pair->createSendBuffer(id, end.out.data(), bytes);
      }
    }
  }
}

Result<std::unique_ptr<GlooMesh>> GlooMesh::connect(const GlooOptions& options,
                                                    uint64_t piece_bytes) {
  ignore_sigpipe();
  auto state = std::make_shared<State>();
  state->rank = options.rank;
  state->world = options.world;
  state->piece_bytes = piece_bytes;
  state->store = std::make_shared<StoreAdapter>(*options.store, options.deadline);
  std::thread([state, options] {
    Status status = guarded("connecting to the other ranks", [&] { state->connect(options); });
    std::lock_guard lock(state->mutex);
    state->done = true;
    state->status = std::move(status);
    state->changed.notify_all();
  }).detach();
  {
    std::unique_lock lock(state->mutex);
    const auto stopped = [&] { return options.stop != nullptr && options.stop->load(); };
    constexpr milliseconds kLook(50);  // how late a stop may be noticed
    while (!state->done && !stopped() && steady_clock::now() < options.deadline) {
      state->changed.wait_until(lock, std::min(options.deadline, steady_clock::now() + kLook),
                                [&] { return state->done; });
    }
    if (!state->done && stopped()) {
      lock.unlock();
      state->store->close();
      return cancelled("the group is no longer wanted");
    }
  }
  state->store->close();
  std::lock_guard lock(state->mutex);
  if (!state->done) return deadline_exceeded("not all ranks connected in time");
  if (!state->status) return state->status;
  return std::unique_ptr<GlooMesh>(new GlooMesh(state));
}

GlooMesh::GlooMesh(std::shared_ptr<State> state) : state_(std::move(state)) {}
GlooMesh::~GlooMesh() = default;

uint64_t GlooMesh::capacity(Channel channel) const { return state_->capacity(channel); }

std::byte* GlooMesh::outgoing(int peer, Channel channel, int half, uint64_t bytes) {
  SHOAL_CHECK(bytes <= capacity(channel), "a message larger than its channel");
  return state_->at(peer, channel, half).out.data() + capacity(channel) - bytes;
}

Status GlooMesh::send(int peer, Channel channel, int half, uint64_t bytes, const OpHeader& header,
                      uint64_t sequence) {
  Endpoint& end = state_->at(peer, channel, half);
  return guarded(fmt::format("rank {}", peer), [&] {
    // Pings are never collected: one behind a full socket must not block, and their content is
    // always the same.
    if (end.sent) end.out_buffer->waitSend();
    end.sent = channel != Channel::kPing;
    const Trailer trailer{header, bytes, sequence};
    const uint64_t offset = capacity(channel) - bytes;
    std::memcpy(end.out.data() + capacity(channel), &trailer, sizeof(trailer));
    end.out_buffer->send(offset, bytes + sizeof(Trailer), offset);
  });
}

bool GlooMesh::arrived(int peer, Channel channel, int half, uint64_t sequence) const {
  // Written by the kernel for Gloo's thread meanwhile; only a hint, see the header.
  std::atomic_ref<uint64_t> seen(state_->in_trailer(peer, channel, half).sequence);
  return seen.load(std::memory_order_acquire) == sequence;
}

Status GlooMesh::accept(int peer, Channel channel, int half) {
  return guarded(fmt::format("rank {}", peer),
                 [&] { state_->at(peer, channel, half).in_buffer->waitRecv(); });
}

const Trailer& GlooMesh::trailer(int peer, Channel channel, int half) const {
  return state_->in_trailer(peer, channel, half);
}

const std::byte* GlooMesh::payload(int peer, Channel channel, int half) const {
  const Trailer& end = trailer(peer, channel, half);
  SHOAL_CHECK(end.payload_bytes <= capacity(channel), "a message larger than its channel");
  return state_->at(peer, channel, half).in.data() + capacity(channel) - end.payload_bytes;
}

Status GlooMesh::probe(int peer) {
  // Gloo tells of a lost connection only to who uses it: send a message nobody looks at.
  return send(peer, Channel::kPing, 0, 0, OpHeader{}, 1);
}

void GlooMesh::tell_abort(const std::string& reason) {
  if (state_->abort_told.exchange(true)) return;
  const uint64_t bytes = std::min<uint64_t>(reason.size(), kAbortBytes);
  for (int peer = 0; peer < state_->world; ++peer) {
    if (peer == state_->rank) continue;
    std::memcpy(outgoing(peer, Channel::kAbort, 0, bytes), reason.data(), bytes);
    // The peer may be what died.
    (void)send(peer, Channel::kAbort, 0, bytes, OpHeader{}, 1).is_ok();
  }
}

std::optional<std::string> GlooMesh::abort_of(int peer) {
  if (!arrived(peer, Channel::kAbort, 0, 1)) return {};
  if (!accept(peer, Channel::kAbort, 0) ||
      trailer(peer, Channel::kAbort, 0).payload_bytes > kAbortBytes) {
    return "no reason given";
  }
  const auto* text = reinterpret_cast<const char*>(payload(peer, Channel::kAbort, 0));
  return std::string(text, trailer(peer, Channel::kAbort, 0).payload_bytes);
}

void GlooMesh::flush() {
  for (std::vector<Endpoint>& slots : state_->endpoints) {
    for (Endpoint& end : slots) {
      if (!end.sent) continue;
      end.sent = false;
      if (!guarded("", [&] { end.out_buffer->waitSend(); })) return;
    }
  }
}

}  // namespace shoal
