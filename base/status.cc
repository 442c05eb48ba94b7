#include "base/status.h"

namespace shoal {

std::string_view code_name(Code code) {
  switch (code) {
    case Code::kOk: return "ok";
    case Code::kInvalidArgument: return "invalid argument";
    case Code::kNotFound: return "not found";
    case Code::kAlreadyExists: return "already exists";
    case Code::kOutOfRange: return "out of range";
    case Code::kResourceExhausted: return "resource exhausted";
    case Code::kFailedPrecondition: return "failed precondition";
    case Code::kDeadlineExceeded: return "deadline exceeded";
    case Code::kCancelled: return "cancelled";
    case Code::kUnavailable: return "unavailable";
    case Code::kDataLoss: return "data loss";
    case Code::kUnsupported: return "unsupported";
    case Code::kInternal: return "internal error";
  }
  return "unknown";
}

Status Status::annotate(std::string_view where) const {
  if (is_ok()) return *this;
  return {code_, std::string(where) + ": " + message_};
}

std::string Status::to_string() const {
  if (is_ok()) return "ok";
  return std::string(code_name(code_)) + ": " + message_;
}

Status invalid_argument(std::string m) { return {Code::kInvalidArgument, std::move(m)}; }
Status not_found(std::string m) { return {Code::kNotFound, std::move(m)}; }
Status out_of_range(std::string m) { return {Code::kOutOfRange, std::move(m)}; }
Status resource_exhausted(std::string m) { return {Code::kResourceExhausted, std::move(m)}; }
Status failed_precondition(std::string m) { return {Code::kFailedPrecondition, std::move(m)}; }
Status deadline_exceeded(std::string m) { return {Code::kDeadlineExceeded, std::move(m)}; }
Status cancelled(std::string m) { return {Code::kCancelled, std::move(m)}; }
Status unavailable(std::string m) { return {Code::kUnavailable, std::move(m)}; }
Status data_loss(std::string m) { return {Code::kDataLoss, std::move(m)}; }
Status unsupported(std::string m) { return {Code::kUnsupported, std::move(m)}; }
Status internal_error(std::string m) { return {Code::kInternal, std::move(m)}; }

}  // namespace shoal
