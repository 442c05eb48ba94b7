#include "cli/latency.h"

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <numeric>
#include <thread>
#include <utility>

#include <fmt/core.h>

#include "base/rng.h"
#include "bench/memory_bandwidth.h"
#include "coordinator/server/server.h"

namespace shoal {
namespace {

using Steady = std::chrono::steady_clock;

constexpr double kRequestSeconds = 1800;
constexpr double kReadySeconds = 600;

// Arrival times of one request's tokens.
class Stopwatch final : public TokenSink {
 public:
  void on_token(const TokenEvent&) override {
    std::lock_guard lock(mutex_);
    times_.push_back(Steady::now());
  }
  void on_finish(const FinishEvent& event) override {
    {
      std::lock_guard lock(mutex_);
      error_ = event.error;
      done_ = true;
    }
    changed_.notify_all();
  }
  Result<std::vector<Steady::time_point>> wait(double seconds) {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, from_seconds(seconds), [&] { return done_; })) {
      return deadline_exceeded(fmt::format("the request did not finish within {:.0f} s", seconds));
    }
    SHOAL_TRY(error_);
    return times_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Steady::time_point> times_;
  Status error_;
  bool done_ = false;
};

// What ranks report of their steps. Every rank reports every step, in order: the n-th report of
// each is of the same step, but a slow rank's may arrive when the next one is under way. So rank
// 0's times, the ones that tokens come with, say when a step was.
class StepLog {
 public:
  explicit StepLog(int ranks) : expert_seconds_(static_cast<size_t>(ranks)) {}

  void add(uint32_t rank, const wire::StepStats& stats) {
    std::lock_guard lock(mutex_);
    if (rank >= expert_seconds_.size()) return;
    if (rank == 0) returned_.push_back(Steady::now());
    expert_seconds_[rank].push_back(stats.expert_seconds);
  }

  // [ranks] mean over the steps that returned in one of `windows` (from, to]; not the first of a
  // window, which may be the step that made its first token.
  std::vector<double> means(
      const std::vector<std::pair<Steady::time_point, Steady::time_point>>& windows) const {
    std::lock_guard lock(mutex_);
    std::vector<double> sums(expert_seconds_.size());
    double steps = 0;
    size_t complete = returned_.size();
    for (const auto& rank : expert_seconds_) complete = std::min(complete, rank.size());
    for (const auto& [from, to] : windows) {
      const auto first = std::upper_bound(returned_.begin(), returned_.end(), from);
      auto step = static_cast<size_t>(first - returned_.begin()) + 1;
      for (; step < complete && returned_[step] <= to; ++step, ++steps) {
        for (size_t rank = 0; rank < sums.size(); ++rank) sums[rank] += expert_seconds_[rank][step];
      }
    }
    for (double& sum : sums) sum /= std::max(steps, 1.0);
    return sums;
  }

