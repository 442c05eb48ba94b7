#include "coordinator/gateway/metered_exchange.h"

#include <atomic>
#include <utility>

namespace shoal::gateway {
namespace {

class MeteredExchange final : public Exchange {
 public:
  MeteredExchange(std::shared_ptr<Exchange> inner, std::string_view route, const Clock& clock,
                  ExchangeObserver observer)
      : inner_(std::move(inner)),
        route_(route),
        clock_(clock),
        observer_(std::move(observer)),
        began_(clock.now()) {}
  // Nobody answers any more: the client has gone, perhaps in the middle of a stream.
  ~MeteredExchange() override {
    const int unanswered = gone_->load() ? kClientClosedRequest : 500;
    report(status_.load() != 0 ? status_.load() : unanswered);
  }

  void respond(HttpResponse response) override {
    report(response.status);  // first: whoever has the answer finds it counted
    inner_->respond(std::move(response));
  }
  void start_stream(int status, std::string content_type, HttpHeaders headers) override {
    status_.store(status);
    inner_->start_stream(status, std::move(content_type), std::move(headers));
  }
  void write(std::string chunk) override { inner_->write(std::move(chunk)); }
  void finish() override {
    report(status_.load());
    inner_->finish();
  }
  void post(std::function<void()> task) override { inner_->post(std::move(task)); }
  void on_gone(std::function<void()> task) override {
    inner_->on_gone([gone = gone_, t = std::move(task)] {
      gone->store(true);
      t();
    });
  }
  void after(Duration delay, std::function<void()> task) override {
    inner_->after(delay, std::move(task));
  }
  bool gone() const override { return inner_->gone(); }

 private:
  void report(int status) {
    if (reported_.exchange(true)) return;
    observer_(route_, status, to_seconds(clock_.now() - began_));
  }

  const std::shared_ptr<Exchange> inner_;
  const std::string_view route_;
  const Clock& clock_;
  const ExchangeObserver observer_;
  const TimePoint began_;
  std::atomic<int> status_{0};  // of a stream
  const std::shared_ptr<std::atomic<bool>> gone_ = std::make_shared<std::atomic<bool>>(false);
  std::atomic<bool> reported_{false};
};

}  // namespace

std::shared_ptr<Exchange> metered(std::shared_ptr<Exchange> exchange, std::string_view route,
                                  const Clock& clock, ExchangeObserver observer) {
  return std::make_shared<MeteredExchange>(std::move(exchange), route, clock, std::move(observer));
}

}  // namespace shoal::gateway
