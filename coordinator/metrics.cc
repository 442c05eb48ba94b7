#include "coordinator/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <array>
#include <mutex>
#include <optional>
#include <vector>

#include "base/log.h"
#include "base/utf8.h"

namespace shoal {
namespace {

using prometheus::Counter;
using prometheus::Family;
using prometheus::Gauge;
using prometheus::Histogram;
using prometheus::Labels;
using Buckets = Histogram::BucketBoundaries;

// 1 ms … 10 s: gaps between tokens, single steps.
const Buckets kStepSeconds = {0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05,
                              0.075, 0.1,   0.15,  0.25,  0.5,    1,    2.5,   5,    10};
// 100 µs … 1 s: collectives within a step.
const Buckets kCollectiveSeconds = {0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01,
                                    0.02,   0.05,   0.1,    0.2,   0.5,   1};
// 1 ms … 10 min: whole requests and their parts.
const Buckets kRequestSeconds = {0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1,
                                 2.5,   5,     10,   20,    40,   80,  160,  300, 600};
const Buckets kTokens = {1,   2,    5,    10,   20,    50,    100,   200,
                         500, 1000, 2000, 5000, 10000, 20000, 50000, 100000};

constexpr std::array<const char*, 4> kFinishReasons = {"stop", "length", "cancelled", "error"};
constexpr std::array<const char*, 4> kWorkerStates = {"connected", "loading", "ready", "lost"};

class Builder {
 public:
  explicit Builder(prometheus::Registry& registry) : registry_(registry) {}
  Family<Counter>& counters(const char* name, const char* help) {
    return prometheus::BuildCounter().Name(name).Help(help).Register(registry_);
  }
  Family<Gauge>& gauges(const char* name, const char* help) {
    return prometheus::BuildGauge().Name(name).Help(help).Register(registry_);
  }
  Family<Histogram>& histograms(const char* name, const char* help) {
    return prometheus::BuildHistogram().Name(name).Help(help).Register(registry_);
  }
  Histogram& histogram(const char* name, const char* help, const Buckets& buckets,
                       const Labels& labels = {}) {
    return histograms(name, help).Add(labels, buckets);
  }

 private:
  prometheus::Registry& registry_;
};

// The names vLLM's dashboards and autoscalers query.
struct VllmNames {
  VllmNames(Builder b, const Labels& l)
      : ttft(b.histogram("vllm:time_to_first_token_seconds", "As shoal_time_to_first_token_seconds",
                         kRequestSeconds, l)),
        inter_token(b.histogram("vllm:inter_token_latency_seconds",
                                "As shoal_inter_token_latency_seconds", kStepSeconds, l)),
        output_token(b.histogram("vllm:time_per_output_token_seconds",
                                 "The older name of vllm:inter_token_latency_seconds", kStepSeconds,
                                 l)),
        request(b.histogram("vllm:e2e_request_latency_seconds", "As shoal_request_seconds",
                            kRequestSeconds, l)),
        queue(b.histogram("vllm:request_queue_time_seconds", "As shoal_request_queue_seconds",
                          kRequestSeconds, l)),
        prefill(b.histogram("vllm:request_prefill_time_seconds", "As shoal_request_prefill_seconds",
                            kRequestSeconds, l)),
        decode(b.histogram("vllm:request_decode_time_seconds", "As shoal_request_decode_seconds",
                           kRequestSeconds, l)),
        inference(b.histogram("vllm:request_inference_time_seconds",
                              "From a request's first step to its last token", kRequestSeconds, l)),
        request_prompt(b.histogram("vllm:request_prompt_tokens", "As shoal_request_prompt_tokens",
                                   kTokens, l)),
        request_generation(b.histogram("vllm:request_generation_tokens",
                                       "As shoal_request_generation_tokens", kTokens, l)),
        max_generation(b.histogram("vllm:request_max_num_generation_tokens",
                                   "As vllm:request_generation_tokens: each choice is a request",
                                   kTokens, l)),
        prompt_tokens(
            b.counters("vllm:prompt_tokens_total", "As shoal_prompt_tokens_total").Add(l)),
        generation_tokens(
            b.counters("vllm:generation_tokens_total", "As shoal_generation_tokens_total").Add(l)),
        prefix_queries(
            b.counters("vllm:prefix_cache_queries_total", "As shoal_prefix_cache_queries_total")
                .Add(l)),
        prefix_hits(
            b.counters("vllm:prefix_cache_hits_total", "As shoal_prefix_cache_hits_total").Add(l)),
        preemptions(b.counters("vllm:num_preemptions_total", "As shoal_preemptions_total").Add(l)),
        success(b.counters("vllm:request_success_total", "Requests that ended without an error")),
        running(b.gauges("vllm:num_requests_running", "As shoal_requests_running").Add(l)),
        waiting(b.gauges("vllm:num_requests_waiting", "As shoal_requests_waiting").Add(l)),
        kv_usage(b.gauges("vllm:kv_cache_usage_perc", "As shoal_kv_cache_usage_ratio").Add(l)),
        gpu_usage(
            b.gauges("vllm:gpu_cache_usage_perc", "The older name of vllm:kv_cache_usage_perc")
                .Add(l)),
        labels(l) {}

