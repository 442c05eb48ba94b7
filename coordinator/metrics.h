// Everything the coordinator measures, in the Prometheus text format. Names, units and labels are
// those of docs/metrics.md; no label comes from a request. All methods are thread-safe.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "coordinator/engine.h"
#include "coordinator/observer.h"

namespace shoal {

struct RankLabels {  // of the current plan, by rank
  std::string host, device;
};

class Metrics final : public CoreObserver {
 public:
  struct Options {
    std::string build;            // version, for shoal_build_info
    bool vllm_names = false;      // also the vllm:* names existing dashboards query
    std::string model;            // the model label of those
  };
  explicit Metrics(const Options& options);
  ~Metrics() override;

  // The text of GET /metrics (version 0.0.4).
  std::string serialize() const;

  // Gauges; call before serialize() with the engine's state.
  void set_state(const EngineState& state);
  // A finished HTTP request. `path` is a route of ours, never the client's text.
  void http_request(std::string_view path, int status, double seconds);

  void request_started(const Request& request, double queued) override;
  void token(const Request& request, bool first, double since_last) override;
  void request_finished(const Request& request, FinishReason reason, TimePoint now) override;
  void request_rejected(std::string_view reason) override;
  void preempted() override;
  void surplus_result() override;
  void step_sent(uint32_t decode_rows, uint32_t prefill_rows) override;
  void step_returned(uint32_t rank, const wire::StepStats& stats, double round_trip) override;
  void worker_failed(std::string_view reason) override;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace shoal
