#include "coordinator/gateway/http_connection.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/post.hpp>
#include <functional>
#include <utility>

#include "base/log.h"
#include "base/quote.h"
#include "coordinator/gateway/api_error.h"

namespace shoal::gateway {
namespace {

namespace asio = boost::asio;

// Requests sent ahead of an answer wait here. Who sends more is cut off: not reading on would hide
// that a client has left, and no real client pipelines that much.
constexpr size_t kReadAheadBytes = 256 << 10;
// Who is one too many is told so, and does not keep a place for long.
constexpr Duration kRefuseTime = std::chrono::seconds(1);
// A body of unknown length takes room in such steps.
constexpr uint64_t kHoldStep = 1 << 20;

BodyReserve::Limits reserve_limits(const HttpServerOptions& options) {
  BodyReserve::Limits out;
  out.bytes = options.total_body_bytes;
  out.client_bytes = std::max<uint64_t>(out.bytes / options.body_shares, options.body_bytes);
  out.bodies = options.large_bodies;
  out.client_bodies = std::max<size_t>(out.bodies / options.body_shares, 1);
  return out;
}

// Clients without keys are told apart by their addresses: IPv4 wholly, IPv6 by what one site has.
uint64_t peer_class(const asio::ip::address& address) {
  std::string bytes;
  if (address.is_v4()) {
    const auto v4 = address.to_v4().to_bytes();
    bytes.assign(v4.begin(), v4.end());
  } else {
    const auto v6 = address.to_v6().to_bytes();
    bytes.assign(v6.begin(), v6.begin() + 8);
  }
  return std::hash<std::string>()(bytes) | (1ull << 63);  // apart from the keys' numbers
}

HttpResponse refusal_answer(int status, const std::string& message, const char* code) {
  ApiError error;
  error.status = status;
  error.message = message;
  error.code = code;
  if (status == 503) {
    error.type = "unavailable_error";
    error.retry_after_seconds = 1;
  }
  return error_response(error);
}

// On a pool thread: the body as it was before its coding. False: the request has been refused.
bool decode(ServerShared& shared, ContentCoding coding, BodyHold* hold, HttpRequest& request,
            Exchange& exchange) {
  if (coding == ContentCoding::kIdentity) return true;
  const uint64_t limit = shared.options.body_bytes;
  const auto room = [hold, limit](uint64_t bytes) {
    return bytes <= hold->bytes() || hold->grow(std::min(bytes + kHoldStep, limit));
  };
  Result<std::string> decoded =
      resource_exhausted("the server has too little memory for this request at the moment");
  try {
    decoded = decode_content(coding, request.body, limit, room);
  } catch (const std::bad_alloc&) {
    if (shared.options.on_fault) shared.options.on_fault();
  }
  if (decoded) {
    request.body = std::move(*decoded);
    return true;
  }
  const Status& fault = decoded.status();
  const std::string why =
      fault.code() == Code::kInvalidArgument
          ? fmt::format("the body does not have the Content-Encoding it is said to have: {}",
                        fault.message())
          : fault.message();
  if (fault.code() == Code::kOutOfRange) {
    shared.service->refused(HttpRefusal::kBodyTooLarge);
    exchange.respond(refusal_answer(413, why, "body_too_large"));
  } else if (fault.code() == Code::kResourceExhausted) {
    shared.service->refused(HttpRefusal::kLargeBodies);
    exchange.respond(refusal_answer(503, why, "overloaded"));
  } else {
    shared.service->refused(HttpRefusal::kMalformed);
    exchange.respond(refusal_answer(400, why, "bad_content_encoding"));
  }
  return false;
}

}  // namespace

ServerShared::ServerShared(const HttpServerOptions& o)
    : options(o), reserve(std::make_shared<BodyReserve>(reserve_limits(o))) {}

std::shared_ptr<Connection> Connection::take_oldest_waiting(ServerShared& shared) {
  const std::lock_guard lock(shared.mutex);
  for (Connection* connection : shared.waiting) {
    auto alive = connection->weak_from_this().lock();
    if (!alive) continue;  // about to take itself off
    shared.waiting.erase(connection->waiting_at_);
    connection->standing_ = Standing::kNone;
    return alive;
  }
  return nullptr;
}

Connection::Connection(std::shared_ptr<ServerShared> shared, Socket socket, bool refuse)
    : shared_(std::move(shared)),
      socket_(std::move(socket)),
      strand_(asio::make_strand(shared_->io)),
      timer_(strand_),
      user_timer_(strand_),
      refuse_(refuse) {
  Error ignored;
  const auto address = socket_.remote_endpoint(ignored).address();
  peer_ = address.to_string();
  peer_class_ = peer_class(address);
  const std::lock_guard lock(shared_->mutex);
  shared_->connections.insert(this);
}

Connection::~Connection() { forget(); }

void Connection::failed(const std::exception& error) {
  if (shared_->options.on_fault) shared_->options.on_fault();
  log_error(fmt::format("http: a connection failed within the server: {}", error.what()));
  close();
}

void Connection::forget() {
  stand(Standing::kNone);
  const std::lock_guard lock(shared_->mutex);
  shared_->connections.erase(this);
  shared_->changed.notify_all();
}

void Connection::stand(Standing standing) {
  const std::lock_guard lock(shared_->mutex);
  if (standing_ == Standing::kWaiting) shared_->waiting.erase(waiting_at_);
  if (standing_ == Standing::kWorking) --shared_->working;
  standing_ = standing;
  if (standing == Standing::kWaiting) {
    waiting_at_ = shared_->waiting.insert(shared_->waiting.end(), this);
  }
  if (standing == Standing::kWorking) ++shared_->working;
  shared_->changed.notify_all();
}

void Connection::enqueue(std::function<void()> task) {
  if (shared_->stopped) return;
  asio::post(strand_, guarded([t = std::move(task)](Connection&) { t(); }));
}

void Connection::post(std::function<void()> task) {
  if (shared_->stopped) return;
  asio::dispatch(strand_, guarded([t = std::move(task)](Connection&) { t(); }));
}

void Connection::start() {
  post([self = shared_from_this()] {
    if (self->shared_->closing) {
      self->close();
      return;
    }
    if (!self->refuse_) self->stand(Standing::kWaiting);
    self->wait_until(SteadyClock().now() +
                     (self->refuse_ ? kRefuseTime : self->shared_->options.header_timeout));
    self->read();
  });
}

void Connection::end_drain() {
  post([self = shared_from_this()] {
    if (self->state_ != State::kHandling && self->state_ != State::kLinger) self->close();
  });
}

void Connection::evict() {
  ++shared_->evictions;
  enqueue([self = shared_from_this()] {
    Error ignored;
    const bool waits = self->state_ == State::kIdle || self->state_ == State::kHeader;
    self->evicted_ = waits && self->reading_;
    if (self->evicted_) {
      self->socket_.cancel(ignored);  // on_read() goes on: what has been read already is not lost
    } else {
      --self->shared_->evictions;
    }
  });
}

// True if the connection was to make room and did.
bool Connection::make_room(const Error& error) {
  if (!std::exchange(evicted_, false)) return false;
  --shared_->evictions;
  const bool waits = state_ == State::kIdle || state_ == State::kHeader;
  Error ignored;
  if (!waits || error != asio::error::operation_aborted || socket_.available(ignored) > 0) {
    return false;
  }
  close();
  shared_->service->refused(HttpRefusal::kIdleClosed);
  return true;
}

void Connection::cut_off() {
  post([self = shared_from_this()] { self->close(); });
}

// One read is always pending while the connection lives: that is how a client's leaving is seen.
void Connection::read() {
  if (reading_ || state_ == State::kClosed) return;
  if (buffer_.size() >= kReadAheadBytes) {
    close();
    return;
  }
  reading_ = true;
  socket_.async_read_some(
      asio::buffer(chunk_),
      asio::bind_executor(strand_, guarded([](Connection& self, const Error& error, size_t bytes) {
                            self.on_read(error, bytes);
                          })));
}

void Connection::on_read(const Error& error, size_t bytes) {
  reading_ = false;
  if (make_room(error) || state_ == State::kClosed) return;
  if (error == asio::error::operation_aborted) {  // of evict(), but there is more to come
    if (state_ == State::kIdle || state_ == State::kHeader) stand(Standing::kWaiting);
    read();
    return;
  }
  if (error) {  // gone, or finished sending: nobody who speaks HTTP waits for an answer after that
    close();
    return;
  }
  if (state_ != State::kLinger) buffer_.append(chunk_.data(), bytes);
  if (state_ != State::kLinger && state_ != State::kHandling) process();
  read();
}

void Connection::process() {
  while (!buffer_.empty()) {
    if (state_ == State::kIdle || state_ == State::kHeader) {
      if (!read_head()) return;
    } else if (state_ == State::kBody) {
      if (!read_body()) return;
    } else {
      return;
    }
  }
}

bool Connection::read_head() {
  if (!head_reader_) {
    head_reader_.emplace(shared_->options.header_bytes);
    http_1_0_ = head_only_ = has_body_ = false;
    coding_ = ContentCoding::kIdentity;
    headers_.clear();
  }
  buffer_.erase(0, head_reader_->put(buffer_));
  if (head_reader_->state() == HttpHeadReader::State::kBad) {
    const HttpFault fault = head_reader_->fault();
    const auto reason = fault.status == 431   ? HttpRefusal::kHeadersTooLarge
                        : fault.status == 400 ? HttpRefusal::kMalformed
                                              : HttpRefusal::kUnsupported;
    refuse(fault.status, fault.message, fault.code, reason);
    return false;
  }
  if (state_ == State::kIdle && head_reader_->started()) {
    state_ = State::kHeader;
    if (!refuse_) {
      stand(Standing::kWaiting);  // anew, at the end: it has just been heard of
      wait_until(SteadyClock().now() + shared_->options.header_timeout);
    }
  }
  if (head_reader_->state() != HttpHeadReader::State::kDone) return false;
  begin_request();
  return state_ == State::kBody;
}

// The head is complete: everything that can be judged by it is, before a byte of the body is kept.
void Connection::begin_request() {
  const HttpFraming framing = head_reader_->framing();
  request_ = head_reader_->take_request();
  head_reader_.reset();
  stand(Standing::kNone);
  http_1_0_ = framing.http_1_0;
  keep_alive_ = framing.keep_alive && !shared_->draining;
  head_only_ = request_->head;
  has_body_ = framing.has_body();
  request_->peer = peer_;
  began_ = SteadyClock().now();
  record_.emplace();
  record_->method = head_only_ ? "HEAD" : request_->method;
  record_->path = request_->path;
  if (refuse_) {
    refuse(503, "too many connections", "overloaded", HttpRefusal::kConnections);
    return;
  }
  const bool draining = shared_->draining;
  HttpVerdict verdict = shared_->service->judge(*request_, draining);
  request_->ticket = record_->ticket = verdict.ticket;
  headers_ = std::move(verdict.headers);
  if (verdict.answer) {
    answer_at_once(std::move(verdict));
    return;
  }
  const HttpServerOptions& options = shared_->options;
  const size_t limit = verdict.takes_body ? options.body_bytes
                                          : std::min(options.body_bytes, options.small_body_bytes);
  client_ = verdict.client;
  if (!framing.chunked && framing.length > limit) {
    refuse(413, fmt::format("the body exceeds {} bytes", limit), "body_too_large",
           HttpRefusal::kBodyTooLarge);
    return;
  }
  if (has_body_) {
    const auto coding = content_coding(*request_);
    if (!coding) {
      refuse_coding();
      return;
    }
    coding_ = *coding;
  }
  if (!hold_body(framing.chunked ? 0 : framing.length)) return;
  body_reader_.emplace(framing, limit);
  if (!framing.chunked) body_reader_->expect(static_cast<size_t>(framing.length));
  if (!draining) stand(Standing::kWorking);
  state_ = State::kBody;
  wait_until(SteadyClock().now() + options.body_timeout);
  if (framing.expect_continue && buffer_.empty()) queue("HTTP/1.1 100 Continue\r\n\r\n");
  if (body_reader_->state() == HttpBodyReader::State::kDone) dispatch();
}

// Small bodies need no room of the reserve; compressed ones are none: nobody knows what they hold.
bool Connection::hold_body(uint64_t bytes) {
  if (coding_ != ContentCoding::kIdentity) {
    bytes = std::max(bytes, std::min<uint64_t>(kHoldStep, shared_->options.body_bytes));
  }
  if (bytes <= shared_->options.small_body_bytes || (hold_ && bytes <= hold_->bytes())) return true;
  if (!hold_) {
    hold_ = shared_->reserve->take(client_.value_or(peer_class_), bytes);
    if (hold_) return true;
  } else if (hold_->grow(bytes)) {
    return true;
  }
  refuse(503, "too many large requests at the same time", "overloaded", HttpRefusal::kLargeBodies);
  return false;
}

bool Connection::read_body() {
  buffer_.erase(0, body_reader_->put(buffer_));
  switch (body_reader_->state()) {
    case HttpBodyReader::State::kBad:
      refuse(400, fmt::format("malformed HTTP request: {}", body_reader_->fault()), "bad_http",
             HttpRefusal::kMalformed);
      return false;
    case HttpBodyReader::State::kTooLarge:
      refuse(413, "the body is too long", "body_too_large", HttpRefusal::kBodyTooLarge);
      return false;
    default:
      break;
  }
  const uint64_t size = body_reader_->size();
  if (size > shared_->options.small_body_bytes && (!hold_ || size > hold_->bytes()) &&
      !hold_body(std::min<uint64_t>(size + kHoldStep, shared_->options.body_bytes))) {
    return false;
  }
  if (body_reader_->state() == HttpBodyReader::State::kDone) dispatch();
  return state_ == State::kBody;
}

void Connection::dispatch() {
  request_->body = body_reader_->take_body();
  request_->hold = hold_;
  body_reader_.reset();
  begin_answer();
  auto exchange = make_exchange(shared_from_this(), serial_);
  // What only reads state answers at once: /health must not wait behind prompts being tokenized.
  if (request_->method == "GET") {
    shared_->service->handle(std::move(request_), std::move(exchange));
  } else {
    submit_to_pool(std::move(request_), std::move(exchange));
  }
}

void Connection::submit_to_pool(std::shared_ptr<HttpRequest> request,
                                std::shared_ptr<Exchange> exchange) {
  const size_t bytes = request->body.size();
  const bool coded = coding_ != ContentCoding::kIdentity;
  const bool small = !coded && bytes <= shared_->options.small_body_bytes;
  const bool taken = (small ? *shared_->small_pool : *shared_->large_pool)
                         .submit(bytes, [shared = shared_, request, exchange, hold = hold_,
                                         coding = coding_]() mutable {
                           if (exchange->gone()) {
                             shared->service->refused(HttpRefusal::kClientGone);
                           } else if (decode(*shared, coding, hold.get(), *request, *exchange)) {
                             shared->service->handle(std::move(request), std::move(exchange));
                           }
                         });
  if (taken) return;
  shared_->service->refused(HttpRefusal::kBusy);
  respond(serial_, refusal_answer(503, "too many requests wait to be read", "overloaded"));
}

// Answers without a handler and ends the connection: what follows on it cannot be trusted or is not
// wanted.
void Connection::refuse(int status, const std::string& message, const char* code,
                        HttpRefusal reason) {
  HttpVerdict verdict;
  verdict.answer = refusal_answer(status, message, code);
  verdict.reason = reason;
  keep_alive_ = false;
  answer_at_once(std::move(verdict));
}

void Connection::refuse_coding() {
  headers_.emplace_back("Accept-Encoding", kContentCodings);
  refuse(415,
         fmt::format("Content-Encoding {} is not understood; {} are",
                     in_quotes(request_->header("content-encoding")), kContentCodings),
         "unsupported_content_encoding", HttpRefusal::kUnsupported);
}

// A body that may still come is not waited for: the connection ends.
void Connection::answer_at_once(HttpVerdict verdict) {
  if (verdict.reason) shared_->service->refused(*verdict.reason);
  if (!record_) {  // not even a head
    began_ = SteadyClock().now();
    record_.emplace();
  }
  keep_alive_ = keep_alive_ && !has_body_;
  head_reader_.reset();
  body_reader_.reset();
  request_.reset();
  begin_answer();
  respond(serial_, std::move(*verdict.answer));
  if (!keep_alive_ && state_ == State::kHandling) linger();
}

}  // namespace shoal::gateway