 private:
  mutable std::mutex mutex_;
  std::vector<Steady::time_point> returned_;         // [steps] at rank 0
  std::vector<std::vector<double>> expert_seconds_;  // [ranks][steps]
};

struct Run {
  double prefill = 0, decode = 0;  // tokens per second
  Steady::time_point decode_from, decode_to;
};

Result<Run> run_once(TokenService& service, const LatencyOptions& options, int64_t vocab,
                     uint64_t seed) {
  Rng rng(seed);
  std::vector<std::shared_ptr<Stopwatch>> sinks;
  const auto start = Steady::now();
  for (int s = 0; s < options.streams; ++s) {
    GenerationRequest request;
    for (int i = 0; i < options.prompt; ++i) {
      request.prompt.push_back(static_cast<int32_t>(rng.below(static_cast<uint64_t>(vocab))));
    }
    request.sampling.temperature = 0;
    request.max_tokens = static_cast<uint32_t>(options.generate);
    request.ignore_eos = true;
    sinks.push_back(std::make_shared<Stopwatch>());
    SHOAL_TRY(service.submit(std::move(request), sinks.back()).status());
  }
  Run run{0, 0, start, Steady::time_point::max()};
  std::vector<std::vector<Steady::time_point>> streams;
  for (const auto& sink : sinks) {
    SHOAL_ASSIGN(auto times, sink->wait(kRequestSeconds));
    if (times.size() < 2) return internal_error("fewer than two tokens came back");
    run.decode_from = std::max(run.decode_from, times.front());
    run.decode_to = std::min(run.decode_to, times.back());
    streams.push_back(std::move(times));
  }
  if (run.decode_to <= run.decode_from) {
    return invalid_argument(
        "the first stream ended before the last one had its first token: generate more tokens");
  }
  uint64_t decoded = 0;
  for (const auto& times : streams) {
    decoded += static_cast<uint64_t>(std::count_if(times.begin(), times.end(), [&](auto time) {
      return time > run.decode_from && time <= run.decode_to;
    }));
  }
  run.prefill = options.prompt * options.streams / to_seconds(run.decode_from - start);
  run.decode = static_cast<double>(decoded) / to_seconds(run.decode_to - run.decode_from);
  return run;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

bool has_experts(const ModelSpec& spec) {
  return std::any_of(spec.layer.begin(), spec.layer.end(),
                     [](const LayerSpec& layer) { return layer.ffn.moe.experts > 0; });
}

Status wait_ready(TokenService& service) {
  const auto deadline = Steady::now() + from_seconds(kReadySeconds);
  while (!service.state().ready) {
    if (Steady::now() > deadline) return deadline_exceeded(service.state().not_ready_reason);
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  return Status::ok();
}

}  // namespace

double LatencyFigures::expert_imbalance() const {
  const double total = std::accumulate(expert_seconds.begin(), expert_seconds.end(), 0.0);
  if (total == 0) return 1;
  return *std::max_element(expert_seconds.begin(), expert_seconds.end()) *
         static_cast<double>(expert_seconds.size()) / total;
}

Result<LatencyFigures> measure_latency(const ServedModel& model, const LatencyOptions& options) {
  StepLog log(options.workers);
  ServerOptions server;
  server.config.model.path = model.path;
  server.config.kv.type = options.kv_f32 ? config::KvType::kF32 : config::KvType::kF16;
  server.config.kv.context = static_cast<uint32_t>(options.prompt + options.generate + 1);
  // Room for all streams at once, whatever automatic sizing would give.
  const uint32_t each = server.config.kv.context / server.config.kv.block_tokens + 1;
  server.config.kv.blocks = each * static_cast<uint32_t>(options.streams);
  server.config.scheduler.max_sequences = static_cast<uint32_t>(options.streams);
  server.config.parallel.experts = options.experts;
  server.local_workers = options.workers;
  server.threads_per_worker = options.threads;
  server.http = false;
  server.on_step = [&log](uint32_t rank, const wire::StepStats& stats) { log.add(rank, stats); };
  LatencyFigures figures;
  figures.ceiling_before = measure_read_bandwidth(options.workers * options.threads);
  SHOAL_ASSIGN(const auto running, Server::start(server));
  SHOAL_TRY(wait_ready(running->service()));
  SHOAL_TRY(run_once(running->service(), options, model.spec.vocab, 1).status());  // warm-up
  std::vector<double> prefill, decode;
  std::vector<std::pair<Steady::time_point, Steady::time_point>> decoding;
  for (int r = 0; r < options.repeats; ++r) {
    const uint64_t seed = static_cast<uint64_t>(r) + 2;
    SHOAL_ASSIGN(const Run run, run_once(running->service(), options, model.spec.vocab, seed));
    prefill.push_back(run.prefill);
    decode.push_back(run.decode);
    decoding.emplace_back(run.decode_from, run.decode_to);
  }
  (void)running->stop();
  figures.ceiling_after = measure_read_bandwidth(options.workers * options.threads);
  figures.prefill_tokens_per_second = median(prefill);
  figures.decode_tokens_per_second = median(decode);
  if (has_experts(model.spec)) figures.expert_seconds = log.means(decoding);
  return figures;
}

}  // namespace shoal
