#include "tests/coordinator/raw_client.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstring>

namespace shoal::gateway::testing {
namespace {

using SteadyTime = std::chrono::steady_clock;

double seconds_since(SteadyTime::time_point start) {
  return std::chrono::duration<double>(SteadyTime::now() - start).count();
}

// Moves whole chunks from `text` to `out`; true when the last one came.
bool dechunk(const std::string& text, size_t* at, std::string* out) {
  while (true) {
    const size_t eol = text.find("\r\n", *at);
    if (eol == std::string::npos) return false;
    const size_t size = std::stoull(text.substr(*at, eol - *at), nullptr, 16);
    if (text.size() < eol + 2 + size + 2) return false;
    out->append(text, eol + 2, size);
    *at = eol + 2 + size + 2;
    if (size == 0) return true;
  }
}

}  // namespace

RawClient::RawClient() { fd_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0); }

RawClient::RawClient(uint16_t port) : RawClient() { connect(port); }

void RawClient::connect(uint16_t port) {
  if (!try_connect(port)) ADD_FAILURE() << "connect: " << std::strerror(errno);
}

bool RawClient::try_connect(uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return ::connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
}

RawClient::~RawClient() { close(); }

void RawClient::close() {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

void RawClient::shutdown_send() { ::shutdown(fd_, SHUT_WR); }

void RawClient::set_receive_buffer(int bytes) {
  ::setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
}

bool RawClient::send(const std::string& bytes) {
  for (size_t done = 0; done < bytes.size();) {
    pollfd wait{fd_, POLLOUT, 0};
    if (::poll(&wait, 1, 10000) <= 0) return false;
    const ssize_t n = ::send(fd_, bytes.data() + done, bytes.size() - done, MSG_NOSIGNAL);
    if (n <= 0) return false;
    done += static_cast<size_t>(n);
  }
  return true;
}

bool RawClient::fill(double seconds) {
  pollfd wait{fd_, POLLIN, 0};
  if (seconds <= 0 || ::poll(&wait, 1, static_cast<int>(seconds * 1000) + 1) <= 0) return false;
  char chunk[65536];
  const ssize_t n = ::recv(fd_, chunk, sizeof chunk, 0);
  if (n <= 0) return false;
  buffer_.append(chunk, static_cast<size_t>(n));
  return true;
}

RawResponse RawClient::read_response(double seconds, bool head) {
  const auto start = SteadyTime::now();
  RawResponse out;
  size_t end;
  while ((end = buffer_.find("\r\n\r\n")) == std::string::npos) {
    if (!fill(seconds - seconds_since(start))) return out;
  }
  const std::string top = buffer_.substr(0, end + 2);
  buffer_.erase(0, end + 4);
  out.status = std::stoi(top.substr(9, 3));
  for (size_t at = top.find("\r\n") + 2; at < top.size();) {
    const size_t eol = top.find("\r\n", at), colon = top.find(": ", at);
    std::string name = top.substr(at, colon - at);
    for (char& c : name) c = static_cast<char>(std::tolower(c));
    out.headers[name] = top.substr(colon + 2, eol - colon - 2);
    at = eol + 2;
  }
  if (out.status == 100) return read_response(seconds - seconds_since(start), head);
  size_t used = 0;
  if (head || out.status == 204) {
    out.complete = true;
  } else if (out.headers.count("content-length") != 0) {
    used = std::stoull(out.headers["content-length"]);
    while (buffer_.size() < used && fill(seconds - seconds_since(start))) {
    }
    out.complete = buffer_.size() >= used;
    used = std::min(used, buffer_.size());
    out.body = buffer_.substr(0, used);
  } else if (out.headers.count("transfer-encoding") != 0) {
    while (!(out.complete = dechunk(buffer_, &used, &out.body)) &&
           fill(seconds - seconds_since(start))) {
    }
  } else {
    while (fill(seconds - seconds_since(start))) {
    }
    out.body = buffer_;
    used = buffer_.size();
    out.complete = true;
  }
  buffer_.erase(0, used);
  return out;
}

bool RawClient::read_until(const std::string& text, double seconds) {
  const auto start = SteadyTime::now();
  while (buffer_.find(text) == std::string::npos) {
    if (!fill(seconds - seconds_since(start))) return false;
  }
  return true;
}

bool RawClient::read_end(double seconds) {
  const auto start = SteadyTime::now();
  while (fill(seconds - seconds_since(start))) {
  }
  return seconds_since(start) < seconds;
}

std::string get_request(const std::string& path, const std::string& headers) {
  return "GET " + path + " HTTP/1.1\r\nHost: test\r\n" + headers + "\r\n";
}

std::string post_request(const std::string& path, const std::string& body,
                         const std::string& headers) {
  return "POST " + path + " HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n" +
         "Content-Length: " + std::to_string(body.size()) + "\r\n" + headers + "\r\n" + body;
}

RawResponse fetch(uint16_t port, const std::string& request, bool head) {
  RawClient client(port);
  client.send(request);
  return client.read_response(20, head);
}

std::vector<std::string> sse_events(const std::string& body) {
  std::vector<std::string> out;
  for (size_t at = 0; at < body.size();) {
    const size_t end = body.find("\n\n", at);
    EXPECT_NE(end, std::string::npos) << "unterminated event: " << body.substr(at);
    if (end == std::string::npos) break;
    const std::string event = body.substr(at, end - at);
    at = end + 2;
    if (event[0] == ':') continue;
    EXPECT_TRUE(event.starts_with("data: ")) << event;
    EXPECT_EQ(event.find('\n'), std::string::npos) << event;
    out.push_back(event.substr(6));
  }
  return out;
}

}  // namespace shoal::gateway::testing
