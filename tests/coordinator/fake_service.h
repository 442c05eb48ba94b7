// An TokenService for gateway tests: a thread that gives every request one scripted token per turn.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "coordinator/core/token_service.h"

namespace shoal::gateway::testing {

// How long tests wait for what should happen soon; sanitizers make everything slower.
#ifdef SHOAL_SANITIZED
inline constexpr std::chrono::seconds kPatience{60};
#else
inline constexpr std::chrono::seconds kPatience{10};
#endif

struct Script {
  std::vector<int32_t> tokens;
  FinishReason finish = FinishReason::kStop;
  int32_t stop_token = -1;  // sent as is_stop before the end, ≥ 0
  Status error;
  bool hold = false;     // stays queued until it is cancelled, or release_held()
  bool endless = false;  // repeats `tokens`
  uint32_t cached_tokens = 0;
};

class FakeService : public TokenService {
 public:
  FakeService();
  ~FakeService() override;

  Result<RequestId> submit(GenerationRequest request, std::shared_ptr<TokenSink> sink) override;
  void cancel(RequestId id) override;
  ServiceState state() const override;
  uint32_t context_tokens() const override { return context; }
  void drain() override;

  // Prompts are scored three tokens a turn: token i has −i, and alternatives below that.
  // What a request gets; default: the bytes of "Hello world!" and the end token, cut at max_tokens.
  void set_script(std::function<Script(const GenerationRequest&)> script);
  void set_state(const ServiceState& state);
  void refuse_after(size_t submissions, Status status);  // of those to come
  void accept_all();
  void fail_all(Status status);  // that are active, once
  void release_held();           // requests with Script::hold go on

  size_t active() const;
  size_t submitted() const;
  size_t cancelled() const;
  std::vector<GenerationRequest> requests() const;
  // Waits until no request is active; false after kPatience.
  bool wait_idle() const;

  std::atomic<uint32_t> context{4096};
  std::atomic<std::chrono::microseconds> turn{std::chrono::microseconds(200)};

 private:
  struct Active {
    GenerationRequest request;
    Script script;
    std::shared_ptr<TokenSink> sink;
    size_t sent = 0;
    size_t scored = 1;  // of the prompt
    std::atomic<bool> cancelled{false};
  };
  void run();
  bool advance(Active& active);  // false: it ended

  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  std::function<Script(const GenerationRequest&)> script_;
  ServiceState state_;
  std::map<RequestId, std::shared_ptr<Active>> active_;
  std::vector<GenerationRequest> requests_;
  RequestId next_id_ = 1;
  size_t cancelled_ = 0;
  size_t refuse_after_ = SIZE_MAX;
  Status refusal_;
  bool stop_ = false;
  std::atomic<bool> held_released_{false}, failing_{false};
  Status failure_;  // set before failing_ is
  std::thread thread_;
};

Script text_script(const std::string& text);

}  // namespace shoal::gateway::testing
