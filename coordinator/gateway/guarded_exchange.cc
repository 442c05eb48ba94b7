#include "coordinator/gateway/guarded_exchange.h"

#include <fmt/format.h>

#include <new>
#include <stdexcept>
#include <utility>

#include "base/log.h"
#include "base/utf8.h"
#include "coordinator/gateway/api_error.h"
#include "coordinator/gateway/responses.h"

namespace shoal::gateway {
namespace {

constexpr size_t kLoggedBytes = 200;  // of an exception's words, which may quote the request

ApiError fault_error(std::string_view kind) {
  ApiError error;
  error.type = "server_error";
  if (kind == "memory") {
    error.status = 503;
    error.message = "the server has too little memory for this request at the moment";
    error.code = "out_of_memory";
    error.retry_after_seconds = 5;
  } else {
    error.status = 500;
    error.message = "the server met an internal error with this request; its log says more";
    error.code = "internal_error";
  }
  return error;
}

}  // namespace

void GuardedExchange::run(const std::function<void()>& task) {
  try {
    task();
  } catch (const std::bad_alloc& error) {
    fail("memory", error.what());
  } catch (const std::length_error& error) {
    fail("memory", error.what());
  } catch (const std::exception& error) {
    fail("exception", error.what());
  } catch (...) {
    fail("exception", "something that is no std::exception was thrown");
  }
}

void GuardedExchange::fail(std::string_view kind, std::string_view what) noexcept {
  try {
    std::shared_ptr<std::function<void()>> gone;
    bool streaming = false;
    {
      const std::lock_guard lock(mutex_);
      gone = gone_.lock();
      gone_.reset();
      streaming = streaming_;
    }
    if (observer_) observer_(route_, kind);
    log_error(fmt::format("{}: a request failed within the server: {}", route_,
                          sanitize_utf8(what.substr(0, kLoggedBytes))));
    if (gone) (*gone)();
    const ApiError error = fault_error(kind);
    if (streaming) {
      inner_->write(AnswerFormat::chunk_error(error_body(error)));
      inner_->finish();
      return;
    }
    HttpResponse response;
    response.status = error.status;
    response.body = error_body(error);
    if (error.retry_after_seconds > 0) {
      response.headers.emplace_back("Retry-After", std::to_string(error.retry_after_seconds));
    }
    inner_->respond(std::move(response));
  } catch (...) {
    // Not even an answer fits into memory: the exchange is dropped with its last reference.
  }
}

std::function<void()> GuardedExchange::guarded(std::function<void()> task) {
  return [self = shared_from_this(), t = std::move(task)] { self->run(t); };
}

void GuardedExchange::respond(HttpResponse response) { inner_->respond(std::move(response)); }

void GuardedExchange::start_stream(int status, std::string content_type, HttpHeaders headers) {
  {
    const std::lock_guard lock(mutex_);
    streaming_ = true;
  }
  inner_->start_stream(status, std::move(content_type), std::move(headers));
}

void GuardedExchange::post(std::function<void()> task) { inner_->post(guarded(std::move(task))); }

void GuardedExchange::on_gone(std::function<void()> task) {
  const auto shared = std::make_shared<std::function<void()>>(std::move(task));
  {
    const std::lock_guard lock(mutex_);
    gone_ = shared;
  }
  inner_->on_gone(guarded([shared] { (*shared)(); }));
}

void GuardedExchange::after(Duration delay, std::function<void()> task) {
  inner_->after(delay, guarded(std::move(task)));
}

}  // namespace shoal::gateway
