// shoal bench latency MODEL: how fast one stream is, through everything but HTTP — coordinator,
// control plane, workers as processes, collectives — and what share of this machine's memory
// bandwidth that is.
#include <fmt/core.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <condition_variable>
#include <cstdio>
#include <mutex>
#include <thread>

#include "base/log.h"
#include "base/rng.h"
#include "bench/memory_bandwidth.h"
#include "cli/commands.h"
#include "cli/plan.h"
#include "cli/server.h"
#include "cli/version.h"

namespace shoal {
namespace {

using Json = nlohmann::ordered_json;
using Steady = std::chrono::steady_clock;

struct BenchOptions {
  std::string model;
  std::vector<std::string> layouts{"1x2", "2x1"};  // workers × threads
  int prompt = 256, generate = 64, repeats = 3;
  std::string kv = "f16";
  bool json = false;
};

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

struct Figures {
  double prefill = 0, decode = 0;  // tokens per second
};

constexpr double kRequestSeconds = 1800;
constexpr double kReadySeconds = 600;

Result<Figures> measure_once(Engine& engine, const BenchOptions& options, int32_t vocab,
                             uint64_t seed) {
  Rng rng(seed);
  GenerationRequest request;
  for (int i = 0; i < options.prompt; ++i) {
    request.prompt.push_back(static_cast<int32_t>(rng.below(static_cast<uint64_t>(vocab))));
  }
  request.sampling.temperature = 0;
  request.max_tokens = static_cast<uint32_t>(options.generate);
  request.ignore_eos = true;
  auto sink = std::make_shared<Stopwatch>();
  const auto start = Steady::now();
  SHOAL_TRY(engine.submit(std::move(request), sink).status());
  SHOAL_ASSIGN(const auto times, sink->wait(kRequestSeconds));
  if (times.size() < 2) return internal_error("fewer than two tokens came back");
  Figures figures;
  figures.prefill = options.prompt / to_seconds(times.front() - start);
  figures.decode = static_cast<double>(times.size() - 1) / to_seconds(times.back() - times.front());
  return figures;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

Result<Json> measure_layout(const BenchOptions& options, int workers, int threads,
                            const ServedModel& model, uint64_t bytes) {
  ServerOptions server;
  server.config.model.path = options.model;
  server.config.kv.type = options.kv == "f32" ? config::KvType::kF32 : config::KvType::kF16;
  server.config.kv.context = static_cast<uint32_t>(options.prompt + options.generate + 1);
  server.local_workers = workers;
  server.threads_per_worker = threads;
  server.http = false;
  // The ceiling, before and after, with as many threads: a run whose ceiling drifted says so.
  const double before = measure_read_bandwidth(workers * threads);
  SHOAL_ASSIGN(const auto running, Server::start(server));
  const auto deadline = Steady::now() + from_seconds(kReadySeconds);
  while (!running->engine().state().ready) {
    if (Steady::now() > deadline)
      return deadline_exceeded(running->engine().state().not_ready_reason);
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  SHOAL_TRY(measure_once(running->engine(), options, static_cast<int32_t>(model.spec.vocab), 1)
                .status());  // warm-up
  std::vector<double> prefill, decode;
  for (int r = 0; r < options.repeats; ++r) {
    SHOAL_ASSIGN(const Figures f,
                 measure_once(running->engine(), options, static_cast<int32_t>(model.spec.vocab),
                              static_cast<uint64_t>(r) + 2));
    prefill.push_back(f.prefill);
    decode.push_back(f.decode);
  }
  (void)running->stop();
  const double after = measure_read_bandwidth(workers * threads);
  const double ceiling = std::max(before, after);
  const double rate = median(decode) * static_cast<double>(bytes) / 1e9;
  return Json{{"workers", workers},
              {"threads", threads},
              {"prefill_tokens_per_second", median(prefill)},
              {"decode_tokens_per_second", median(decode)},
              {"weight_gb_per_second", rate},
              {"read_ceiling_gb_per_second", ceiling},
              {"ceiling_drift", std::abs(before - after) / ceiling},
              {"share_of_ceiling", rate / ceiling}};
}

int run(const BenchOptions& options) {
  init_logging(LogLevel::kWarn, "bench");
  block_signals();
  const auto fail = [](const Status& status) {
    fmt::print(stderr, "shoal bench latency: {}\n", status.message());
    return status.code() == Code::kInvalidArgument || status.code() == Code::kNotFound
               ? kExitUsage
               : kExitFailed;
  };
  auto model = read_served_model(options.model);
  if (!model) return fail(model.status());
  const uint64_t bytes = bytes_read_per_token(*model->file, model->spec);
  Json rows = Json::array();
  if (!options.json) {
    fmt::print("{}: {:.3f} GB read per token, prompt {}, {} tokens generated, median of {}\n",
               model->name, static_cast<double>(bytes) / 1e9, options.prompt, options.generate,
               options.repeats);
    fmt::print("{:>16} {:>14} {:>14} {:>12} {:>14} {:>8} {:>8}\n", "workers×threads",
               "prefill tok/s", "decode tok/s", "read GB/s", "ceiling GB/s", "share", "drift");
  }
  for (const std::string& layout : options.layouts) {
    int workers = 0, threads = 0;
    if (std::sscanf(layout.c_str(), "%dx%d", &workers, &threads) != 2 || workers < 1 ||
        workers > 64 || threads < 1 || threads > 1024) {
      return fail(invalid_argument("--layout '" + layout + "' is not WORKERSxTHREADS, e.g. 2x1"));
    }
    auto row = measure_layout(options, workers, threads, *model, bytes);
    if (!row) return fail(row.status());
    if (!options.json) {
      fmt::print("{:>16} {:>14.1f} {:>14.2f} {:>12.2f} {:>14.2f} {:>7.0f}% {:>7.1f}%\n", layout,
                 (*row)["prefill_tokens_per_second"].get<double>(),
                 (*row)["decode_tokens_per_second"].get<double>(),
                 (*row)["weight_gb_per_second"].get<double>(),
                 (*row)["read_ceiling_gb_per_second"].get<double>(),
                 100 * (*row)["share_of_ceiling"].get<double>(),
                 100 * (*row)["ceiling_drift"].get<double>());
      std::fflush(stdout);
    }
    rows.push_back(std::move(*row));
  }
  if (options.json) {
    fmt::print("{}\n", Json{{"build", kBuild},
                            {"model", model->name},
                            {"bytes_per_token", bytes},
                            {"prompt", options.prompt},
                            {"generate", options.generate},
                            {"repeats", options.repeats},
                            {"layouts", rows}}
                           .dump(2));
  }
  return kExitOk;
}

}  // namespace

void add_bench_command(CLI::App& app, CommandAction& action) {
  auto options = std::make_shared<BenchOptions>();
  CLI::App* bench = app.add_subcommand("bench", "Measure");
  bench->require_subcommand(1);
  CLI::App* command =
      bench->add_subcommand("latency", "Speed of one stream, as a share of memory bandwidth");
  command->add_option("model", options->model, "Path of a GGUF (see `shoal synth`)")->required();
  command->add_option("--layout", options->layouts, "Layouts to measure, WORKERSxTHREADS")
      ->capture_default_str();
  command->add_option("--prompt", options->prompt, "Prompt tokens")
      ->check(CLI::Range(1, 1000000))
      ->capture_default_str();
  command->add_option("--generate", options->generate, "Tokens to generate")
      ->check(CLI::Range(2, 1000000))
      ->capture_default_str();
  command->add_option("--repeats", options->repeats, "Runs per layout; the median counts")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  command->add_option("--kv-type", options->kv, "KV cache precision")
      ->check(CLI::IsMember({"f16", "f32"}))
      ->capture_default_str();
  command->add_flag("--json", options->json, "Print JSON");
  command->callback([options, &action] { action = [options] { return run(*options); }; });
}

}  // namespace shoal