  void finished(const Request& r, FinishReason reason, double seconds) {
    request.Observe(seconds);
    request_prompt.Observe(r.prompt_tokens);
    request_generation.Observe(r.emitted());
    max_generation.Observe(r.emitted());
    if (r.emitted() > 0) {
      decode.Observe(to_seconds(r.last_token - r.first_token));
      inference.Observe(to_seconds(r.last_token - r.started));
    }
    if (reason != FinishReason::kStop && reason != FinishReason::kLength) return;
    Labels with_reason = labels;
    with_reason["finished_reason"] = kFinishReasons[static_cast<size_t>(reason)];
    success.Add(with_reason).Increment();
  }

  Histogram &ttft, &inter_token, &output_token, &request, &queue, &prefill, &decode, &inference;
  Histogram &request_prompt, &request_generation, &max_generation;
  Counter &prompt_tokens, &generation_tokens, &prefix_queries, &prefix_hits, &preemptions;
  Family<Counter>& success;
  Gauge &running, &waiting, &kv_usage, &gpu_usage;
  Labels labels;
};

struct HttpGauges {
  explicit HttpGauges(Builder b)
      : connections(b.gauges("shoal_http_connections", "Open HTTP connections").Add({})),
        max_connections(b.gauges("shoal_http_connections_limit",
                                 "HTTP connections that may be open at the same time")
                            .Add({})),
        large_body_bytes(b.gauges("shoal_http_large_body_bytes",
                                  "Bytes that large request bodies have of the room for them")
                             .Add({})),
        pools(b.gauges("shoal_http_pool_requests",
                       "Requests that wait to be parsed and tokenized, that are being")),
        small_waiting(pools.Add({{"pool", "small"}, {"state", "waiting"}})),
        small_running(pools.Add({{"pool", "small"}, {"state", "running"}})),
        large_waiting(pools.Add({{"pool", "large"}, {"state", "waiting"}})),
        large_running(pools.Add({{"pool", "large"}, {"state", "running"}})) {}

  void set(const HttpFigures& figures) {
    connections.Set(static_cast<double>(figures.connections));
    max_connections.Set(static_cast<double>(figures.max_connections));
    large_body_bytes.Set(static_cast<double>(figures.large_body_bytes));
    small_waiting.Set(static_cast<double>(figures.small_waiting));
    small_running.Set(static_cast<double>(figures.small_running));
    large_waiting.Set(static_cast<double>(figures.large_waiting));
    large_running.Set(static_cast<double>(figures.large_running));
  }

  Gauge &connections, &max_connections, &large_body_bytes;
  Family<Gauge>& pools;
  Gauge &small_waiting, &small_running, &large_waiting, &large_running;
};

struct RankFigures {
  Histogram *forward, *sample, *round_trip, *collective, *wait;
  Histogram* experts;  // null: a dense model
  Counter* weight_bytes;
};

// Tokens by expert. Workers count from the beginning of an epoch; counters must not fall.
class ExpertFigures {
 public:
  ExpertFigures(Builder b, std::vector<uint32_t> layers)
      : layers_(std::move(layers)),
        tokens_(b.counters("shoal_expert_tokens_total", "Tokens an expert was selected for")),
        imbalance_(b.gauges("shoal_expert_imbalance",
                            "Tokens of a layer's busiest expert / mean, since the plan began")) {}

