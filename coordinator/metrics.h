// Everything the coordinator measures, in the Prometheus text format. Base units; every label value
// comes from our own code or the configuration, never from a request. All methods are thread-safe.
//
//   ttft, inter-token latency, request/queue/prefill/decode seconds, prompt and generation tokens:
//     histograms per request
//   shoal_{prompt,generation}_tokens_total, shoal_requests_total{reason},
//   shoal_rejected_total{reason},
//     shoal_preemptions_total, shoal_replays_total, shoal_surplus_samples_total,
//     shoal_worker_failures_total{reason}, shoal_step_rows_total{kind},
//     shoal_http_requests_total{path,code}, shoal_http_refused_total{reason},
//     shoal_handler_faults_total{path,kind}: counters
//   shoal_http_connections, shoal_http_connections_limit, shoal_http_large_body_bytes,
//     shoal_http_pool_requests{pool,state}: gauges
//   shoal_prefix_cache_{queries,hits}_total (tokens), shoal_prefix_cache_evicted_blocks_total:
//     counters
//   shoal_control_refused_total{reason}, shoal_control_rejected_messages_total,
//     shoal_steps_overdue_total: counters
//   shoal_expert_tokens_total{layer,expert}: counter; shoal_expert_imbalance{layer}: gauge, the
//     busiest expert's tokens ÷ the mean since the plan epoch began
//   shoal_step_seconds{rank,phase}, shoal_collective_seconds{rank}, shoal_rank_wait_seconds{rank}:
//     histograms per step
//   shoal_requests_{running,waiting}, shoal_kv_cache_usage_ratio, shoal_kv_blocks,
//     shoal_prefix_cache_blocks, shoal_ready, shoal_workers{state},
//     shoal_device_memory_bytes{worker,rank,kind}, shoal_plan_epoch, shoal_plan_info{world},
//     shoal_build_info{version}: gauges
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "coordinator/core/observer.h"
#include "coordinator/core/token_service.h"

namespace shoal {

// What the HTTP side holds now. small, large: requests by the size of their bodies, on their way
// through parsing and tokenizing.
struct HttpFigures {
  uint64_t connections = 0, max_connections = 0;
  uint64_t large_body_bytes = 0;
  uint64_t small_waiting = 0, small_running = 0;
  uint64_t large_waiting = 0, large_running = 0;
};

class Metrics : public CoreObserver {
 public:
  struct Options {
    std::string version;
    uint32_t world = 1;
    bool vllm_names = false;  // also the vllm:* names that existing dashboards query …
    std::string model;        // … with this model_name
    // Indices of the layers that are mixtures of experts, in order; empty: a dense model.
    std::vector<uint32_t> mixture_layers;
  };
  explicit Metrics(const Options& options);
  ~Metrics() override;

  // The body of GET /metrics (text format 0.0.4), with the gauges of `state`.
  std::string serialize(const ServiceState& state) const;

  // A finished HTTP exchange. `path` is a route of ours, never the client's text.
  void http_request(std::string_view path, int status, double seconds);
  // A request or connection that did not get to a handler. `reason` is one of ours.
  void http_refused(std::string_view reason);
  // An exception in the gateway was kept within its request. `kind`: "memory" or "exception".
  void handler_fault(std::string_view path, std::string_view kind);
  void set_http(const HttpFigures& figures);

  void request_started(const Request& request, double queued) override;
  void token(const Request& request, bool first, double since_last) override;
  void request_finished(const Request& request, FinishReason reason, TimePoint now) override;
  void request_rejected(std::string_view reason) override;
  void preempted() override;
  void replayed(uint64_t requests) override;
  void surplus_result() override;
  void prefix_lookup(uint32_t tokens, uint32_t hits) override;
  void blocks_evicted(uint64_t blocks) override;
  void expert_load(const wire::ExpertLoad& load) override;
  void step_sent(uint32_t decode_rows, uint32_t prefill_rows) override;
  void step_returned(uint32_t rank, const wire::StepStats& stats, double round_trip) override;
  void worker_failed(std::string_view reason) override;
  void step_overdue() override;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace shoal
