// Status and Result<T>: how operating errors travel. Bugs abort (base/check.h) instead.
//
// A message names what is wrong, where (file, key, line, tensor, rank) and what to do about it.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "base/check.h"

namespace shoal {

enum class Code {
  kOk,
  kInvalidArgument,     // the caller's or user's input is wrong
  kNotFound,
  kAlreadyExists,
  kOutOfRange,
  kResourceExhausted,   // memory, queue, file descriptors
  kFailedPrecondition,  // right input, wrong state
  kDeadlineExceeded,
  kCancelled,
  kUnavailable,  // a peer is gone; trying again may help
  kDataLoss,     // a file or message is corrupt
  kUnsupported,  // well-formed, but Shoal does not do it
  kInternal,
};

std::string_view code_name(Code code);

class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(Code code, std::string message) : code_(code), message_(std::move(message)) {}

  static Status ok() { return {}; }
  bool is_ok() const { return code_ == Code::kOk; }
  explicit operator bool() const { return is_ok(); }
  Code code() const { return code_; }
  const std::string& message() const { return message_; }

  // The same error with `where` put in front: "where: message".
  Status annotate(std::string_view where) const;
  std::string to_string() const;

 private:
  Code code_ = Code::kOk;
  std::string message_;
};

// A value or the error that kept it from existing. value() on an error is a bug and aborts.
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  Result(Status status) : state_(std::in_place_index<1>, std::move(status)) {
    SHOAL_CHECK(!std::get<1>(state_).is_ok(), "Result made from an ok Status");
  }

  bool is_ok() const { return state_.index() == 0; }
  explicit operator bool() const { return is_ok(); }
  const T& value() const& {
    SHOAL_CHECK(is_ok(), "value() of an error: " + std::get<1>(state_).message());
    return std::get<0>(state_);
  }
  T& value() & {
    SHOAL_CHECK(is_ok(), "value() of an error: " + std::get<1>(state_).message());
    return std::get<0>(state_);
  }
  T&& value() && {
    SHOAL_CHECK(is_ok(), "value() of an error: " + std::get<1>(state_).message());
    return std::get<0>(std::move(state_));
  }
  const T& operator*() const& { return value(); }
  T& operator*() & { return value(); }
  const T* operator->() const { return &value(); }
  T* operator->() { return &value(); }
  Status status() const { return is_ok() ? Status::ok() : std::get<1>(state_); }

 private:
  std::variant<T, Status> state_;
};

// Shorthand constructors: return invalid_argument("…").
Status invalid_argument(std::string message);
Status not_found(std::string message);
Status out_of_range(std::string message);
Status resource_exhausted(std::string message);
Status failed_precondition(std::string message);
Status deadline_exceeded(std::string message);
Status cancelled(std::string message);
Status unavailable(std::string message);
Status data_loss(std::string message);
Status unsupported(std::string message);
Status internal_error(std::string message);

}  // namespace shoal

// SHOAL_TRY(expr): returns the Status from the enclosing function if it is an error.
#define SHOAL_TRY(expr)                                             \
  do {                                                              \
    if (auto shoal_try_status = (expr); !shoal_try_status.is_ok()) { \
      return shoal_try_status;                                      \
    }                                                               \
  } while (0)

#define SHOAL_CONCAT_INNER(a, b) a##b
#define SHOAL_CONCAT(a, b) SHOAL_CONCAT_INNER(a, b)

// SHOAL_ASSIGN(auto x, expr): x = the value of a Result, or returns its Status.
#define SHOAL_ASSIGN(decl, expr) SHOAL_ASSIGN_IMPL(SHOAL_CONCAT(shoal_result_, __LINE__), decl, expr)
#define SHOAL_ASSIGN_IMPL(tmp, decl, expr) \
  auto tmp = (expr);                       \
  if (!tmp.is_ok()) return tmp.status();   \
  decl = std::move(tmp).value()
