// What a connection sends, and how it ends.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/buffer.hpp>
#include <ctime>
#include <utility>

#include "coordinator/gateway/api_error.h"
#include "coordinator/gateway/http_connection.h"

namespace shoal::gateway {
namespace {

namespace asio = boost::asio;

constexpr size_t kSeparateBodyBytes = 64 << 10;
constexpr size_t kWriteBuffers = 64;  // per system call

std::string http_date() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  std::array<char, 64> text{};
  const size_t length =
      std::strftime(text.data(), text.size(), "%a, %d %b %Y %H:%M:%S GMT", &parts);
  return std::string(text.data(), length);
}

class ConnectionExchange final : public Exchange {
 public:
  ConnectionExchange(std::shared_ptr<Connection> connection, uint64_t serial)
      : connection_(std::move(connection)), serial_(serial) {}
  ~ConnectionExchange() override {
    // Behind an answer that is on its way: whoever drops the last reference may be on the strand.
    connection_->enqueue([c = connection_, s = serial_] { c->abandoned(s); });
  }

  void respond(HttpResponse response) override {
    connection_->post([c = connection_, s = serial_, r = std::move(response)]() mutable {
      c->respond(s, std::move(r));
    });
  }
  void start_stream(int status, std::string content_type, HttpHeaders headers) override {
    connection_->post([c = connection_, s = serial_, status, t = std::move(content_type),
                       h = std::move(headers)] { c->start_stream(s, status, t, h); });
  }
  void write(std::string chunk) override {
    connection_->post([c = connection_, s = serial_, text = std::move(chunk)]() mutable {
      c->write_chunk(s, std::move(text));
    });
  }
  void finish() override {
    connection_->post([c = connection_, s = serial_] { c->finish(s); });
  }
  void note_tokens(uint64_t prompt, uint64_t generated) override {
    connection_->post([c = connection_, s = serial_, prompt, generated] {
      c->note_tokens(s, prompt, generated);
    });
  }
  void post(std::function<void()> task) override { connection_->enqueue(std::move(task)); }
  void on_gone(std::function<void()> task) override {
    connection_->post([c = connection_, s = serial_, t = std::move(task)]() mutable {
      c->on_gone(s, std::move(t));
    });
  }
  bool gone() const override { return connection_->gone(); }
  void after(Duration delay, std::function<void()> task) override {
    connection_->post([c = connection_, s = serial_, delay, t = std::move(task)]() mutable {
      c->after(s, delay, std::move(t));
    });
  }

 private:
  const std::shared_ptr<Connection> connection_;
  const uint64_t serial_;
};

}  // namespace

std::shared_ptr<Exchange> make_exchange(std::shared_ptr<Connection> connection, uint64_t serial) {
  return std::make_shared<ConnectionExchange>(std::move(connection), serial);
}

void Connection::begin_answer() {
  state_ = State::kHandling;
  streaming_ = answered_ = false;
  gone_ = nullptr;
  ++serial_;
  wait_until(TimePoint::max());
}

// What the body had of the reserve is free before the client can ask for it again.
void Connection::release_hold() {
  if (hold_) std::exchange(hold_, nullptr)->release();
}

std::string Connection::head(int status, const std::string& content_type,
                             const HttpHeaders& headers, std::optional<size_t> length) {
  std::string out = fmt::format("HTTP/1.1 {} {}\r\nServer: shoal\r\nDate: {}\r\n", status,
                                status_text(status), http_date());
  if (status != 204) out += fmt::format("Content-Type: {}\r\n", content_type);
  const auto add = [&out](const HttpHeaders& set) {
    for (const auto& [name, value] : set) out += fmt::format("{}: {}\r\n", name, value);
  };
  add(headers);
  add(headers_);
  if (length && status != 204) out += fmt::format("Content-Length: {}\r\n", *length);
  if (!length && !http_1_0_) out += "Transfer-Encoding: chunked\r\n";
  if (!keep_alive_) {
    out += "Connection: close\r\n";
  } else if (http_1_0_) {
    out += "Connection: keep-alive\r\n";
  }
  return out + "\r\n";
}

