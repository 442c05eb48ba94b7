// What a request asks for besides its messages.
#pragma once

#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "base/status.h"

namespace shoal::chat {

class Settings {
 public:
  std::string model;  // empty: whatever the server serves

  // Sets a request's field by name, as typed; "default" leaves it to the server. kInvalidArgument
  // lists the names, or says what the value must be. Whether a value is in range is the server's
  // affair.
  Status set(std::string_view name, std::string_view value);
  // "NAME=VALUE".
  Status set_pair(std::string_view pair);
  // Fields to put into a request.
  const nlohmann::json& fields() const { return fields_; }
  // "temperature 0.7, seed 3"; "none".
  std::string text() const;

 private:
  nlohmann::json fields_ = nlohmann::json::object();
};

}  // namespace shoal::chat
