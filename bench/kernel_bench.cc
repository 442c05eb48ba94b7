// Figures of the CPU kernels: weight bandwidth of a decode row per type against the streaming-read
// ceiling of the same threads, and products per second of a prefill.
#include <fmt/core.h>
#include <time.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstring>
#include <vector>

#include "base/clock.h"
#include "bench/memory_bandwidth.h"
#include "kernels/device.h"
#include "kernels/encode.h"

namespace shoal {
namespace {

struct Options {
  int threads = 2;
  std::string isa;
  bool float_path = false;
  std::vector<std::string> types = {"Q8_0", "Q4_K", "Q6_K", "F16"};
  std::vector<int64_t> rows = {1, 4, 64};
  int64_t cols = 8192;
  double mebibytes = 192;  // of weights: several times the largest cache
  int64_t context = 4096;  // of the attention; 0: none
  int repeats = 7;
  bool cpu_time = false;  // of the calling thread: for one thread on a machine with other work
  bool best = false;      // of the repeats instead of their median: on a machine with other work
};

double now(const Options& options) {
  timespec t{};
  ::clock_gettime(options.cpu_time ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<long>(values.size() / 2),
                   values.end());
  return values[values.size() / 2];
}

Status bench_type(Device& device, const Options& options, TensorType type, double ceiling) {
  const uint64_t row_size = row_bytes(type, static_cast<uint64_t>(options.cols));
  const auto outputs =
      static_cast<int64_t>(options.mebibytes * 1048576 / static_cast<double>(row_size)) / 64 * 64;
  const WeightSlice slice{type, outputs, options.cols, 0, options.cols};
  SHOAL_ASSIGN(const auto weight, device.create_weight(slice, "bench"));
  Rng rng(1);
  std::vector<uint8_t> bytes(64 * row_size);  // the same rows again and again: values do not matter
  random_row(type, rng, 0.02f, 64 * options.cols, bytes.data());
  for (int64_t r = 0; r < outputs; r += 64) SHOAL_TRY(device.fill_weight(*weight, r, bytes));
  for (const int64_t rows : options.rows) {
    std::vector<float> x(static_cast<size_t>(rows * options.cols)),
        y(static_cast<size_t>(rows * outputs));
    for (float& v : x) v = static_cast<float>(rng.normal());
    SHOAL_ASSIGN(const auto input, device.create_activations(rows, options.cols));
    device.load_activations(x.data(), options.cols, rows, *input);
    const MatmulTask task{weight.get(), nullptr, y.data(), outputs, 1.0f};
    std::vector<double> seconds;
    for (int i = 0; i <= options.repeats; ++i) {
      const double start = now(options);
      device.matmul({&task, 1}, *input, rows);
      if (i > 0) seconds.push_back(now(options) - start);
    }
    const double time =
        options.best ? *std::min_element(seconds.begin(), seconds.end()) : median(seconds);
    const double gb = static_cast<double>(row_size) * static_cast<double>(outputs) / time * 1e-9;
    const double gflop =
        2e-9 * static_cast<double>(rows * outputs) * static_cast<double>(options.cols) / time;
    fmt::print("{:<8} rows {:>4}  {:7.2f} GB/s ({:4.0f} % of streaming)  {:8.1f} GFLOP/s\n",
               tensor_type_name(type), rows, gb, 100 * gb / ceiling, gflop);
  }
  return Status::ok();
}

// One sequence of `context` tokens in a GQA layer of a 70B model (64 / 8 heads of 128 features).
Status bench_attention(Device& device, const Options& options, double ceiling) {
  const int64_t q_heads = 64, kv_heads = 8, dim = 128, block_tokens = 64, context = options.context;
  const int64_t blocks = (context + block_tokens - 1) / block_tokens;
  KvLayer kv{nullptr, KvType::kF16, blocks, block_tokens, kv_heads, dim};
  SHOAL_ASSIGN(const auto cache, device.allocate(device.kv_layer_bytes(kv), "kv"));
  kv.data = cache->data();
  std::vector<int32_t> table(static_cast<size_t>(blocks));
  for (size_t i = 0; i < table.size(); ++i) table[i] = static_cast<int32_t>(i);
  AttentionSpec spec;
  spec.q_heads = q_heads, spec.group = q_heads / kv_heads, spec.scale = 0.088f;
  for (const int64_t rows : options.rows) {
    Rng rng(2);
    std::vector<float> q(static_cast<size_t>(rows * q_heads * dim));
    for (float& v : q) v = static_cast<float>(rng.normal());
    std::vector<int32_t> positions(static_cast<size_t>(rows)),
        sequences(static_cast<size_t>(rows), 0);
    for (int64_t r = 0; r < rows; ++r) {
      positions[static_cast<size_t>(r)] =
          static_cast<int32_t>(std::max<int64_t>(context - rows + r, 0));
    }
    SHOAL_ASSIGN(const auto out, device.create_activations(rows, q_heads * dim));
    const StepView step{rows, positions.data(), nullptr, sequences.data(), table.data(), blocks};
    std::vector<double> seconds;
    for (int i = 0; i <= options.repeats; ++i) {
      const double start = now(options);
      device.attention(q.data(), q_heads * dim, spec, step, kv, *out);
      if (i > 0) seconds.push_back(now(options) - start);
    }
    const double time =
        options.best ? *std::min_element(seconds.begin(), seconds.end()) : median(seconds);
    const double gb = static_cast<double>(context * kv_heads * dim * 4) / time * 1e-9;
    const double gflop = 4e-9 * static_cast<double>(rows * q_heads * dim * context) / time;
    fmt::print(
        "attention rows {:>4} at {}  {:7.2f} GB/s ({:4.0f} % of streaming)  {:8.1f} GFLOP/s\n",
        rows, context, gb, 100 * gb / ceiling, gflop);
  }
  return Status::ok();
}

// A layer of 128 experts of 768 features at width 2048, 8 per row (30B-A3B): bandwidth over the
// weights of the experts that occur. Every repeat takes others: they come from memory.
Status bench_experts(Device& device, const Options& options, TensorType type, double ceiling) {
  const int64_t experts = 128, top_k = 8, width = 2048, features = 768;
  if (features % traits(type).block_elems != 0) return Status::ok();
  Rng rng(4);
  const auto fill = [&](int64_t rows, int64_t cols) -> Result<std::unique_ptr<Weight>> {
    SHOAL_ASSIGN(auto weight, device.create_weight({type, rows, cols, 0, cols}, "bench"));
    std::vector<uint8_t> bytes(64 * row_bytes(type, static_cast<uint64_t>(cols)));
    random_row(type, rng, 0.02f, 64 * cols, bytes.data());
    for (int64_t r = 0; r < rows; r += 64) SHOAL_TRY(device.fill_weight(*weight, r, bytes));
    return weight;
  };
  SHOAL_ASSIGN(const auto gate, fill(experts * features, width));
  SHOAL_ASSIGN(const auto up, fill(experts * features, width));
  SHOAL_ASSIGN(const auto down, fill(experts * width, features));
  std::vector<int32_t> local(static_cast<size_t>(experts));
  for (size_t e = 0; e < local.size(); ++e) local[e] = static_cast<int32_t>(e);
  for (const int64_t rows : options.rows) {
    const auto pairs = static_cast<size_t>(rows * top_k);
    std::vector<float> x(static_cast<size_t>(rows * width)), y(x.size()), weights(pairs, 0.125f);
    for (float& v : x) v = static_cast<float>(rng.normal());
    SHOAL_ASSIGN(const auto input, device.create_activations(rows, width));
    SHOAL_ASSIGN(const auto hidden, device.create_activations(rows * top_k, features));
    device.load_activations(x.data(), width, rows, *input);
    std::vector<int32_t> ids(pairs);
    ExpertTask task{.experts = experts, .count = experts, .top_k = top_k};
    task.gate.weight = gate.get(), task.up.weight = up.get();
    task.down = {down.get(), nullptr, y.data(), width};
    task.local = local.data(), task.ids = ids.data(), task.weights = weights.data();
    std::vector<double> rates, flops;
    const double weight_bytes =
        3 * static_cast<double>(row_bytes(type, static_cast<uint64_t>(width))) * features;
    for (int i = 0; i <= options.repeats; ++i) {
      std::vector<bool> chosen(static_cast<size_t>(experts));
      for (size_t p = 0; p < pairs; ++p) {  // eight neighbours that move on: all different
        if (p % top_k == 0) ids[p] = static_cast<int32_t>(rng.below(experts));
        ids[p] = static_cast<int32_t>((ids[p - p % top_k] + 5 * static_cast<int32_t>(p % top_k)) %
                                      experts);
        chosen[static_cast<size_t>(ids[p])] = true;
      }
      const double start = now(options);
      device.experts(task, *input, rows, *hidden);
      const double time = now(options) - start;
      if (i == 0) continue;
      rates.push_back(static_cast<double>(std::count(chosen.begin(), chosen.end(), true)) *
                      weight_bytes / time * 1e-9);
      flops.push_back(6e-9 * static_cast<double>(rows * top_k * width * features) / time);
    }
    const auto figure = [&](const std::vector<double>& list) {
      return options.best ? *std::max_element(list.begin(), list.end()) : median(list);
    };
    fmt::print("experts {:<6} rows {:>4}  {:7.2f} GB/s ({:4.0f} % of streaming)  {:8.1f} GFLOP/s\n",
               tensor_type_name(type), rows, figure(rates), 100 * figure(rates) / ceiling,
               figure(flops));
  }
  return Status::ok();
}

// A vocabulary of 128k, one row: greedy, plain sampling, and with top_p and log-probabilities.
Status bench_sampling(Device& device, const Options& options) {
  const int64_t vocab = 128256;
  Rng rng(3);
  std::vector<float> logits(static_cast<size_t>(vocab)), scratch;
  for (float& x : logits) x = static_cast<float>(3 * rng.normal());
  SampleRow greedy, sampled, full;
  greedy.temperature = 0;
  sampled.temperature = 0.8f;
  full.temperature = 0.8f, full.shaped_candidates = 128, full.top_logprobs = 5;
  for (const auto& [name, row] :
       {std::pair{"greedy", greedy}, {"sampled", sampled}, {"top_p", full}}) {
    std::vector<double> seconds;
    for (int i = 0; i <= options.repeats; ++i) {
      scratch = logits;
      LocalSample out;
      const double start = now(options);
      device.sample_local(scratch.data(), vocab, vocab, 0, {&row, 1}, {&out, 1});
      seconds.push_back(now(options) - start);
    }
    fmt::print("sampling {:<8} {:.3f} ms\n", name, 1e3 * median(seconds));
  }
  return Status::ok();
}

Status run(const Options& options) {
  CpuOptions cpu;
  cpu.threads = options.threads;
  cpu.isa = options.isa;
  cpu.int8_activations = !options.float_path;
  SHOAL_ASSIGN(const auto device, make_cpu_device(cpu));
  const double ceiling = measure_read_bandwidth(options.threads);
  fmt::print("{}; streaming read {:.1f} GB/s\n", device->describe(), ceiling);
  for (const std::string& name : options.types) {
    SHOAL_ASSIGN(const TensorType type, tensor_type_from_name(name));
    SHOAL_TRY(bench_type(*device, options, type, ceiling));
    SHOAL_TRY(bench_experts(*device, options, type, ceiling));
  }
  SHOAL_TRY(bench_sampling(*device, options));
  if (options.context > 0) SHOAL_TRY(bench_attention(*device, options, ceiling));
  return Status::ok();
}

}  // namespace
}  // namespace shoal

int main(int argc, char** argv) {
  shoal::Options options;
  CLI::App app("CPU kernel figures");
  app.add_option("--threads", options.threads);
  app.add_option("--isa", options.isa);
  app.add_flag("--float", options.float_path, "float activations for every type");
  app.add_option("--types", options.types);
  app.add_option("--rows", options.rows);
  app.add_option("--cols", options.cols);
  app.add_option("--mib", options.mebibytes,
                 "of weights; small ones show the kernel without memory");
  app.add_option("--context", options.context, "tokens of the attention bench; 0: skip it");
  app.add_option("--repeats", options.repeats)->check(CLI::Range(1, 100000));
  app.add_flag("--cpu-time", options.cpu_time, "time of the calling thread; use with --threads 1");
  app.add_flag("--best", options.best, "best instead of median time");
  CLI11_PARSE(app, argc, argv);
  const shoal::Status status = shoal::run(options);
  if (!status.is_ok()) fmt::print(stderr, "{}\n", status.to_string());
  return status.is_ok() ? 0 : 1;
}
