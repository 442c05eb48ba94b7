#include "coordinator/gateway/access_log.h"

#include <fmt/format.h>

namespace shoal::gateway {
namespace {

constexpr size_t kShown = 200;

// What a reader of logfmt, or a terminal, would stumble over is percent-encoded.
std::string plain(std::string_view text) {
  if (text.empty()) return "-";
  std::string out;
  for (const char c : text.substr(0, kShown)) {
    if (c > ' ' && c < 0x7f && c != '"' && c != '=' && c != '\\' && c != '%') {
      out += c;
    } else {
      out += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
  }
  return text.size() > kShown ? out + "..." : out;
}

// Probes and scrapers come every few seconds; that they went well is no news.
bool is_probe(const HttpRecord& record) {
  const std::string_view route = record.ticket.route_name;
  return record.status == 200 && (route == "/health" || route == "/ready" || route == "/metrics");
}

}  // namespace

std::string access_line(const HttpRecord& record, bool keys) {
  std::string out =
      fmt::format("access method={} path={} status={} bytes={} ms={:.1f}", plain(record.method),
                  plain(record.path), record.status, record.body_bytes, record.seconds * 1e3);
  if (record.prompt_tokens > 0) {
    out += fmt::format(" prompt_tokens={} generated_tokens={}", record.prompt_tokens,
                       record.generated_tokens);
  }
  if (!record.complete) out += " complete=false";
  if (keys && record.ticket.key) out += fmt::format(" key={}", *record.ticket.key + 1);
  out += fmt::format(" peer={}", plain(record.peer));
  if (!record.ticket.request_id.empty()) {
    out += fmt::format(" id={}", plain(record.ticket.request_id));
  }
  return out;
}

void AccessLog::write(const HttpRecord& record) const {
  if (options_.kind == config::AccessLog::kOff) return;
  if (options_.kind == config::AccessLog::kRequests && is_probe(record)) return;
  const bool well = record.status < 400 && record.complete;
  constexpr double kRange = 18446744073709551616.0;  // 2^64
  if (well && options_.sample < 1 && static_cast<double>(random_()) >= options_.sample * kRange) {
    return;
  }
  sink_(access_line(record, options_.keys));
}

}  // namespace shoal::gateway
