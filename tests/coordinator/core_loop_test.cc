// The core loop with real threads: fake workers on threads of their own, clients on others.
#include "coordinator/core_loop.h"

#include <gtest/gtest.h>

#include <condition_variable>
#include <map>
#include <thread>

#include "coordinator/metrics.h"
#include "tests/coordinator/fake_cluster.h"

namespace shoal::testing {
namespace {

using namespace std::chrono_literals;

class Client final : public TokenSink {
 public:
  void on_token(const TokenEvent& event) override {
    std::lock_guard lock(mutex_);
    tokens_.push_back(event.token);
    changed_.notify_all();
  }
  void on_finish(const FinishEvent& event) override {
    std::lock_guard lock(mutex_);
    ++finishes_;
    finish_ = event;
    changed_.notify_all();
  }
  bool wait_finished(Duration limit = 20s) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, limit, [&] { return finishes_ > 0; });
  }
  bool wait_tokens(size_t count, Duration limit = 20s) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, limit, [&] { return tokens_.size() >= count; });
  }
  std::vector<int32_t> tokens() const {
    std::lock_guard lock(mutex_);
    return tokens_;
  }
  FinishEvent finish() const {
    std::lock_guard lock(mutex_);
    return finish_;
  }
  int finishes() const {
    std::lock_guard lock(mutex_);
    return finishes_;
  }

 private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<int32_t> tokens_;
  int finishes_ = 0;
  FinishEvent finish_;
};

// The network's coordinator end, with broken connections that a test makes up.
class Link final : public wire::CoordinatorLink {
 public:
  explicit Link(wire::CoordinatorLink& inner) : inner_(inner) {}
  std::vector<Status> send(std::span<const wire::PeerId> peers,
                           const wire::ToWorker& message) override {
    return inner_.send(peers, message);
  }
  std::optional<wire::Incoming> receive(Duration timeout) override {
    return inner_.receive(timeout);
  }
  void wake() override { inner_.wake(); }
  wire::LinkCounters counters() const override { return inner_.counters(); }
  std::optional<wire::PeerId> next_disconnected() override {
    if (auto peer = inner_.next_disconnected()) return peer;
    std::lock_guard lock(mutex_);
    return std::exchange(disconnected_, std::nullopt);
  }
  void report(const wire::PeerId& peer) {
    {
      std::lock_guard lock(mutex_);
      disconnected_ = peer;
    }
    wake();
  }
  bool reported() const {  // the loop has been told
    std::lock_guard lock(mutex_);
    return !disconnected_;
  }

 private:
  wire::CoordinatorLink& inner_;
  mutable std::mutex mutex_;
  std::optional<wire::PeerId> disconnected_;
};

class Cluster {
 public:
  explicit Cluster(CoreOptions options = small_core_options(2))
      : network_(clock_, {.seed = 1, .blocking = true, .max_queued = 10000}),
        link_(network_.coordinator()),
        metrics_({.version = "test", .world = 2, .vllm_names = true, .model = "fake"}),
        service_(
            {.core = options, .on_worker_lost = [this](const auto& lost) { lost_ = lost.name; }},
            link_, metrics_, clock_) {}
  ~Cluster() {
    service_.stop("the test ends");
    for (auto& [name, process] : processes_) stop_worker(process);
  }

  void start(bool workers = true) {
    service_.start();
    if (!workers) return;
    add_worker("w0");
    add_worker("w1");
    ASSERT_TRUE(wait([&] { return service_.state().ready; }));
  }
  void add_worker(const std::string& name) {
    auto process = std::make_unique<Process>();
    FakeWorkerOptions options;
    options.name = name;
    options.incarnation = ++incarnations_;
    options.pid = 1000 + static_cast<int64_t>(incarnations_);
    options.load_time = 5ms;
    options.heartbeat = 20ms;
    options.max_step = 200us;
    process->link = network_.connect(name);
    process->worker = std::make_unique<FakeWorker>(options, model_, *process->link, clock_, 7);
    process->thread = std::thread([p = process.get()] {
      while (!p->stop.load()) {
        p->worker->turn();
        std::this_thread::sleep_for(100us);
      }
    });
    processes_[name] = std::move(process);
  }
  void stop_worker_named(const std::string& name) {
    stop_worker(processes_.at(name));
    processes_.erase(name);
  }
  static GenerationRequest request(uint64_t seed, uint32_t max_tokens = 10) {
    GenerationRequest out;
    for (uint64_t i = 0; i < 1 + seed % 20; ++i) {
      out.prompt.push_back(static_cast<int32_t>(mix64(seed + i) % 1000));
    }
    out.max_tokens = max_tokens;
    out.seed = seed;
    return out;
  }
  std::vector<int32_t> expected(const GenerationRequest& r) const {
    return model_.expected(r.prompt, r.seed, r.max_tokens);
  }
  bool wait(const std::function<bool()>& done, Duration limit = 20s) {
    const TimePoint deadline = clock_.now() + limit;
    while (!done()) {
      if (clock_.now() > deadline) return false;
      std::this_thread::sleep_for(2ms);
    }
    return true;
  }
  CoreLoop& service() { return service_; }
  wire::MemoryNetwork& network() { return network_; }
  Link& link() { return link_; }
  Metrics& metrics() { return metrics_; }
  std::string lost() const { return lost_; }  // after the core has stopped

