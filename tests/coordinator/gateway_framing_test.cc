// RFC 9112, sections 2 to 7, as bytes on a socket: what leaves in doubt where a request ends is
// refused, the connection ends, and what follows on it is never run.
#include <gtest/gtest.h>

#include "tests/coordinator/gateway_server.h"

namespace shoal::gateway {
namespace {

using testing::get_request;
using testing::post_request;
using testing::RawClient;
using testing::TestServer;
using namespace std::string_literals;

const std::string kBody = R"({"prompt":"a","max_tokens":1})";  // 29 bytes
const std::string kLength = "Content-Length: " + std::to_string(kBody.size()) + "\r\n";
const std::string kSmuggled = post_request("/v1/completions", kBody);

std::string post(const std::string& headers, const std::string& body = kBody) {
  return "POST /v1/completions HTTP/1.1\r\nHost: x\r\n" + headers + "\r\n" + body;
}
std::string get(const std::string& headers) {
  return "GET /health HTTP/1.1\r\n" + headers + "\r\n";
}
std::string chunked(const std::string& body) {
  return post("Transfer-Encoding: chunked\r\n", body);
}

struct Row {
  std::string bytes;
  int status = 400;
};

// Each is sent with a second request behind it.
void expect_refused(const std::vector<Row>& rows) {
  TestServer server;
  for (const Row& row : rows) {
    RawClient client(server.port());
    client.send(row.bytes + kSmuggled);
    const auto response = client.read_response();
    EXPECT_EQ(response.status, row.status) << row.bytes;
    EXPECT_TRUE(client.read_end()) << row.bytes;
    EXPECT_EQ(client.received(), "") << "a second answer after\n" << row.bytes;
    if (response.status != 0) {
      EXPECT_EQ(response.headers.at("connection"), "close") << row.bytes;
    }
    ASSERT_EQ(server.service.submitted(), 0u) << "ran what was refused or behind it:\n"
                                              << row.bytes;
  }
  EXPECT_EQ(server.refused().size(), rows.size());
}

TEST(GatewayFraming, TransferEncoding) {
  const std::string rest = "1d\r\n" + kBody + "\r\n0\r\n\r\n";
  std::vector<Row> rows;
  for (const char* value :
       {"xchunked", "chunkedx", "chunked, identity", "identity", "identity, chunked",
        "gzip, chunked", "chunked, gzip", "chunked, chunked", "chunked;q=1", "\"chunked\"",
        "chunked,", ",chunked", "", "deflate", "x"}) {
    rows.push_back({post("Transfer-Encoding: "s + value + "\r\n", rest), 501});
  }
  rows.push_back({post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", rest), 501});
  rows.push_back({post("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", rest), 501});
  rows.push_back({post("Transfer-Encoding:\vchunked\r\n", rest)});
  rows.push_back({post("Transfer-Encoding : chunked\r\n", rest)});
  rows.push_back({post("Transfer-Encoding\t: chunked\r\n", rest)});
  rows.push_back({post("X: y\r\n Transfer-Encoding: chunked\r\n", rest)});
  rows.push_back({post("Transfer-Encoding:\r\n chunked\r\n", rest)});
  rows.push_back({post("Transfer-Encoding: chunked\n", rest)});
  rows.push_back({post("Transfer-Encoding: chunked\0\r\n"s, rest)});
  // With a length: which of the two counts?
  rows.push_back({post(kLength + "Transfer-Encoding: chunked\r\n", rest)});
  rows.push_back({post("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n", rest)});
  rows.push_back({post("Transfer-Encoding: identity\r\n" + kLength, rest)});
  rows.push_back({"POST /v1/completions HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n" + rest});
  rows.push_back({"GET /health HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n", 501});
  expect_refused(rows);
}

TEST(GatewayFraming, ContentLength) {
  std::vector<Row> rows;
  for (const std::string value :
       {"+29", "-1", "29,29", "29, 29", "29 29", "0x1d", "1d", "29.0", "2 9", "", "29;", "\"29\"",
        "18446744073709551645", "99999999999999999999999999", "29\t29", "\xd9\xa2", "29\r",
        "NaN"}) {
    rows.push_back({post("Content-Length: " + value + "\r\n")});
  }
  rows.push_back({post(kLength + kLength)});
  rows.push_back({post(kLength + "Content-Length: 5\r\n")});
  rows.push_back({post("Content-Length: 0\r\n" + kLength)});
  rows.push_back({post("Content-Length : 29\r\n")});
  rows.push_back({post("Content-Length: 29\n")});
  rows.push_back({post("Content-Length:\r\n 29\r\n")});
  rows.push_back({get("Host: x\r\nContent-Length: 5\r\nContent-Length: 5\r\n")});
  rows.push_back({post("Content-Length: 999999999999999999\r\n"), 413});
  expect_refused(rows);
}

TEST(GatewayFraming, HeaderLines) {
  std::vector<Row> rows = {
      {get("Host: x\r\nX: a\r\n b\r\n")},         // folded
      {get("Host: x\r\nX: a\r\n\tb\r\n")},        //
      {get(" Host: x\r\n")},                      // space in front of the first
      {get("\tX: a\r\nHost: x\r\n")},             //
      {get("Host: x\nX: a\r\n")},                 // bare LF
      {"GET /health HTTP/1.1\nHost: x\r\n\r\n"},  //
      {"GET /health HTTP/1.1\r\nHost: x\n\n"},    //
      {"GET /health HTTP/1.1\r\nHost: x\r\n\n"},  //
      {"\n" + get("Host: x\r\n")},                //
      {get("Host: x\rX: a\r\n")},                 // bare CR
      {get("Host: x\r\nX: a\rb\r\n")},            //
      {get("Host: x\r\r\n")},                     //
      {get("Host: x\r\nX\r: a\r\n")},
      {get("Host : x\r\n")},  // space in front of the colon
      {get("Host: x\r\nX : a\r\n")},
      {get("Host: x\r\nX\t: a\r\n")},
      {get("Host: x\r\n: a\r\n")},  // no name
      {get("Host: x\r\nno colon\r\n")},
      {get("Host: x\r\nX Y: a\r\n")},
      {get("Host: x\r\nX(Y): a\r\n")},
      {get("Host: x\r\n\xc3\xa9: a\r\n")},
      {get("Host: x\r\nX\0: a\r\n"s)},
      {get("Host: x\r\n" + std::string(300, 'X') + "\r\n")},
  };
  for (int c = 0; c < 0x20; ++c) {
    if (c == '\t') continue;
    rows.push_back({get("Host: x\r\nX: a" + std::string(1, static_cast<char>(c)) + "b\r\n")});
  }
  rows.push_back({get("Host: x\r\nX: a\x7f\r\n")});
  expect_refused(rows);
}

TEST(GatewayFraming, Host) {
  std::vector<Row> rows = {
      {get("")},
      {get("Host: x\r\nHost: x\r\n")},
      {get("Host: x\r\nhost: y\r\n")},
      {"GET /health HTTP/1.0\r\nHost: x\r\nHost: y\r\n\r\n"},
  };
  for (const char* host : {"a b", "a/b", "http://a", "u@a", "a?b", "a#b", "a:b", "a:123456", "a, b",
                           "[::1", "[]", "[::1]x", "[g%]:1", "a\\b", "<a>", "\xc3\xa9"}) {
    rows.push_back({get("Host: "s + host + "\r\n")});
  }
  expect_refused(rows);
}

TEST(GatewayFraming, RequestLines) {
  const std::string host = "Host: x\r\n\r\n";
  std::vector<Row> rows = {
      {"\r\n\r\n\r\n\r\n\r\n\r\n"},
      {"GARBAGE\r\n\r\n"},
      {"GET\r\n" + host},
      {"GET /health\r\n"},  // HTTP/0.9
      {"GET /health\r\n" + host},
      {" GET /health HTTP/1.1\r\n" + host},
      {"GET  HTTP/1.1\r\n" + host},
      {"GET  /health HTTP/1.1\r\n" + host},
      {"GET /health  HTTP/1.1\r\n" + host},
      {"GET /health HTTP/1.1 \r\n" + host},
      {"GET\t/health\tHTTP/1.1\r\n" + host},
      {"GET /a b HTTP/1.1\r\n" + host},
      {"GET /health HTTP/1.1\r\n \r\n" + host},
      {"G@T /health HTTP/1.1\r\n" + host},
      {"GET /health http/1.1\r\n" + host},
      {"GET /health HTTP/1,1\r\n" + host},
      {"GET /health HTTP/1.11\r\n" + host},
      {"GET /health HTTP/11.1\r\n" + host},
      {"GET /health HTTP/1.\r\n" + host},
      {"GET /health HTTPS/1.1\r\n" + host},
      {"GET /health HTTP/9.9\r\n" + host, 505},
      {"GET /health HTTP/1.2\r\n" + host, 505},
      {"GET /health HTTP/0.9\r\n" + host, 505},
      {"GET /health HTTP/2.0\r\n" + host, 505},
      {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505},  // what HTTP/2 begins with
      {std::string(40, 'G') + " / HTTP/1.1\r\n" + host, 501},
      {"\x16\x03\x01\x02\x01\x01\x01\xfc\x03\x03 TLS to a plain port"},
      // Targets: paths, or what is sent to proxies, of this scheme.
      {"GET health HTTP/1.1\r\n" + host},
      {"GET * HTTP/1.1\r\n" + host},
      {"GET x:80 HTTP/1.1\r\n" + host},
      {"CONNECT x:80 HTTP/1.1\r\n" + host},
      {"GET ftp://x/health HTTP/1.1\r\n" + host},
      {"GET http:/health HTTP/1.1\r\n" + host},
      {"GET http:///health HTTP/1.1\r\n" + host},
      {"GET http://u@x/health HTTP/1.1\r\n" + host},
      {"GET /health#x HTTP/1.1\r\n" + host},
      {"GET /h\xc3\xa9 HTTP/1.1\r\n" + host},
      {"GET /\0 HTTP/1.1\r\n"s + host},
      {get("Host: x\r\nContent-Length: 1\r\nExpect: 200-maybe\r\n"), 417},
  };
  expect_refused(rows);
}

TEST(GatewayFraming, Chunks) {
  const std::string data = "\r\n" + kBody + "\r\n";
  std::vector<Row> rows;
  for (const char* size :
       {"0x1d", "-1d", "+1d", " 1d", "1d ", "\t1d", "xyz", "", ";x", "1d x", "1d,", "fffffffff",
        "fffffffffffffffffff", "00000000000000001d", "1d\v"}) {
    rows.push_back({chunked(size + data + "0\r\n\r\n")});
  }
  rows.push_back({chunked("1d\n" + kBody + "\r\n0\r\n\r\n")});
  rows.push_back({chunked("1d\r" + kBody + "\r\n0\r\n\r\n")});
  rows.push_back({chunked("1d\r\r\n" + kBody + "\r\n0\r\n\r\n")});
  rows.push_back({chunked("1d\r\n" + kBody + "\n0\r\n\r\n")});
  rows.push_back({chunked("1d\r\n" + kBody + "0\r\n\r\n")});
  rows.push_back({chunked("1d\r\n" + kBody + "x\r\n0\r\n\r\n")});
  rows.push_back({chunked("1d\r\n" + kBody + "\rx0\r\n\r\n")});
  rows.push_back({chunked("1d;a\nb" + data + "0\r\n\r\n")});
  rows.push_back({chunked("1d;a\rb" + data + "0\r\n\r\n")});
  rows.push_back({chunked("1d;a\0"s + data + "0\r\n\r\n")});
  rows.push_back({chunked("1d;" + std::string(20000, 'x') + data + "0\r\n\r\n")});
  rows.push_back({chunked("1d" + data + "0\n\r\n")});
  rows.push_back({chunked("1d" + data + "0\r\n\n")});
  rows.push_back({chunked("1d" + data + "0\r\nX: a\nY: b\r\n\r\n")});
  rows.push_back({chunked("1d" + data + "0\r\nX: a\rY: b\r\n\r\n")});
  rows.push_back({chunked("1d" + data + "0\r\n folded: a\r\n\r\n")});
  rows.push_back({chunked("1d" + data + "0\r\n: a\r\n\r\n")});
  rows.push_back({chunked("1d" + data + "0\r\nX: a\0\r\n\r\n"s)});
  rows.push_back({chunked("1d" + data + "0\r\nX: " + std::string(20000, 'x') + "\r\n\r\n")});
  rows.push_back({chunked("ffffffff\r\n"), 413});
  expect_refused(rows);
}

TEST(GatewayFraming, WhatIsRightStays) {
  TestServer server;
  const std::string rest = "1d\r\n" + kBody + "\r\n0\r\n\r\n";
  size_t ran = 0;
  for (const std::string& bytes : {
           post(kLength),
           post("Content-Length:29\r\n"),
           post("Content-Length: \t 29 \t\r\n"),
           post("content-length: 0029\r\n"),
           post(kLength + "X:\r\nY: \xc3\xa9 a\tb\r\n"),
           "\r\n\r\n" + post(kLength),
           chunked(rest),
           post("transfer-ENCODING:CHUNKED\r\n", rest),
           chunked("0000001D;a=b;c=\"d e\"\r\n" + kBody + "\r\n000\r\nX: a\r\nY:\r\n\r\n"),
           chunked("A\r\n" + kBody.substr(0, 10) + "\r\n13\r\n" + kBody.substr(10) +
                   "\r\n0\r\n\r\n"),
           "POST http://any.host:80/v1/completions?a=http://b HTTP/1.1\r\nHost: [::1]:8080\r\n" +
               kLength + "\r\n" + kBody,
           "POST https://any.host/v1%2fcompletions HTTP/1.1\r\nHost:\r\n" + kLength + "\r\n" +
               kBody,
           "POST /v1/completions HTTP/1.0\r\nConnection: keep-alive\r\n" + kLength + "\r\n" + kBody,
           post(kLength + "Expect: 100-continue\r\nConnection: keep-alive, x\r\n"),
       }) {
    RawClient client(server.port());
    client.send(bytes + get_request("/health"));
    EXPECT_EQ(client.read_response().status, 200) << bytes;
    EXPECT_EQ(client.read_response().status, 200) << "the next one, after\n" << bytes;
    EXPECT_EQ(server.service.submitted(), ++ran) << bytes;
  }
}

// However the bytes are cut, they mean the same.
TEST(GatewayFraming, SplitAnywhere) {
  TestServer server;
  const std::string bytes = "\r\n" +
                            chunked("5;x\r\n" + kBody.substr(0, 5) + "\r\n18\r\n" +
                                    kBody.substr(5) + "\r\n0\r\nT: u\r\n\r\n") +
                            post(kLength + "Connection: close\r\n");
  for (size_t cut = 1; cut < bytes.size(); ++cut) {
    RawClient client(server.port());
    client.send(bytes.substr(0, cut));
    if (cut % 16 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));
    client.send(bytes.substr(cut));
    EXPECT_EQ(client.read_response().status, 200) << cut;
    EXPECT_EQ(client.read_response().status, 200) << cut;
    EXPECT_TRUE(client.read_end()) << cut;
  }
  EXPECT_EQ(server.service.submitted(), 2 * (bytes.size() - 1));
}

// A connection that is to end ends behind this request, whatever came with it.
TEST(GatewayFraming, NothingRunsAfterClose) {
  TestServer server;
  RawClient client(server.port());
  client.send(get("Host: x\r\nConnection: x, close\r\n") + kSmuggled);
  EXPECT_EQ(client.read_response().status, 200);
  EXPECT_TRUE(client.read_end());
  EXPECT_EQ(server.service.submitted(), 0u);
}

}  // namespace
}  // namespace shoal::gateway
