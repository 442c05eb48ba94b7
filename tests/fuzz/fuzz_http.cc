// Bytes of one HTTP connection through the server's own Connection, cut where the first bytes say.
// Nothing may crash, the connection must end with its client, and the requests that reach a handler
// must be those that a second, plain reading of RFC 9112 finds in the whole of the bytes.
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/check.h"
#include "coordinator/gateway/http_connection.h"

namespace {

using namespace shoal;
using namespace shoal::gateway;
using std::string_view;

constexpr size_t kHeadLimit = 2048, kBodyLimit = 512, kSmallBody = 128;
constexpr size_t kMaxInput = 8192;

struct Handled {
  std::string method, path, body;
  friend bool operator==(const Handled&, const Handled&) = default;
};

// ------------------------------------------------------------ the second reading

struct Reading {
  std::vector<Handled> handled;
  size_t answers = 0;  // to these, and to requests for "/no", which no handler sees
};

string_view trimmed(string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

std::string lowered(string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  return out;
}

constexpr string_view kDigits = "0123456789";
constexpr string_view kLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

bool all_of(string_view text, const std::string& allowed) {
  return text.find_first_not_of(allowed) == string_view::npos;
}

bool token(string_view text) {
  static const std::string kToken =
      std::string(kDigits) + std::string(kLetters) + "!#$%&'*+-.^_`|~";
  return !text.empty() && all_of(text, kToken);
}

bool host(string_view text) {
  static const std::string kName = std::string(kDigits) + std::string(kLetters) + "-._~!$&'()*+;=";
  string_view name = text, port;
  if (const size_t close = text.rfind(']'); close != text.npos) {
    name = text.substr(0, close + 1);
    port = text.substr(close + 1);
    if (name.size() < 3 || name[0] != '[' ||
        !all_of(name.substr(1, name.size() - 2), kName + ":,")) {
      return false;
    }
  } else {
    const size_t colon = text.find(':');
    name = text.substr(0, colon);
    if (colon != text.npos) port = text.substr(colon);
    if (!all_of(name, kName + "%")) return false;
  }
  if (port.empty()) return true;
  return port[0] == ':' && port.size() <= 6 && all_of(port.substr(1), std::string(kDigits));
}

// Lines without their ends; nothing if one is not ended by CR LF or holds what none may.
bool lines_of(string_view text, std::vector<string_view>* out) {
  while (!text.empty()) {
    const size_t end = text.find("\r\n");
    if (end == text.npos) return false;
    const string_view line = text.substr(0, end);
    for (const char c : line) {
      if ((static_cast<unsigned char>(c) < 32 && c != '\t') || c == 127) return false;
    }
    out->push_back(line);
    text.remove_prefix(end + 2);
  }
  return true;
}

struct Head {
  Handled request;
  bool old = false, keep = true, chunked = false;
  size_t length = 0;
};

bool read_target(string_view target, Head* head) {
  for (const char c : target) {
    if (c < '!' || c > '~' || c == '#') return false;
  }
  const std::string low = lowered(target);
  const size_t scheme = low.starts_with("http://") ? 7 : low.starts_with("https://") ? 8 : 0;
  if (scheme > 0) {
    const string_view rest = target.substr(scheme);
    const string_view authority = rest.substr(0, rest.find_first_of("/?"));
    if (authority.empty() || !host(authority)) return false;
    target = rest.substr(authority.size());
    if (target.empty() || target[0] == '?') head->request.path = "/";
  } else if (target.empty() || target[0] != '/') {
    if (target != "*" || head->request.method != "OPTIONS") return false;
  }
  head->request.path += percent_decode(target.substr(0, target.find('?')));
  return true;
}

bool read_request_line(string_view line, Head* head) {
  std::vector<string_view> words;
  for (size_t at = 0; at <= line.size();) {
    const size_t space = std::min(line.find(' ', at), line.size());
    words.push_back(line.substr(at, space - at));
    at = space + 1;
  }
  if (words.size() != 3 || !token(words[0]) || words[0].size() > 32) return false;
  head->request.method = words[0];
  head->old = words[2] == "HTTP/1.0";
  if (!head->old && words[2] != "HTTP/1.1") return false;
  return read_target(words[1], head);
}

bool read_fields(const std::vector<string_view>& lines, Head* head) {
  size_t hosts = 0, lengths = 0;
  std::vector<std::string> codings, options;
  std::string expected;
  for (const string_view line : lines) {
    const size_t colon = line.find(':');
    if (colon == line.npos || !token(line.substr(0, colon))) return false;
    const std::string name = lowered(line.substr(0, colon));
    const string_view value = trimmed(line.substr(colon + 1));
    if (name == "host" && (++hosts > 1 || !host(value))) return false;
    if (name == "transfer-encoding") codings.push_back(lowered(value));
    if (name == "expect") expected += (expected.empty() ? "" : ", ") + lowered(value);
    if (name == "connection") options.push_back(lowered(value));
    if (name != "content-length") continue;
    if (++lengths > 1 || value.empty() || value.size() > 18 ||
        !all_of(value, std::string(kDigits))) {
      return false;
    }
    head->length = std::stoull(std::string(value));
  }
  if (lines.size() > 256 || (hosts == 0 && !head->old)) return false;
  if (!codings.empty()) {
    if (head->old || lengths > 0 || codings.size() > 1 || codings[0] != "chunked") return false;
    head->chunked = true;
  }
  bool close = false, keep = false;
  for (std::string list : options) {
    for (list += ','; !list.empty(); list.erase(0, list.find(',') + 1)) {
      const string_view option = trimmed(string_view(list).substr(0, list.find(',')));
      close |= option == "close";
      keep |= option == "keep-alive";
    }
  }
  head->keep = !close && (keep || !head->old);
  return head->old || expected.empty() || expected == "100-continue";
}

// Takes a chunked body off the front.
bool read_chunks(string_view* text, size_t limit, std::string* body) {
  while (true) {
    const size_t end = text->find("\r\n");
    if (end == text->npos) return false;
    std::vector<string_view> line;
    if (!lines_of(text->substr(0, end + 2), &line)) return false;
    const string_view digits = line[0].substr(0, line[0].find(';'));
    if (digits.empty() || digits.size() > 8 ||
        !all_of(digits, std::string(kDigits) + "abcdefABCDEF")) {
      return false;
    }
    const size_t size = std::stoull(std::string(digits), nullptr, 16);
    text->remove_prefix(end + 2);
    if (size == 0) break;
    if (size > limit - body->size() || text->size() < size + 2) return false;
    *body += text->substr(0, size);
    if (text->substr(size, 2) != "\r\n") return false;
    text->remove_prefix(size + 2);
  }
  while (!text->starts_with("\r\n")) {  // trailers
    const size_t end = text->find("\r\n");
    std::vector<string_view> line;
    if (end == text->npos || !lines_of(text->substr(0, end + 2), &line)) return false;
    if (line[0][0] == ' ' || line[0][0] == '\t' || line[0][0] == ':') return false;
    text->remove_prefix(end + 2);
  }
  text->remove_prefix(2);
  return true;
}

Reading read_all(string_view text) {
  Reading out;
  while (true) {
    size_t empty = 0;
    for (; text.substr(empty * 2).starts_with("\r\n"); ++empty) {
    }
    const size_t end = text.substr(std::min(empty * 2, text.size())).find("\r\n\r\n");
    if (empty > 4 || end == text.npos || empty * 2 + end + 4 > kHeadLimit) return out;
    const string_view all = text.substr(empty * 2, end + 2);
    text.remove_prefix(empty * 2 + end + 4);
    std::vector<string_view> lines;
    Head head;
    if (!lines_of(all, &lines) || !read_request_line(lines[0], &head)) return out;
    lines.erase(lines.begin());
    if (!read_fields(lines, &head)) return out;
    if (head.request.method == "HEAD") head.request.method = "GET";
    const bool has_body = head.chunked || head.length > 0;
    if (head.request.path == "/no") {
      ++out.answers;
      if (has_body || !head.keep) return out;
      continue;
    }
    const size_t limit = head.request.method == "GET" ? kSmallBody : kBodyLimit;
    if (head.chunked) {
      if (!read_chunks(&text, limit, &head.request.body)) return out;
    } else {
      if (head.length > limit || text.size() < head.length) return out;
      head.request.body = text.substr(0, head.length);
      text.remove_prefix(head.length);
    }
    ++out.answers;
    out.handled.push_back(head.request);
    if (!head.keep) return out;
  }
}

// ------------------------------------------------------------ the server's

class Service final : public HttpService {
 public:
  HttpVerdict judge(const HttpRequest& head, bool) override {
    HttpVerdict verdict;
    verdict.takes_body = head.method != "GET";
    if (head.path == "/no") verdict.answer.emplace().status = 404;
    return verdict;
  }
  void handle(std::shared_ptr<const HttpRequest> request,
              std::shared_ptr<Exchange> exchange) override {
    {
      const std::lock_guard lock(mutex_);
      handled_.push_back({request->method, request->path, request->body});
    }
    HttpResponse response;
    response.body = "{}";
    exchange->respond(std::move(response));
  }
  void refused(HttpRefusal) override {}
  void over(const HttpRecord&) override {}
  std::vector<Handled> take() {
    const std::lock_guard lock(mutex_);
    return std::exchange(handled_, {});
  }

 private:
  std::mutex mutex_;
  std::vector<Handled> handled_;
};

HttpServerOptions options() {
  HttpServerOptions out;
  out.header_bytes = kHeadLimit;
  out.body_bytes = kBodyLimit;
  out.small_body_bytes = kSmallBody;
  return out;
}

struct Server {
  Server() {
    shared->service = &service;
    HandlerPool::Options pool;
    pool.threads = 1;
    shared->small_pool = std::make_unique<HandlerPool>(pool);
    shared->large_pool = std::make_unique<HandlerPool>(pool);
  }
  // Until nothing is left to do but to wait for bytes.
  void settle() {
    const auto busy = [](HandlerPool& pool) {
      const PoolState state = pool.state();
      return state.waiting + state.running > 0;
    };
    while (true) {
      const bool worked = busy(*shared->small_pool) || busy(*shared->large_pool);
      shared->io.restart();
      if (shared->io.poll() == 0 && !worked) return;
      if (worked) std::this_thread::yield();
    }
  }
  Service service;
  std::shared_ptr<ServerShared> shared = std::make_shared<ServerShared>(options());
};

size_t count_answers(string_view text) {
  constexpr string_view kEachHas = "\r\nServer: shoal\r\n";  // but "100 Continue"
  size_t out = 0;
  for (size_t at = 0; (at = text.find(kEachHas, at)) != text.npos; at += kEachHas.size()) ++out;
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static Server& server = *new Server();
  if (size < 2 || size > kMaxInput) return 0;
  const string_view bytes(reinterpret_cast<const char*>(data) + 2, size - 2);
  const size_t first = data[0], step = data[1];  // 0: in one go

  int pair[2];
  SHOAL_CHECK(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0, "no sockets");
  boost::asio::ip::tcp::socket socket(server.shared->io);
  socket.assign(boost::asio::ip::tcp::v4(), pair[0]);
  std::make_shared<Connection>(server.shared, std::move(socket), false)->start();
  server.settle();
  std::string received;
  const auto receive = [&] {
    char chunk[4096];
    ssize_t n;
    while ((n = ::recv(pair[1], chunk, sizeof chunk, MSG_DONTWAIT)) > 0) {
      received.append(chunk, static_cast<size_t>(n));
    }
  };
  for (size_t at = 0; at < bytes.size();) {
    const size_t left = bytes.size() - at;
    const size_t part = std::min(left, step == 0 ? left : at == 0 ? first + 1 : step);
    if (::send(pair[1], bytes.data() + at, part, MSG_NOSIGNAL) < 0) break;
    at += part;
    server.settle();
    receive();
  }
  ::shutdown(pair[1], SHUT_WR);
  server.settle();
  receive();
  ::close(pair[1]);
  server.settle();
  SHOAL_CHECK(server.shared->connections.empty(), "a connection without a client");
  SHOAL_CHECK(server.shared->waiting.empty() && server.shared->working == 0, "counted wrong");
  SHOAL_CHECK(server.shared->reserve->bytes() == 0, "room for a body that nobody has");

  const Reading expected = read_all(bytes);
  SHOAL_CHECK(server.service.take() == expected.handled, "other requests than were sent");
  const size_t answers = count_answers(received);
  SHOAL_CHECK(answers == expected.answers || answers == expected.answers + 1, "answers");
  return 0;
}
