// A client that can do what no well-behaved one does: send bytes as they are, stall, vanish.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace shoal::gateway::testing {

struct RawResponse {
  int status = 0;  // 0: the connection ended or timed out before a whole response
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;                            // without chunk framing
  bool complete = false;
};

class RawClient {
 public:
  RawClient();  // a socket, not connected
  explicit RawClient(uint16_t port);
  ~RawClient();
  RawClient(const RawClient&) = delete;
  RawClient& operator=(const RawClient&) = delete;

  void connect(uint16_t port);
  bool try_connect(uint16_t port);      // false: nobody listens
  bool send(const std::string& bytes);  // false: the server closed
  // Reads one response; `head` for answers without a body.
  RawResponse read_response(double seconds = 10, bool head = false);
  // Reads until `text` has come, the connection ends or time is up; true if it came.
  bool read_until(const std::string& text, double seconds = 10);
  bool read_end(double seconds = 10);  // until the server closes; true if it did
  const std::string& received() const { return buffer_; }
  void shutdown_send();
  void close();
  void set_receive_buffer(int bytes);

 private:
  bool fill(double seconds);
  int fd_ = -1;
  std::string buffer_;
};

std::string get_request(const std::string& path, const std::string& headers = "");
std::string post_request(const std::string& path, const std::string& body,
                         const std::string& headers = "");
// One request on its own connection.
RawResponse fetch(uint16_t port, const std::string& request, bool head = false);
// The data of each event of an SSE body; comments are skipped, anything malformed is a test
// failure.
std::vector<std::string> sse_events(const std::string& body);

}  // namespace shoal::gateway::testing