  void set(const wire::ExpertLoad& load) {
    const size_t experts = load.experts;
    if (layers_.empty() || load.tokens.size() != layers_.size() * experts) return;
    if (epoch_ != load.epoch || reported_.size() != load.tokens.size()) {
      epoch_ = load.epoch;
      reported_.assign(load.tokens.size(), 0);
    }
    if (counters_.size() != load.tokens.size()) add_series(experts);
    for (size_t layer = 0; layer < layers_.size(); ++layer) {
      uint64_t most = 0, sum = 0;
      for (size_t i = layer * experts; i < (layer + 1) * experts; ++i) {
        if (load.tokens[i] > reported_[i]) {
          counters_[i]->Increment(static_cast<double>(load.tokens[i] - reported_[i]));
          reported_[i] = load.tokens[i];
        }
        most = std::max(most, load.tokens[i]);
        sum += load.tokens[i];
      }
      if (sum == 0) continue;
      gauges_[layer]->Set(static_cast<double>(most) * static_cast<double>(experts) /
                          static_cast<double>(sum));
    }
  }

 private:
  void add_series(size_t experts) {  // a model has one number of experts: once
    for (const uint32_t layer : layers_) {
      const std::string label = std::to_string(layer);
      gauges_.push_back(&imbalance_.Add({{"layer", label}}));
      for (size_t expert = 0; expert < experts; ++expert) {
        counters_.push_back(&tokens_.Add({{"layer", label}, {"expert", std::to_string(expert)}}));
      }
    }
  }

  const std::vector<uint32_t> layers_;
  Family<Counter>& tokens_;
  Family<Gauge>& imbalance_;
  uint64_t epoch_ = 0;
  std::vector<uint64_t> reported_;  // [layers][experts] of epoch_, already counted
  std::vector<Counter*> counters_;  // [layers][experts]
  std::vector<Gauge*> gauges_;      // [layers]
};

// What the control plane turned away. The links count; a counter catches up when it is asked for.
class ControlFigures {
 public:
  explicit ControlFigures(Builder b)
      : refused_(b.counters("shoal_control_refused_total",
                            "Connections and workers the control plane refused, by reason")),
        handshakes_(refused_.Add({{"reason", "handshake"}})),
        keys_(refused_.Add({{"reason", "key"}})),
        names_(refused_.Add({{"reason", "name"}})),
        processes_(refused_.Add({{"reason", "process"}})),
        hellos_(refused_.Add({{"reason", "hello"}})),
        rejected_(b.counters("shoal_control_rejected_messages_total",
                             "Messages of authenticated connections that were dropped: invalid, or "
                             "out of turn")
                      .Add({})) {}

  void catch_up(const ServiceState& state) {
    const std::lock_guard lock(mutex_);
    raise(handshakes_, state.control.refused_handshakes);
    raise(keys_, state.control.refused_keys);
    raise(names_, state.control.refused_names);
    raise(processes_, state.control.refused_processes);
    raise(hellos_, state.refused_hellos);
    raise(rejected_, state.control.rejected_messages);
  }

 private:
  static void raise(Counter& counter, uint64_t total) {
    const double more = static_cast<double>(total) - counter.Value();
    if (more > 0) counter.Increment(more);
  }

