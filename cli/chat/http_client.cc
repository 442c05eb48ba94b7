#include "cli/chat/http_client.h"

#include <curl/curl.h>

#include <algorithm>
#include <cstring>

#include <fmt/core.h>

#include "base/file.h"
#include "base/quote.h"
#include "base/version.h"

namespace shoal::chat {
namespace {

using std::chrono::steady_clock;

constexpr long kConnectSeconds = 10;
constexpr size_t kErrorBodyBytes = size_t{1} << 20;
constexpr int kTurnMs = 1000;

// CURL and CURLM are both void.
using Easy = std::unique_ptr<CURL, decltype(&curl_easy_cleanup)>;
using Multi = std::unique_ptr<CURLM, decltype(&curl_multi_cleanup)>;
using Headers = std::unique_ptr<curl_slist, decltype(&curl_slist_free_all)>;

class HttpClientImpl final : public HttpClient {
 public:
  HttpClientImpl(Endpoint endpoint, std::string ca_file, Signals& signals)
      : endpoint_(std::move(endpoint)), ca_file_(std::move(ca_file)), signals_(signals) {}

  Status start(const std::string& key) {
    if (endpoint_.secure && !ca_file_.empty())
      SHOAL_TRY(File::open(ca_file_).status().annotate("the certificates to trust"));
    for (const char c : key) {
      if (static_cast<unsigned char>(c) < 0x21 || c == 0x7f)
        return invalid_argument("the API key holds spaces or control characters");
    }
    multi_.reset(curl_multi_init());
    if (multi_ == nullptr) return unavailable("cannot start the HTTP client");
    add_header("Content-Type: application/json");
    add_header("Accept: text/event-stream, application/json");
    add_header("Expect:");  // nobody answers 100 Continue
    if (!key.empty()) add_header("Authorization: Bearer " + key);
    return Status::ok();
  }

  const Endpoint& endpoint() const override { return endpoint_; }
  HttpReply send(const HttpRequest& request) override;

 private:
  struct Exchange {
    CURL* easy = nullptr;
    const HttpRequest& request;
    HttpReply& reply;
    TimePoint last_news;
  };

  void add_header(const std::string& line) {
    headers_.reset(curl_slist_append(headers_.release(), line.c_str()));
  }
  void set_up(CURL* easy, Exchange& exchange, char* error);
  CURLcode drive(CURL* easy, Exchange& exchange);
  static size_t on_bytes(char* bytes, size_t size, size_t n, void* exchange);
  std::string failure_of(CURL* easy, CURLcode code, const char* detail, bool answered) const;

  const Endpoint endpoint_;
  const std::string ca_file_;
  Signals& signals_;
  Multi multi_{nullptr, curl_multi_cleanup};
  Headers headers_{nullptr, curl_slist_free_all};
};

// Whether a certificate was refused since it leads to none that is trusted; not since it has ended,
// or is another host's.
bool nobody_vouches(CURL* easy) {
  // X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT, DEPTH_ZERO_SELF_SIGNED_CERT, SELF_SIGNED_CERT_IN_CHAIN,
  // UNABLE_TO_GET_ISSUER_CERT_LOCALLY, UNABLE_TO_VERIFY_LEAF_SIGNATURE of OpenSSL's x509_vfy.h
  constexpr long kUntrusted[] = {2, 18, 19, 20, 21};
  long result = 0;
  curl_easy_getinfo(easy, CURLINFO_SSL_VERIFYRESULT, &result);
  return std::ranges::find(kUntrusted, result) != std::end(kUntrusted);
}

size_t HttpClientImpl::on_bytes(char* bytes, size_t size, size_t n, void* data) {
  auto& exchange = *static_cast<Exchange*>(data);
  const std::string_view piece(bytes, size * n);
  exchange.last_news = steady_clock::now();
  long status = 0;
  curl_easy_getinfo(exchange.easy, CURLINFO_RESPONSE_CODE, &status);
  if (status != 200) {
    std::string& body = exchange.reply.error_body;
    body += piece.substr(0, kErrorBodyBytes - std::min(kErrorBodyBytes, body.size()));
    return piece.size();
  }
  const char* type = nullptr;
  curl_easy_getinfo(exchange.easy, CURLINFO_CONTENT_TYPE, &type);
  if (exchange.request.on_body(piece, type != nullptr ? type : "")) return piece.size();
  exchange.reply.refused_by_sink = true;
  return 0;
}

void HttpClientImpl::set_up(CURL* easy, Exchange& exchange, char* error) {
  curl_easy_setopt(easy, CURLOPT_URL, exchange.request.url.c_str());
  curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers_.get());
  curl_easy_setopt(easy, CURLOPT_USERAGENT, kBuild);
  if (!exchange.request.body.empty()) {
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE,
                     static_cast<curl_off_t>(exchange.request.body.size()));
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, exchange.request.body.c_str());
  }
  curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_bytes);
  curl_easy_setopt(easy, CURLOPT_WRITEDATA, &exchange);
  curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, error);
  curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT, kConnectSeconds);
  curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
  // Otherwise http_proxy, https_proxy, all_proxy and no_proxy count.
  if (endpoint_.loopback) curl_easy_setopt(easy, CURLOPT_PROXY, "");
  if (!ca_file_.empty()) curl_easy_setopt(easy, CURLOPT_CAINFO, ca_file_.c_str());
}