void Connection::respond(uint64_t serial, HttpResponse response) {
  if (!current(serial) || answered_ || streaming_) return;
  release_hold();
  if (shared_->draining) keep_alive_ = false;
  std::string bytes =
      head(response.status, response.content_type, response.headers, response.body.size());
  if (head_only_) response.body.clear();
  if (record_) {
    record_->status = response.status;
    record_->body_bytes = response.body.size();
  }
  end_record(true);
  if (response.body.size() < kSeparateBodyBytes) {
    queue(std::move(bytes) + response.body);
  } else {  // too large to copy
    queue(std::move(bytes));
    queue(std::move(response.body));
  }
  complete();
}

void Connection::start_stream(uint64_t serial, int status, const std::string& content_type,
                              const HttpHeaders& headers) {
  if (!current(serial) || answered_ || streaming_) return;
  release_hold();
  streaming_ = true;
  if (http_1_0_ || shared_->draining) keep_alive_ = false;
  if (record_) record_->status = status;
  queue(head(status, content_type, headers, std::nullopt));
}

void Connection::write_chunk(uint64_t serial, std::string chunk) {
  if (!current(serial) || answered_ || !streaming_ || chunk.empty() || head_only_) return;
  if (out_bytes_ + chunk.size() > shared_->options.outbound_bytes) {
    close();  // the client does not read
    return;
  }
  if (record_) record_->body_bytes += chunk.size();
  queue(http_1_0_ ? std::move(chunk) : fmt::format("{:x}\r\n{}\r\n", chunk.size(), chunk));
}

void Connection::finish(uint64_t serial) {
  if (!current(serial) || answered_ || !streaming_) return;
  end_record(true);
  if (!http_1_0_ && !head_only_) queue("0\r\n\r\n");
  complete();
}

void Connection::abandoned(uint64_t serial) {
  if (!current(serial) || answered_) return;
  if (streaming_) {
    close();  // the missing last chunk tells the client
    return;
  }
  ApiError error;
  error.status = 500;
  error.type = "server_error";
  error.message = "the server dropped this request";
  HttpResponse response;
  response.status = 500;
  response.body = error_body(error);
  respond(serial, std::move(response));
}

void Connection::on_gone(uint64_t serial, std::function<void()> task) {
  if (serial == serial_ && state_ == State::kHandling) {
    if (!answered_) gone_ = std::move(task);
  } else if (serial == serial_ && state_ == State::kClosed && !answered_) {
    task();
  }
}

void Connection::after(uint64_t serial, Duration delay, std::function<void()> task) {
  if (!current(serial) || answered_) return;
  user_timer_.expires_after(delay);
  user_timer_.async_wait(
      guarded([serial, task = std::move(task)](Connection& self, const Error& error) {
        if (!error && self.current(serial) && !self.answered_) task();
      }));
}

void Connection::note_tokens(uint64_t serial, uint64_t prompt, uint64_t generated) {
  if (serial != serial_ || !record_) return;
  record_->prompt_tokens = prompt;
  record_->generated_tokens = generated;
}

void Connection::end_record(bool complete) {
  if (!record_) return;
  HttpRecord record = std::move(*record_);
  record_.reset();
  record.peer = peer_;
  record.complete = complete;
  if (record.status == 0) record.status = kClientClosedRequest;
  record.seconds = to_seconds(SteadyClock().now() - began_);
  shared_->service->over(record);
}

void Connection::complete() {
  answered_ = true;
  gone_ = nullptr;
  user_timer_.cancel();
  if (out_.empty()) next_request();
}

void Connection::next_request() {
  if (!keep_alive_ || shared_->draining) {
    linger();
    return;
  }
  state_ = State::kIdle;
  stand(Standing::kWaiting);
  wait_until(SteadyClock().now() + shared_->options.idle_timeout);
  process();
  read();
}

