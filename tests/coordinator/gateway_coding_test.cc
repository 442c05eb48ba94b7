// Compressed request bodies.
#include <gtest/gtest.h>
#include <zlib.h>

#include <nlohmann/json.hpp>

#include "coordinator/gateway/content_coding.h"
#include "coordinator/gateway/json_reader.h"
#include "tests/coordinator/gateway_server.h"

namespace shoal::gateway {
namespace {

using testing::RawClient;
using testing::TestServer;

constexpr int kGzip = MAX_WBITS + 16, kZlib = MAX_WBITS, kRaw = -MAX_WBITS;

std::string compressed(const std::string& text, int format) {
  z_stream stream{};
  EXPECT_EQ(deflateInit2(&stream, 9, Z_DEFLATED, format, 8, Z_DEFAULT_STRATEGY), Z_OK);
  std::string out(deflateBound(&stream, text.size()) + 64, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  out.resize(out.size() - stream.avail_out);
  deflateEnd(&stream);
  return out;
}

const auto kPlenty = [](uint64_t) { return true; };

Result<std::string> decoded(ContentCoding coding, const std::string& body,
                            uint64_t limit = 1 << 20) {
  return decode_content(coding, body, limit, kPlenty);
}

TEST(ContentCoding, RoundTrips) {
  for (const size_t size : {0u, 1u, 65535u, 65536u, 65537u, 1000000u}) {
    std::string text(size, 'x');
    for (size_t i = 0; i < size; i += 7) text[i] = static_cast<char>('a' + i % 23);
    EXPECT_EQ(decoded(ContentCoding::kGzip, compressed(text, kGzip)).value(), text);
    EXPECT_EQ(decoded(ContentCoding::kDeflate, compressed(text, kZlib)).value(), text);
  }
  const std::string members =
      compressed("one ", kGzip) + compressed("", kGzip) + compressed("two", kGzip);
  EXPECT_EQ(decoded(ContentCoding::kGzip, members).value(), "one two");
}

TEST(ContentCoding, RefusesWhatIsNotWhole) {
  const std::string whole = compressed(std::string(100000, 'x'), kGzip);
  for (size_t size = 0; size < whole.size(); ++size) {
    EXPECT_EQ(decoded(ContentCoding::kGzip, whole.substr(0, size)).status().code(),
              Code::kInvalidArgument)
        << size;
  }
  std::string wrong_sum = whole;
  wrong_sum[wrong_sum.size() - 6] ^= 1;
  const std::vector<std::pair<ContentCoding, std::string>> bad = {
      {ContentCoding::kGzip, wrong_sum},
      {ContentCoding::kGzip, whole + "x"},
      {ContentCoding::kGzip, whole + std::string(1, '\x1f')},
      {ContentCoding::kGzip, compressed("a", kZlib)},
      {ContentCoding::kGzip, "{\"prompt\":\"a\"}"},
      {ContentCoding::kDeflate, compressed("a", kRaw)},
      {ContentCoding::kDeflate, compressed("a", kZlib) + compressed("a", kZlib)},
  };
  for (const auto& [coding, body] : bad) {
    EXPECT_EQ(decoded(coding, body).status().code(), Code::kInvalidArgument) << body.size();
  }
}

TEST(ContentCoding, IsBounded) {
  const std::string bomb = compressed(std::string(8 << 20, ' '), kGzip);
  EXPECT_LT(bomb.size(), 10000u);
  EXPECT_EQ(decoded(ContentCoding::kGzip, bomb, 8 << 20).value().size(), size_t{8} << 20);
  EXPECT_EQ(decoded(ContentCoding::kGzip, bomb, (8 << 20) - 1).status().code(), Code::kOutOfRange);
  uint64_t asked = 0;
  const auto little = [&](uint64_t bytes) {
    asked = std::max(asked, bytes);
    return bytes <= 1 << 20;
  };
  EXPECT_EQ(decode_content(ContentCoding::kGzip, bomb, 8 << 20, little).status().code(),
            Code::kResourceExhausted);
  EXPECT_LE(asked, (1u << 20) + (64u << 10));
}

TEST(ContentCoding, Names) {
  const auto named = [](std::vector<std::string> values) {
    HttpRequest request;
    for (auto& value : values) request.headers.emplace_back("content-encoding", std::move(value));
    return content_coding(request);
  };
  EXPECT_EQ(named({}), ContentCoding::kIdentity);
  EXPECT_EQ(named({""}), ContentCoding::kIdentity);
  EXPECT_EQ(named({"identity"}), ContentCoding::kIdentity);
  EXPECT_EQ(named({" GZip "}), ContentCoding::kGzip);
  EXPECT_EQ(named({"x-gzip"}), ContentCoding::kGzip);
  EXPECT_EQ(named({"identity, deflate"}), ContentCoding::kDeflate);
  EXPECT_EQ(named({"identity", "gzip"}), ContentCoding::kGzip);
  for (const char* unknown :
       {"br", "zstd", "compress", "gzip, gzip", "deflate,gzip", "gzip;q=1", "chunked"}) {
    EXPECT_EQ(named({unknown}), std::nullopt) << unknown;
  }
  EXPECT_EQ(named({"gzip", "gzip"}), std::nullopt);
}

std::string coded(const std::string& body, const std::string& coding) {
  return testing::post_request("/v1/completions", body, "Content-Encoding: " + coding + "\r\n");
}

std::string code_of(const testing::RawResponse& response) {
  return Json::parse(response.body)["error"]["code"];
}

TEST(GatewayCoding, ServesCompressedBodies) {
  TestServer server;
  RawClient client(server.port());
  const std::string body = R"({"prompt":"abc","max_tokens":2})";
  client.send(coded(compressed(body, kGzip), "gzip") + coded(compressed(body, kZlib), "deflate") +
              coded(body, "identity") + coded(compressed(R"({"prompt":"defg"})", kGzip), "GZIP"));
  for (int i = 0; i < 4; ++i) EXPECT_EQ(client.read_response().status, 200) << i;
  EXPECT_EQ(server.service.requests().at(3).prompt.size(), 5u);

  // Chunked, and large: more than a small body holds.
  const std::string large = R"({"prompt":"abc","user":")" + std::string(300000, 'u') + "\"}";
  const std::string zipped = compressed(large, kGzip);
  client.send(
      "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nTransfer-Encoding: "
      "chunked\r\n\r\n");
  for (const char c : zipped) client.send(std::string("1\r\n") + c + "\r\n");
  client.send("0\r\n\r\n");
  EXPECT_EQ(client.read_response().status, 200);
  EXPECT_EQ(server.server->state().large_body_bytes, 0u);
}

TEST(GatewayCoding, RefusesByName) {
  HttpServerOptions options;
  options.body_bytes = 1 << 20;
  TestServer server(options);
  RawClient client(server.port());
  client.send(coded(compressed(std::string(2 << 20, ' '), kGzip), "gzip"));
  auto response = client.read_response();
  EXPECT_EQ(response.status, 413);
  EXPECT_EQ(code_of(response), "body_too_large");
  client.send(coded(R"({"prompt":"a"})", "gzip"));  // on the same connection: its framing was right
  response = client.read_response();
  EXPECT_EQ(response.status, 400);
  EXPECT_EQ(code_of(response), "bad_content_encoding");
  client.send(coded(R"({"prompt":"a"})", "br"));
  response = client.read_response();
  EXPECT_EQ(response.status, 415);
  EXPECT_EQ(response.headers.at("accept-encoding"), "gzip, deflate, identity");
  EXPECT_NE(response.body.find("Content-Encoding 'br'"), std::string::npos) << response.body;
  EXPECT_TRUE(client.read_end(5));
  EXPECT_EQ(server.service.submitted(), 0u);
  EXPECT_EQ(server.refused(),
            (std::vector<std::string>{"body_too_large", "malformed", "unsupported"}));
  // Without a body there is nothing encoded.
  EXPECT_EQ(server.get("/v1/models", "Content-Encoding: br\r\n").status, 200);
}

// One client's bombs take its own part of the room, and give it back.
TEST(GatewayCoding, BombsTakeNoMoreThanTheirClientsPart) {
  HttpServerOptions options;
  options.body_bytes = 4 << 20;
  options.total_body_bytes = 16 << 20;
  options.body_shares = 4;
  TestServer server(options);
  const std::string bomb =
      coded(compressed(R"({"prompt":")" + std::string(4 << 20, 'x') + "\"}", kGzip), "gzip");
  std::vector<std::unique_ptr<RawClient>> clients;
  for (int i = 0; i < 12; ++i) {
    clients.push_back(std::make_unique<RawClient>(server.port()));
    clients.back()->send(bomb);
  }
  for (auto& client : clients) {
    const int status = client->read_response(30).status;
    EXPECT_TRUE(status == 413 || status == 503) << status;
  }
  EXPECT_TRUE(TestServer::eventually([&] { return server.server->state().large_body_bytes == 0; }));
  EXPECT_EQ(server.post("/v1/completions", R"({"prompt":"a"})").status, 200);
}

}  // namespace
}  // namespace shoal::gateway