// Until the exchange is over; CURLE_ABORTED_BY_CALLBACK after Ctrl-C.
CURLcode HttpClientImpl::drive(CURL* easy, Exchange& exchange) {
  curl_multi_add_handle(multi_.get(), easy);
  CURLcode code = CURLE_OK;
  for (int running = 1; running > 0;) {
    if (curl_multi_perform(multi_.get(), &running) != CURLM_OK) {
      code = CURLE_FAILED_INIT;
      break;
    }
    int left = 0;
    while (const CURLMsg* message = curl_multi_info_read(multi_.get(), &left)) {
      if (message->msg == CURLMSG_DONE) code = message->data.result;
    }
    if (running == 0) break;
    if (signals_.interrupted()) {
      code = CURLE_ABORTED_BY_CALLBACK;
      break;
    }
    if (steady_clock::now() - exchange.last_news > exchange.request.patience) {
      code = CURLE_OPERATION_TIMEDOUT;
      break;
    }
    curl_waitfd extra{signals_.fd(), CURL_WAIT_POLLIN, 0};
    curl_multi_poll(multi_.get(), &extra, 1, kTurnMs, nullptr);
  }
  curl_multi_remove_handle(multi_.get(), easy);
  return code;
}

std::string HttpClientImpl::failure_of(CURL* easy, CURLcode code, const char* detail,
                                       bool answered) const {
  if (answered) {
    if (code == CURLE_OPERATION_TIMEDOUT) return "nothing more came for too long";
    return fmt::format("the connection to {} was lost", endpoint_.shown);
  }
  long number = 0;
  curl_easy_getinfo(easy, CURLINFO_OS_ERRNO, &number);
  std::string why = code == CURLE_COULDNT_CONNECT && number != 0
                        ? std::strerror(static_cast<int>(number))
                        : (*detail != '\0' ? excerpt(detail) : curl_easy_strerror(code));
  if (code == CURLE_COULDNT_CONNECT && number == ECONNREFUSED)
    why += "; is a server running there (`shoal serve MODEL`)?";
  if (code == CURLE_PEER_FAILED_VERIFICATION && nobody_vouches(easy))
    why += "; if it is the right server, name its certificate or its issuer's: --ca-file FILE";
  if (code == CURLE_SSL_CONNECT_ERROR) why += "; is it http that is spoken there?";
  if (!endpoint_.secure && (code == CURLE_RECV_ERROR || code == CURLE_GOT_NOTHING))
    why += "; is it https that is spoken there?";
  return fmt::format("cannot reach {}: {}", endpoint_.shown, why);
}

HttpReply HttpClientImpl::send(const HttpRequest& request) {
  HttpReply reply;
  const Easy easy(curl_easy_init(), curl_easy_cleanup);
  if (easy == nullptr) {
    reply.failure = "cannot start an HTTP request: no memory";
    return reply;
  }
  char error[CURL_ERROR_SIZE] = "";
  Exchange exchange{easy.get(), request, reply, steady_clock::now()};
  set_up(easy.get(), exchange, error);
  const CURLcode code = drive(easy.get(), exchange);
  long status = 0;
  curl_easy_getinfo(easy.get(), CURLINFO_RESPONSE_CODE, &status);
  reply.status = static_cast<int>(status);
  char* location = nullptr;
  curl_easy_getinfo(easy.get(), CURLINFO_REDIRECT_URL, &location);
  if (location != nullptr) reply.location = location;
  curl_off_t seconds = 0;
  curl_easy_getinfo(easy.get(), CURLINFO_RETRY_AFTER, &seconds);
  reply.retry_after = seconds;
  reply.interrupted =
      code == CURLE_ABORTED_BY_CALLBACK || (code != CURLE_OK && signals_.interrupted());
  if (code != CURLE_OK && !reply.interrupted && !reply.refused_by_sink)
    reply.failure = failure_of(easy.get(), code, error, status != 0);
  return reply;
}

}  // namespace

Result<std::unique_ptr<HttpClient>> HttpClient::open(Endpoint endpoint, std::string key,
                                                     std::string ca_file, Signals& signals) {
  static const CURLcode ready = curl_global_init(CURL_GLOBAL_DEFAULT);
  if (ready != CURLE_OK) return unavailable("cannot start the HTTP client");
  auto client = std::make_unique<HttpClientImpl>(std::move(endpoint), std::move(ca_file), signals);
  SHOAL_TRY(client->start(key));
  return std::unique_ptr<HttpClient>(std::move(client));
}

}  // namespace shoal::chat