void Connection::queue(std::string bytes) {
  if (out_.empty()) write_deadline_ = SteadyClock().now() + shared_->options.write_timeout;
  out_bytes_ += bytes.size();
  out_.push_back(std::move(bytes));
  write();
}

void Connection::write() {
  if (writing_ || out_.empty() || state_ == State::kClosed) return;
  writing_ = true;
  std::vector<asio::const_buffer> buffers;
  for (size_t i = 0; i < out_.size() && i < kWriteBuffers; ++i) {
    const size_t skip = i == 0 ? out_offset_ : 0;
    buffers.emplace_back(out_[i].data() + skip, out_[i].size() - skip);
  }
  arm_timer();
  socket_.async_write_some(
      buffers,
      asio::bind_executor(strand_, guarded([](Connection& self, const Error& error, size_t bytes) {
                            self.on_write(error, bytes);
                          })));
}

void Connection::on_write(const Error& error, size_t bytes) {
  writing_ = false;
  if (state_ == State::kClosed) return;
  if (error) {
    close();
    return;
  }
  out_bytes_ -= bytes;
  out_offset_ += bytes;
  while (!out_.empty() && out_offset_ >= out_.front().size()) {
    out_offset_ -= out_.front().size();
    out_.pop_front();
  }
  if (!out_.empty()) {
    write_deadline_ = SteadyClock().now() + shared_->options.write_timeout;
    write();
    return;
  }
  write_deadline_ = TimePoint::max();
  if (state_ == State::kLinger) {
    linger();
  } else if (state_ == State::kHandling && answered_) {
    next_request();
  }
}

// Sends what is queued, then says goodbye and drops what still comes in.
void Connection::linger() {
  if (state_ != State::kLinger) {
    state_ = State::kLinger;
    stand(Standing::kNone);
    buffer_.clear();
    wait_until(TimePoint::max());
    read();
  }
  if (!out_.empty()) return;  // on_write comes back here; write_deadline_ bounds it
  Error ignored;
  socket_.shutdown(Socket::shutdown_send, ignored);
  wait_until(SteadyClock().now() + kLingerTime);
}

void Connection::close() {
  if (state_ == State::kClosed) return;
  const bool unanswered = state_ == State::kHandling && !answered_;
  state_ = State::kClosed;
  gone_flag_ = true;
  Error ignored;
  socket_.close(ignored);
  timer_.cancel();
  user_timer_.cancel();
  head_reader_.reset();
  body_reader_.reset();
  request_.reset();
  hold_.reset();  // the request has it as long as a handler works on it
  buffer_.clear();
  // Buffers of a write in progress stay until its handler ran.
  forget();
  if (unanswered && gone_) std::exchange(gone_, nullptr)();
  gone_ = nullptr;
  end_record(false);
}

void Connection::wait_until(TimePoint deadline) {
  deadline_ = deadline;
  arm_timer();
}

// The timer is moved only when it would fire too late; firing early costs nothing.
void Connection::arm_timer() {
  const TimePoint next = std::min(deadline_, out_.empty() ? TimePoint::max() : write_deadline_);
  if (next >= armed_ || state_ == State::kClosed) return;
  armed_ = next;
  timer_.expires_at(next);
  timer_.async_wait(guarded([](Connection& self, const Error& error) {
    if (!error) self.on_timer();
  }));
}

void Connection::on_timer() {
  armed_ = TimePoint::max();
  if (state_ == State::kClosed) return;
  const TimePoint now = SteadyClock().now();
  if (!out_.empty() && now >= write_deadline_) {
    close();
    return;
  }
  if (now >= deadline_) {
    deadline_ = TimePoint::max();
    if (refuse_ && (state_ == State::kIdle || state_ == State::kHeader)) {
      refuse(503, "too many connections", "overloaded", HttpRefusal::kConnections);
    } else if (state_ == State::kHeader || state_ == State::kBody) {
      has_body_ = true;  // or the rest of a head
      refuse(408, "the request took too long to arrive", "request_timeout", HttpRefusal::kTimeout);
    } else {
      close();
    }
  }
  arm_timer();
}

}  // namespace shoal::gateway