  std::mutex mutex_;  // two that ask at once must not both add
  Family<Counter>& refused_;
  Counter &handshakes_, &keys_, &names_, &processes_, &hellos_, &rejected_;
};

}  // namespace

struct Metrics::Impl {
  explicit Impl(const Options& options) : Impl(std::make_unique<prometheus::Registry>(), options) {}
  Impl(std::unique_ptr<prometheus::Registry> r, const Options& options)
      : Impl(Builder(*r), options) {
    registry = std::move(r);
  }
  Impl(Builder b, const Options& options)
      : ttft(b.histogram("shoal_time_to_first_token_seconds",
                         "From a request's arrival to its first token", kRequestSeconds)),
        inter_token(b.histogram("shoal_inter_token_latency_seconds",
                                "Between two tokens of a request", kStepSeconds)),
        request(b.histogram("shoal_request_seconds", "From a request's arrival to its end",
                            kRequestSeconds)),
        queue(b.histogram("shoal_request_queue_seconds", "From a request's arrival to its start",
                          kRequestSeconds)),
        prefill(b.histogram("shoal_request_prefill_seconds",
                            "From a request's start to its first token", kRequestSeconds)),
        decode(b.histogram("shoal_request_decode_seconds",
                           "From a request's first token to its last", kRequestSeconds)),
        request_prompt(
            b.histogram("shoal_request_prompt_tokens", "Prompt tokens of a request", kTokens)),
        request_generation(b.histogram("shoal_request_generation_tokens",
                                       "Tokens generated for a request", kTokens)),
        prompt_tokens(
            b.counters("shoal_prompt_tokens_total", "Prompt tokens of started requests").Add({})),
        generation_tokens(b.counters("shoal_generation_tokens_total", "Tokens generated").Add({})),
        preemptions(b.counters("shoal_preemptions_total",
                               "Sequences stopped for want of KV blocks, to start again later")
                        .Add({})),
        replays(b.counters("shoal_replays_total",
                           "Requests that ran in a group that was lost and start again")
                    .Add({})),
        surplus(b.counters("shoal_surplus_samples_total",
                           "Samples computed for requests that had just ended")
                    .Add({})),
        prefix_queries(b.counters("shoal_prefix_cache_queries_total",
                                  "Prompt tokens looked up in the prefix cache")
                           .Add({})),
        prefix_hits(b.counters("shoal_prefix_cache_hits_total",
                               "Prompt tokens found there: they were not computed again")
                        .Add({})),
        prefix_evicted(b.counters("shoal_prefix_cache_evicted_blocks_total",
                                  "Cached KV blocks given away for new content")
                           .Add({})),
        overdue(b.counters("shoal_steps_overdue_total",
                           "Steps that took longer than steps of their kind ever do")
                    .Add({})),
        decode_rows(rows(b).Add({{"kind", "decode"}})),
        prefill_rows(rows(b).Add({{"kind", "prefill"}})),
        log_dropped(b.counters("shoal_log_dropped_lines_total",
                               "Lines of the log that standard error did not take in time")
                        .Add({})),
        requests(b.counters("shoal_requests_total", "Requests that ended, by reason")),
        rejected(b.counters("shoal_rejected_total", "Requests not admitted, by reason")),
        failures(b.counters("shoal_worker_failures_total", "Groups of workers lost, by reason")),
        http(b.counters("shoal_http_requests_total", "HTTP exchanges, by route and status")),
        http_refused(b.counters("shoal_http_refused_total",
                                "HTTP requests and connections that did not get to a handler")),
        http_gauges(b),
        weight_bytes(b.counters("shoal_weight_bytes_read_total",
                                "Bytes of matrices steps had to read, by rank")),
        faults(b.counters("shoal_handler_faults_total",
                          "Requests that failed by an exception within the server, by route")),
        http_seconds(b.histograms("shoal_http_request_seconds", "HTTP exchanges, by route")),
        step_seconds(b.histograms("shoal_step_seconds", "Time of a step on a rank, by phase")),
        collective_seconds(b.histograms("shoal_collective_seconds",
                                        "Time inside collective operations in a step")),
        wait_seconds(b.histograms("shoal_rank_wait_seconds",
                                  "Of the collective time of a step, waiting for other ranks")),
        running(b.gauges("shoal_requests_running", "Requests that have started").Add({})),
        waiting(b.gauges("shoal_requests_waiting", "Requests that wait to start").Add({})),
        kv_usage(b.gauges("shoal_kv_cache_usage_ratio",
                          "Share of KV blocks in use by sequences, in the fullest KV group")
                     .Add({})),
        kv_blocks(b.gauges("shoal_kv_blocks", "KV blocks of the current plan").Add({})),
        prefix_blocks(b.gauges("shoal_prefix_cache_blocks",
                               "KV blocks no sequence uses whose content may be used again")
                          .Add({})),
        ready(b.gauges("shoal_ready", "1 if a full group of workers serves and no step is overdue")
                  .Add({})),
        epoch(b.gauges("shoal_plan_epoch", "Plans made; rises with every re-forming").Add({})),
        workers(b.gauges("shoal_workers", "Workers known, by state")),
        memory(b.gauges("shoal_device_memory_bytes", "Memory a worker holds, by kind")),
        control(b),
        has_experts(!options.mixture_layers.empty()),
        experts(b, options.mixture_layers) {
    for (const char* reason : kFinishReasons) requests.Add({{"reason", reason}});
    b.gauges("shoal_build_info", "Always 1").Add({{"version", options.version}}).Set(1);
    b.gauges("shoal_plan_info", "Always 1").Add({{"world", std::to_string(options.world)}}).Set(1);
    if (options.vllm_names) vllm.emplace(b, Labels{{"model_name", sanitize_utf8(options.model)}});
  }

