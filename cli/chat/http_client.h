// One HTTP request at a time, which Ctrl-C ends: the connection is closed, and a server that
// notices such things stops computing.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/status.h"
#include "cli/chat/endpoint.h"
#include "cli/chat/terminal.h"

namespace shoal::chat {

struct HttpRequest {
  std::string url;
  std::string body;  // empty: GET
  // Nothing came for so long: given up.
  Duration patience = std::chrono::seconds(600);
  // Bytes of a body whose status is 200, as they come. False: enough.
  std::function<bool(std::string_view bytes, std::string_view content_type)> on_body;
};

struct HttpReply {
  int status = 0;           // 0: no response
  std::string error_body;   // of another status than 200, at most 1 MiB
  std::string location;     // of a redirection
  int64_t retry_after = 0;  // seconds; 0: not said
  bool interrupted = false;
  bool refused_by_sink = false;
  std::string failure;  // of the connection; empty if all came
};

class HttpClient {
 public:
  // `key`: sent as a bearer's; empty: none. kInvalidArgument: it cannot stand in a header.
  // `ca_file`: PEM certificates that https trusts; empty: the system's. An error says that it
  // cannot be read.
  static Result<std::unique_ptr<HttpClient>> open(Endpoint endpoint, std::string key,
                                                  std::string ca_file, Signals& signals);
  virtual ~HttpClient() = default;
  virtual HttpReply send(const HttpRequest& request) = 0;
  virtual const Endpoint& endpoint() const = 0;
};

}  // namespace shoal::chat
