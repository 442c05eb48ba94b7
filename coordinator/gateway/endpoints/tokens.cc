// POST /tokenize and /detokenize
#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <variant>

#include "base/utf8.h"
#include "coordinator/gateway/json_writer.h"
#include "coordinator/gateway/reply.h"
#include "coordinator/gateway/route.h"

namespace shoal::gateway::endpoints {
namespace {

// Of answers that grow with a request: 30 bytes or more for each token with its piece; a token of
// four bytes of request may stand for hundreds.
constexpr size_t kMaxPieces = 1 << 20;
constexpr size_t kMaxDetokenizedBytes = 16 << 20;

// {"id": …, "piece": text, or its bytes where they are part of a character}
void append_piece(std::string* out, int32_t id, const std::string& bytes) {
  *out += "{\"id\":";
  append_json_integer(out, id);
  *out += ",\"piece\":";
  if (is_valid_utf8(bytes)) {
    append_json_string(out, bytes);
  } else {
    *out += '[';
    for (const unsigned char byte : bytes) {
      if (out->back() != '[') *out += ',';
      append_json_integer(out, byte);
    }
    *out += ']';
  }
  *out += '}';
}

}  // namespace

void tokenize(const Services& services, const HttpRequest& request,
              const std::shared_ptr<Exchange>& exchange) {
  const auto json = json_body(request, services.options.json, *exchange);
  if (!json) return;
  auto parsed = parse_tokenize_request(*json);
  if (const auto* error = std::get_if<ApiError>(&parsed)) {
    send_error(*exchange, *error);
    return;
  }
  const auto& wanted = std::get<TokenizeRequest>(parsed);
  EncodeOptions options;
  options.add_bos = options.add_eos = wanted.add_special;
  options.parse_special = wanted.parse_special;
  const auto ids =
      encode_within(*services.deps.codec, wanted.content, options, services.context_tokens());
  if (!ids) {
    send_error(*exchange, encoding_error(ids.status(), "content"));
    return;
  }
  if (wanted.with_pieces && ids->size() > kMaxPieces) {
    send_error(*exchange,
               invalid_field("with_pieces",
                             fmt::format("the text has {} tokens; 'with_pieces' shows at most {}: "
                                         "send the text in parts, or without it",
                                         ids->size(), kMaxPieces),
                             "answer_too_large"));
    return;
  }
  HttpResponse response;
  std::string& body = response.body;
  body = "{\"tokens\":[";
  for (const int32_t id : *ids) {
    if (body.back() != '[') body += ',';
    if (wanted.with_pieces) {
      append_piece(&body, id, services.deps.codec->token_bytes(id));
    } else {
      append_json_integer(&body, id);
    }
  }
  body +=
      fmt::format("],\"count\":{},\"max_model_len\":{}}}", ids->size(), services.context_tokens());
  exchange->respond(std::move(response));
}

void detokenize(const Services& services, const HttpRequest& request,
                const std::shared_ptr<Exchange>& exchange) {
  const auto json = json_body(request, services.options.json, *exchange);
  if (!json) return;
  auto parsed = parse_detokenize_request(*json, services.options.limits);
  if (const auto* error = std::get_if<ApiError>(&parsed)) {
    send_error(*exchange, *error);
    return;
  }
  std::string bytes;
  int32_t previous = -1;
  for (const int32_t id : std::get<std::vector<int32_t>>(parsed)) {
    bytes += services.deps.codec->text_bytes(id, std::exchange(previous, id));
    if (bytes.size() <= kMaxDetokenizedBytes) continue;
    send_error(*exchange, invalid_field("tokens",
                                        fmt::format("the tokens stand for more than {} bytes of "
                                                    "text; send them in parts",
                                                    kMaxDetokenizedBytes),
                                        "answer_too_large"));
    return;
  }
  HttpResponse response;
  response.body = "{\"content\":";
  append_json_string(&response.body, bytes);
  response.body += '}';
  exchange->respond(std::move(response));
}

}  // namespace shoal::gateway::endpoints
