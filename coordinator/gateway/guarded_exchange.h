// Keeps an exception within the request it arose from. Handlers and their later callbacks run
// through a GuardedExchange: whatever they throw becomes an error answer (or the error event of a
// stream), is logged and counted, and ends nothing else.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <string_view>

#include "coordinator/gateway/http.h"

namespace shoal::gateway {

// A route of ours, and "memory" (std::bad_alloc, std::length_error) or "exception". Called on any
// thread; must not block.
using FaultObserver = std::function<void(std::string_view route, std::string_view kind)>;

class GuardedExchange final : public Exchange,
                              public std::enable_shared_from_this<GuardedExchange> {
 public:
  // `route` lives as long as the program; `observer` may be empty.
  GuardedExchange(std::shared_ptr<Exchange> inner, std::string_view route, FaultObserver observer)
      : inner_(std::move(inner)), route_(route), observer_(std::move(observer)) {}

  // Runs `task`. If it throws: what on_gone() was given is called, so that work under way is
  // cancelled, and the client is sent 503 for want of memory, 500 for anything else.
  void run(const std::function<void()>& task);

  void respond(HttpResponse response) override;
  void start_stream(int status, std::string content_type, HttpHeaders headers) override;
  void write(std::string chunk) override { inner_->write(std::move(chunk)); }
  void finish() override { inner_->finish(); }
  void note_tokens(uint64_t prompt, uint64_t generated) override {
    inner_->note_tokens(prompt, generated);
  }
  void post(std::function<void()> task) override;
  void on_gone(std::function<void()> task) override;
  bool gone() const override { return inner_->gone(); }
  void after(Duration delay, std::function<void()> task) override;

 private:
  std::function<void()> guarded(std::function<void()> task);
  void fail(std::string_view kind, std::string_view what) noexcept;

  const std::shared_ptr<Exchange> inner_;
  const std::string_view route_;
  const FaultObserver observer_;
  std::mutex mutex_;  // guards the following
  bool streaming_ = false;
  // What on_gone() was given; the connection has it as long as somebody may still leave. It holds
  // the work that holds this exchange, which must not hold it as well.
  std::weak_ptr<std::function<void()>> gone_;
};

}  // namespace shoal::gateway