  static Family<Counter>& rows(Builder b) {
    return b.counters("shoal_step_rows_total", "Tokens computed, by kind of row");
  }

  RankFigures& rank(uint32_t rank) {  // with mutex held
    while (ranks.size() <= rank) {
      const std::string label = std::to_string(ranks.size());
      const auto step = [&](const char* phase) {
        return &step_seconds.Add({{"rank", label}, {"phase", phase}}, kStepSeconds);
      };
      ranks.push_back({step("forward"), step("sample"), step("round_trip"),
                       &collective_seconds.Add({{"rank", label}}, kCollectiveSeconds),
                       &wait_seconds.Add({{"rank", label}}, kCollectiveSeconds),
                       has_experts ? step("experts") : nullptr,
                       &weight_bytes.Add({{"rank", label}})});
    }
    return ranks[rank];
  }

  Histogram &ttft, &inter_token, &request, &queue, &prefill, &decode;
  Histogram &request_prompt, &request_generation;
  Counter &prompt_tokens, &generation_tokens, &preemptions, &replays, &surplus;
  Counter &prefix_queries, &prefix_hits, &prefix_evicted, &overdue, &decode_rows, &prefill_rows;
  Counter& log_dropped;
  Family<Counter>&requests, &rejected, &failures, &http, &http_refused;
  HttpGauges http_gauges;
  Family<Counter>&weight_bytes, &faults;
  Family<Histogram>&http_seconds, &step_seconds, &collective_seconds, &wait_seconds;
  Gauge &running, &waiting, &kv_usage, &kv_blocks, &prefix_blocks, &ready, &epoch;
  Family<Gauge>&workers, &memory;
  ControlFigures control;
  const bool has_experts;
  ExpertFigures experts;  // core's thread only
  std::optional<VllmNames> vllm;
  std::unique_ptr<prometheus::Registry> registry;
  std::mutex mutex;  // guards ranks and log_dropped
  std::vector<RankFigures> ranks;
};

Metrics::Metrics(const Options& options) : impl_(std::make_unique<Impl>(options)) {}
Metrics::~Metrics() = default;

std::string Metrics::serialize(const ServiceState& state) const {
  Impl& m = *impl_;
  m.running.Set(static_cast<double>(state.running));
  m.waiting.Set(static_cast<double>(state.waiting));
  m.kv_usage.Set(state.kv_usage);
  m.prefix_blocks.Set(static_cast<double>(state.kv_blocks_cached));
  m.kv_blocks.Set(static_cast<double>(state.kv_blocks_total));
  m.ready.Set(state.ready ? 1 : 0);
  m.epoch.Set(static_cast<double>(state.epoch));
  {
    std::lock_guard lock(m.mutex);
    m.log_dropped.Increment(static_cast<double>(log_dropped()) - m.log_dropped.Value());
  }
  m.control.catch_up(state);
  if (m.vllm) {
    m.vllm->running.Set(static_cast<double>(state.running));
    m.vllm->waiting.Set(static_cast<double>(state.waiting));
    m.vllm->kv_usage.Set(state.kv_usage);
    m.vllm->gpu_usage.Set(state.kv_usage);
  }
  for (const char* name : kWorkerStates) {
    double count = 0;
    for (const WorkerState& worker : state.workers) count += worker.state == name ? 1 : 0;
    m.workers.Add({{"state", name}}).Set(count);
  }
  for (const WorkerState& worker : state.workers) {
    const bool here = worker.state != "lost";
    const auto set = [&](const char* kind, uint64_t bytes) {
      m.memory.Add({{"worker", worker.name}, {"kind", kind}})
          .Set(here ? static_cast<double>(bytes) : 0.0);
    };
    set("weights", worker.weight_bytes);
    set("kv", worker.kv_bytes);
  }
  return prometheus::TextSerializer().Serialize(m.registry->Collect());
}

void Metrics::http_request(std::string_view path, int status, double seconds) {
  const std::string route(path);
  impl_->http.Add({{"path", route}, {"code", std::to_string(status)}}).Increment();
  impl_->http_seconds.Add({{"path", route}}, kRequestSeconds).Observe(seconds);
}

void Metrics::handler_fault(std::string_view path, std::string_view kind) {
  impl_->faults.Add({{"path", std::string(path)}, {"kind", std::string(kind)}}).Increment();
}

void Metrics::http_refused(std::string_view reason) {
  impl_->http_refused.Add({{"reason", std::string(reason)}}).Increment();
}

void Metrics::set_http(const HttpFigures& figures) { impl_->http_gauges.set(figures); }

void Metrics::request_started(const Request& request, double queued) {
  impl_->queue.Observe(queued);
  impl_->prompt_tokens.Increment(request.prompt_tokens);
  if (!impl_->vllm) return;
  impl_->vllm->queue.Observe(queued);
  impl_->vllm->prompt_tokens.Increment(request.prompt_tokens);
}

void Metrics::token(const Request& request, bool first, double since_last) {
  impl_->generation_tokens.Increment();
  if (first) {
    impl_->ttft.Observe(since_last);
    impl_->prefill.Observe(to_seconds(request.first_token - request.started));
  } else {
    impl_->inter_token.Observe(since_last);
  }
  if (!impl_->vllm) return;
  impl_->vllm->generation_tokens.Increment();
  if (first) {
    impl_->vllm->ttft.Observe(since_last);
    impl_->vllm->prefill.Observe(to_seconds(request.first_token - request.started));
  } else {
    impl_->vllm->inter_token.Observe(since_last);
    impl_->vllm->output_token.Observe(since_last);
  }
}

void Metrics::request_finished(const Request& request, FinishReason reason, TimePoint now) {
  const char* name = kFinishReasons[static_cast<size_t>(reason)];
  const double seconds = to_seconds(now - request.arrived);
  impl_->requests.Add({{"reason", name}}).Increment();
  impl_->request.Observe(seconds);
  impl_->request_prompt.Observe(request.prompt_tokens);
  impl_->request_generation.Observe(request.emitted());
  if (request.emitted() > 0) {
    impl_->decode.Observe(to_seconds(request.last_token - request.first_token));
  }
  if (impl_->vllm) impl_->vllm->finished(request, reason, seconds);
}

void Metrics::request_rejected(std::string_view reason) {
  impl_->rejected.Add({{"reason", std::string(reason)}}).Increment();
}

void Metrics::replayed(uint64_t requests) {
  impl_->replays.Increment(static_cast<double>(requests));
}

void Metrics::preempted() {
  impl_->preemptions.Increment();
  if (impl_->vllm) impl_->vllm->preemptions.Increment();
}
void Metrics::surplus_result() { impl_->surplus.Increment(); }
void Metrics::step_overdue() { impl_->overdue.Increment(); }

void Metrics::prefix_lookup(uint32_t tokens, uint32_t hits) {
  impl_->prefix_queries.Increment(tokens);
  impl_->prefix_hits.Increment(hits);
  if (!impl_->vllm) return;
  impl_->vllm->prefix_queries.Increment(tokens);
  impl_->vllm->prefix_hits.Increment(hits);
}

void Metrics::blocks_evicted(uint64_t blocks) {
  impl_->prefix_evicted.Increment(static_cast<double>(blocks));
}

void Metrics::expert_load(const wire::ExpertLoad& load) { impl_->experts.set(load); }

void Metrics::step_sent(uint32_t decode_rows, uint32_t prefill_rows) {
  impl_->decode_rows.Increment(decode_rows);
  impl_->prefill_rows.Increment(prefill_rows);
}

void Metrics::step_returned(uint32_t rank, const wire::StepStats& stats, double round_trip) {
  const RankFigures figures = [&] {
    std::lock_guard lock(impl_->mutex);
    return impl_->rank(rank);
  }();
  figures.forward->Observe(stats.forward_seconds);
  figures.sample->Observe(stats.sample_seconds);
  figures.round_trip->Observe(round_trip);
  figures.collective->Observe(stats.collective_seconds);
  figures.wait->Observe(stats.wait_seconds);
  figures.weight_bytes->Increment(static_cast<double>(stats.weight_bytes));
  if (figures.experts != nullptr) figures.experts->Observe(stats.expert_seconds);
}

void Metrics::worker_failed(std::string_view reason) {
  impl_->failures.Add({{"reason", std::string(reason)}}).Increment();
}

}  // namespace shoal
