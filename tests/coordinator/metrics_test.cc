// The registry by itself: what must not depend on a running cluster.
#include "coordinator/metrics.h"

#include <gtest/gtest.h>

namespace shoal {
namespace {

void expect_lines(const Metrics& metrics, const std::vector<std::string>& lines) {
  const std::string text = metrics.serialize({});
  for (const std::string& line : lines) {
    EXPECT_NE(text.find(line + "\n"), std::string::npos) << line << "\n" << text;
  }
}

TEST(Metrics, ExpertsByLayerAcrossEpochs) {
  Metrics metrics({.version = "test", .mixture_layers = {1, 3}});
  metrics.expert_load({1, 2, {6, 2, 0, 0}});
  expect_lines(metrics, {
                            "shoal_expert_tokens_total{expert=\"0\",layer=\"1\"} 6",
                            "shoal_expert_tokens_total{expert=\"1\",layer=\"1\"} 2",
                            "shoal_expert_tokens_total{expert=\"0\",layer=\"3\"} 0",
                            "shoal_expert_imbalance{layer=\"1\"} 1.5",  // 6 ÷ 4
                            "shoal_expert_imbalance{layer=\"3\"} 0",    // nothing yet
                        });
  // Cumulative within an epoch …
  metrics.expert_load({1, 2, {6, 6, 1, 3}});
  expect_lines(metrics, {
                            "shoal_expert_tokens_total{expert=\"0\",layer=\"1\"} 6",
                            "shoal_expert_tokens_total{expert=\"1\",layer=\"1\"} 6",
                            "shoal_expert_tokens_total{expert=\"1\",layer=\"3\"} 3",
                            "shoal_expert_imbalance{layer=\"1\"} 1",
                            "shoal_expert_imbalance{layer=\"3\"} 1.5",
                        });
  // … and added up over epochs; the imbalance is the new epoch's.
  metrics.expert_load({2, 2, {0, 8, 0, 0}});
  expect_lines(metrics, {
                            "shoal_expert_tokens_total{expert=\"0\",layer=\"1\"} 6",
                            "shoal_expert_tokens_total{expert=\"1\",layer=\"1\"} 14",
                            "shoal_expert_imbalance{layer=\"1\"} 2",
                        });
  // A figure that falls, or of another shape, is not believed.
  metrics.expert_load({2, 2, {0, 4, 0, 0}});
  metrics.expert_load({2, 3, {9, 9, 9}});
  metrics.expert_load({2, 2, {9, 9}});
  expect_lines(metrics, {
                            "shoal_expert_tokens_total{expert=\"0\",layer=\"1\"} 6",
                            "shoal_expert_tokens_total{expert=\"1\",layer=\"1\"} 14",
                        });
}

TEST(Metrics, ExpertTimeOfMixturesOnly) {
  Metrics mixture({.version = "test", .mixture_layers = {0}}), dense({.version = "test"});
  wire::StepStats stats;
  stats.expert_seconds = 0.5;
  stats.weight_bytes = 4096;
  mixture.step_returned(1, stats, 1.0);
  dense.step_returned(1, stats, 1.0);
  dense.expert_load({1, 2, {6, 2}});
  mixture.step_returned(1, stats, 1.0);
  expect_lines(mixture, {"shoal_step_seconds_sum{phase=\"experts\",rank=\"1\"} 1",
                         "shoal_weight_bytes_read_total{rank=\"1\"} 8192"});
  EXPECT_EQ(dense.serialize({}).find("expert=\""), std::string::npos);
  EXPECT_EQ(dense.serialize({}).find("phase=\"experts\""), std::string::npos);
}

TEST(Metrics, HttpSide) {
  Metrics metrics({.version = "test"});
  metrics.http_refused("malformed");
  metrics.http_refused("malformed");
  metrics.http_request("none", 400, 0);
  HttpFigures figures;
  figures.connections = 3;
  figures.max_connections = 8;
  figures.large_body_bytes = 1000;
  figures.small_waiting = 1;
  figures.small_running = 2;
  figures.large_waiting = 4;
  figures.large_running = 5;
  metrics.set_http(figures);
  expect_lines(metrics, {"shoal_http_refused_total{reason=\"malformed\"} 2",
                         "shoal_http_requests_total{code=\"400\",path=\"none\"} 1",
                         "shoal_http_connections 3", "shoal_http_connections_limit 8",
                         "shoal_http_large_body_bytes 1000",
                         "shoal_http_pool_requests{pool=\"small\",state=\"waiting\"} 1",
                         "shoal_http_pool_requests{pool=\"small\",state=\"running\"} 2",
                         "shoal_http_pool_requests{pool=\"large\",state=\"waiting\"} 4",
                         "shoal_http_pool_requests{pool=\"large\",state=\"running\"} 5"});
}

// What follows `name` and labels on its line, or "".
std::string value_of(const std::string& text, const std::string& name) {
  const size_t at = ("\n" + text).find("\n" + name);
  return at == std::string::npos
             ? ""
             : text.substr(at + name.size(), text.find('\n', at) - at - name.size());
}

TEST(Metrics, VllmsNamesSayTheSame) {
  Metrics metrics({.version = "test", .vllm_names = true, .model = "my \"m\xff"});
  Request request;
  request.prompt_tokens = 7;
  request.tokens.assign(9, 1);
  request.arrived = TimePoint(std::chrono::seconds(10));
  request.started = TimePoint(std::chrono::seconds(11));
  request.first_token = TimePoint(std::chrono::seconds(13));
  request.last_token = TimePoint(std::chrono::seconds(17));
  metrics.request_started(request, 1.0);
  metrics.token(request, true, 3.0);
  metrics.token(request, false, 4.0);
  metrics.prefix_lookup(7, 4);
  metrics.preempted();
  metrics.request_finished(request, FinishReason::kStop, TimePoint(std::chrono::seconds(18)));
  const std::string text = metrics.serialize(ServiceState{});
  const std::string label = "{model_name=\"my \\\"m\xef\xbf\xbd\"}";
  const std::pair<const char*, const char*> names[] = {
      {"vllm:time_to_first_token_seconds_sum", "shoal_time_to_first_token_seconds_sum"},
      {"vllm:inter_token_latency_seconds_sum", "shoal_inter_token_latency_seconds_sum"},
      {"vllm:time_per_output_token_seconds_sum", "shoal_inter_token_latency_seconds_sum"},
      {"vllm:e2e_request_latency_seconds_sum", "shoal_request_seconds_sum"},
      {"vllm:request_queue_time_seconds_sum", "shoal_request_queue_seconds_sum"},
      {"vllm:request_prefill_time_seconds_sum", "shoal_request_prefill_seconds_sum"},
      {"vllm:request_decode_time_seconds_sum", "shoal_request_decode_seconds_sum"},
      {"vllm:request_prompt_tokens_sum", "shoal_request_prompt_tokens_sum"},
      {"vllm:request_generation_tokens_sum", "shoal_request_generation_tokens_sum"},
      {"vllm:request_max_num_generation_tokens_sum", "shoal_request_generation_tokens_sum"},
      {"vllm:prompt_tokens_total", "shoal_prompt_tokens_total"},
      {"vllm:generation_tokens_total", "shoal_generation_tokens_total"},
      {"vllm:prefix_cache_queries_total", "shoal_prefix_cache_queries_total"},
      {"vllm:prefix_cache_hits_total", "shoal_prefix_cache_hits_total"},
      {"vllm:num_preemptions_total", "shoal_preemptions_total"},
  };
  for (const auto& [theirs, ours] : names) {
    const std::string value = value_of(text, std::string(theirs) + label + " ");
    EXPECT_EQ(value, value_of(text, std::string(ours) + " ")) << theirs << "\n" << text;
    EXPECT_GT(std::atof(value.c_str()), 0) << theirs;
  }
  EXPECT_EQ(value_of(text, "vllm:request_inference_time_seconds_sum" + label + " "), "6");
}

TEST(Metrics, TheFullestGroupIsWhatMatters) {
  Metrics metrics({.version = "test", .vllm_names = true, .model = "m"});
  ServiceState state;
  state.kv_blocks_total = 100;
  state.kv_blocks_used = 10;
  state.kv_blocks_cached = 40;
  state.kv_usage = 0.75;
  const std::string text = metrics.serialize(state);
  for (const char* line :
       {"shoal_kv_cache_usage_ratio 0.75", "shoal_kv_blocks 100", "shoal_prefix_cache_blocks 40",
        "vllm:kv_cache_usage_perc{model_name=\"m\"} 0.75",
        "vllm:gpu_cache_usage_perc{model_name=\"m\"} 0.75"}) {
    EXPECT_NE(text.find(line), std::string::npos) << line << "\n" << text;
  }
}

}  // namespace
}  // namespace shoal