 private:
  struct Process {
    std::unique_ptr<wire::WorkerLink> link;
    std::unique_ptr<FakeWorker> worker;
    std::atomic<bool> stop{false};
    std::thread thread;
  };
  static void stop_worker(std::unique_ptr<Process>& process) {
    process->stop.store(true);
    process->thread.join();
  }

  SteadyClock clock_;
  FakeModel model_;
  wire::MemoryNetwork network_;
  Link link_;
  Metrics metrics_;
  std::string lost_;
  CoreLoop service_;
  std::map<std::string, std::unique_ptr<Process>> processes_;
  uint64_t incarnations_ = 0;
};

TEST(CoreLoop, ServesManyClientsFromManyThreads) {
  Cluster cluster;
  cluster.start();
  std::vector<std::thread> threads;
  std::atomic<int> correct{0};
  for (uint64_t t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      for (uint64_t i = 0; i < 10; ++i) {
        const GenerationRequest request = Cluster::request(100 * t + i);
        auto client = std::make_shared<Client>();
        ASSERT_TRUE(cluster.service().submit(request, client).is_ok());
        ASSERT_TRUE(client->wait_finished());
        correct += client->tokens() == cluster.expected(request) ? 1 : 0;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(correct.load(), 80);
  ASSERT_TRUE(cluster.wait([&] {
    const ServiceState state = cluster.service().state();
    return state.kv_blocks_used == 0 && state.running == 0 && state.waiting == 0;
  }));
  EXPECT_LT(cluster.service().state().seconds_since_loop, 5.0);
}

TEST(CoreLoop, CancelsAndForgets) {
  Cluster cluster;
  cluster.start();
  std::vector<std::pair<RequestId, std::shared_ptr<Client>>> clients;
  for (uint64_t i = 0; i < 20; ++i) {
    auto client = std::make_shared<Client>();
    auto id = cluster.service().submit(Cluster::request(i, 40), client);
    ASSERT_TRUE(id.is_ok());
    clients.emplace_back(*id, client);
  }
  for (const auto& [id, client] : clients) {
    cluster.service().cancel(id);
    cluster.service().cancel(id);
  }
  cluster.service().cancel(12345678);
  for (const auto& [id, client] : clients) ASSERT_TRUE(client->wait_finished());
  ASSERT_TRUE(cluster.wait([&] { return cluster.service().state().kv_blocks_used == 0; }, 2s));
  for (const auto& [id, client] : clients) {
    EXPECT_EQ(client->finishes(), 1);
    EXPECT_TRUE(cluster.wait([&] { return client.use_count() == 1; }, 2s))
        << "the core still holds the sink";
  }
}

TEST(CoreLoop, RefusesWithTheReason) {
  CoreOptions options = small_core_options(2);
  options.queue = {2, 100000};
  Cluster cluster(options);
  cluster.start(false);
  const auto submit = [&](const GenerationRequest& request) {
    return cluster.service().submit(request, std::make_shared<Client>()).status();
  };
  const Status early = submit(Cluster::request(1));
  EXPECT_EQ(early.code(), Code::kUnavailable);
  EXPECT_NE(early.message().find("0 of 2 workers"), std::string::npos) << early.message();
  cluster.add_worker("w0");
  cluster.add_worker("w1");
  ASSERT_TRUE(cluster.wait([&] { return cluster.service().state().ready; }));
  EXPECT_EQ(submit(Cluster::request(1, 1000)).code(), Code::kInvalidArgument);
  // Faster than any worker: the bound holds for what the loop has not seen yet, too.
  bool full = false;
  std::vector<std::shared_ptr<Client>> accepted;
  for (uint64_t i = 0; i < 10000 && !full; ++i) {
    auto client = std::make_shared<Client>();
    const auto id = cluster.service().submit(Cluster::request(i, 40), client);
    if (id.is_ok()) accepted.push_back(client);
    full = id.status().code() == Code::kResourceExhausted;
  }
  EXPECT_TRUE(full);
  for (const auto& client : accepted) ASSERT_TRUE(client->wait_finished());
  for (const auto& client : accepted) EXPECT_NE(client->finish().reason, FinishReason::kError);
  cluster.service().drain();
  EXPECT_EQ(submit(Cluster::request(1)).code(), Code::kUnavailable);
  EXPECT_TRUE(cluster.service().state().draining);
}

TEST(CoreLoop, ADeadWorkerEndsStreamsAtOnceAndAnotherServes) {
  Cluster cluster;
  cluster.start();
  auto client = std::make_shared<Client>();
  ASSERT_TRUE(cluster.service().submit(Cluster::request(1, 40), client).is_ok());
  ASSERT_TRUE(client->wait_tokens(1));
  cluster.stop_worker_named("w1");
  cluster.service().worker_died("w1", 0, "killed by signal 9");
  ASSERT_TRUE(client->wait_finished(5s));
  if (client->finish().reason == FinishReason::kError) {  // else it had finished before
    EXPECT_EQ(client->finish().error.code(), Code::kUnavailable);
    EXPECT_NE(client->finish().error.message().find("worker 'w1' (rank 1) was lost"),
              std::string::npos);
  }
  ASSERT_TRUE(cluster.wait([&] { return !cluster.service().state().ready; }, 5s));
  cluster.add_worker("w1");
  ASSERT_TRUE(cluster.wait([&] { return cluster.service().state().ready; }));
  auto next = std::make_shared<Client>();
  const GenerationRequest request = Cluster::request(2);
  ASSERT_TRUE(cluster.service().submit(request, next).is_ok());
  ASSERT_TRUE(next->wait_finished());
  EXPECT_EQ(next->tokens(), cluster.expected(request));
  cluster.service().stop("done");
  EXPECT_EQ(cluster.lost(), "w1");
}

TEST(CoreLoop, ABrokenConnectionIsNoticedAtOnce) {
  CoreOptions options = small_core_options(2);
  options.membership.heartbeat = 1h;  // nobody else would notice
  options.membership.lost_after = 1h;
  Cluster cluster(options);
  cluster.start();
  const wire::PeerId peer = cluster.network().peer_of("w1");
  // One that is back by now is left alone.
  const uint64_t epoch = cluster.service().state().epoch;
  cluster.link().report(peer);
  ASSERT_TRUE(cluster.wait([&] { return cluster.link().reported(); }));
  auto client = std::make_shared<Client>();
  const GenerationRequest request = Cluster::request(1);
  ASSERT_TRUE(cluster.service().submit(request, client).is_ok());
  ASSERT_TRUE(client->wait_finished());
  EXPECT_EQ(client->tokens(), cluster.expected(request));
  EXPECT_EQ(cluster.service().state().epoch, epoch);
  // One that cannot be reached is lost.
  cluster.network().disconnect(peer);
  cluster.link().report(peer);
  ASSERT_TRUE(cluster.wait([&] { return !cluster.service().state().ready; }, 5s));
  EXPECT_NE(cluster.service().state().not_ready_reason.find("worker 'w1' (rank 1) was lost"),
            std::string::npos)
      << cluster.service().state().not_ready_reason;
  cluster.link().report("somebody else");
  ASSERT_TRUE(cluster.wait([&] { return cluster.link().reported(); }));
}

TEST(CoreLoop, StopEndsEveryRequestExactlyOnce) {
  Cluster cluster;
  cluster.start();
  std::vector<std::shared_ptr<Client>> clients;
  for (uint64_t i = 0; i < 30; ++i) {
    auto client = std::make_shared<Client>();
    ASSERT_TRUE(cluster.service().submit(Cluster::request(i, 40), client).is_ok());
    clients.push_back(client);
  }
  cluster.service().stop("shutting down");
  cluster.service().stop("again");
  for (const auto& client : clients) EXPECT_EQ(client->finishes(), 1);
  const auto late = cluster.service().submit(Cluster::request(1), std::make_shared<Client>());
  EXPECT_EQ(late.status().code(), Code::kUnavailable);
}

TEST(Metrics, TellTheWholeCluster) {
  Cluster cluster;
  cluster.start();
  auto client = std::make_shared<Client>();
  const GenerationRequest request = Cluster::request(5, 10);
  ASSERT_TRUE(cluster.service().submit(request, client).is_ok());
  ASSERT_TRUE(client->wait_finished());
  EXPECT_FALSE(cluster.service().submit(Cluster::request(1, 5000), client).is_ok());
  cluster.metrics().http_request("/v1/completions", 200, 0.25);
  ASSERT_TRUE(cluster.wait([&] { return cluster.service().state().kv_blocks_used == 0; }));
  const std::string text = cluster.metrics().serialize(cluster.service().state());
  const std::string tokens = std::to_string(client->tokens().size());
  for (const std::string& line : std::vector<std::string>{
           "shoal_generation_tokens_total " + tokens,
           "shoal_prompt_tokens_total " + std::to_string(request.prompt.size()),
           "shoal_requests_total{reason=\"length\"} 1",
           "shoal_requests_total{reason=\"error\"} 0",
           "shoal_rejected_total{reason=\"invalid\"} 1",
           "shoal_time_to_first_token_seconds_count 1",
           "shoal_inter_token_latency_seconds_bucket{le=\"0.001\"}",
           "shoal_request_generation_tokens_sum " + tokens,
           "shoal_step_seconds_count{phase=\"forward\",rank=\"1\"}",
           "shoal_collective_seconds_count{rank=\"0\"}",
           "shoal_rank_wait_seconds_count{rank=\"0\"}",
           "shoal_workers{state=\"ready\"} 2",
           "shoal_workers{state=\"lost\"} 0",
           "shoal_kv_cache_usage_ratio 0",
           "shoal_kv_blocks 32",
           "shoal_prefix_cache_queries_total " + std::to_string(request.prompt.size()),
           "shoal_prefix_cache_hits_total 0",
           "shoal_ready 1",
           "shoal_steps_overdue_total 0",
           "shoal_control_rejected_messages_total 0",
           "shoal_control_refused_total{reason=\"hello\"} 0",
           "shoal_device_memory_bytes{kind=\"weights\",worker=\"w0\"} 100",
           "shoal_plan_info{world=\"2\"} 1",
           "shoal_build_info{version=\"test\"} 1",
           "shoal_http_requests_total{code=\"200\",path=\"/v1/completions\"} 1",
           "vllm:generation_tokens_total{model_name=\"fake\"} " + tokens,
           "vllm:request_success_total{finished_reason=\"length\",model_name=\"fake\"} 1",
           "vllm:num_requests_running{model_name=\"fake\"} 0"}) {
    EXPECT_NE(text.find(line), std::string::npos) << line << "\n" << text;
  }
}

TEST(Metrics, ThePrefixCacheCountsTokens) {
  Cluster cluster;
  cluster.start();
  GenerationRequest request = Cluster::request(12, 4);
  ASSERT_EQ(request.prompt.size(), 13u);
  for (int turn = 0; turn < 2; ++turn) {
    auto client = std::make_shared<Client>();
    ASSERT_TRUE(cluster.service().submit(request, client).is_ok());
    ASSERT_TRUE(client->wait_finished());
    EXPECT_EQ(client->finish().cached_prompt_tokens, turn == 0 ? 0u : 12u);
    EXPECT_EQ(client->tokens(), cluster.expected(request));
  }
  ASSERT_TRUE(cluster.wait([&] { return cluster.service().state().kv_blocks_used == 0; }));
  const std::string text = cluster.metrics().serialize(cluster.service().state());
  for (const char* line :
       {"shoal_prefix_cache_queries_total 26", "shoal_prefix_cache_hits_total 12",
        "shoal_prefix_cache_evicted_blocks_total 0", "shoal_prefix_cache_blocks 4",
        "vllm:prefix_cache_queries_total{model_name=\"fake\"} 26",
        "vllm:prefix_cache_hits_total{model_name=\"fake\"} 12"}) {
    EXPECT_NE(text.find(line), std::string::npos) << line << "\n" << text;
  }
}

}  // namespace
}  // namespace shoal::testing
