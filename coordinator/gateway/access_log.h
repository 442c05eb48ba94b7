// One line for a request, in logfmt, after it is over: who asked for what and what became of it.
// Never a header, a query or anything of a body.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "config/config.h"
#include "coordinator/gateway/http.h"

namespace shoal::gateway {

// access method=POST path=/v1/chat/completions status=200 bytes=1234 ms=532.1 prompt_tokens=12
// generated_tokens=40 key=1 peer=127.0.0.1 id=req-… (all on one line). `key`: the line of the file
// with the API keys, counting keys only; left out without keys, tokens where there are none.
// complete=false: the client left, or was cut off, before it had the whole answer.
std::string access_line(const HttpRecord& record, bool keys);

// What of all requests gets a line. Thread-safe.
class AccessLog {
 public:
  struct Options {
    config::AccessLog kind = config::AccessLog::kRequests;
    // Of those that ended well (below 400, complete) so many, as a part of 1; others always.
    double sample = 1;
    bool keys = false;
  };
  // `random`: thread-safe, all 64 bits. `sink` takes a line.
  AccessLog(const Options& options, std::function<uint64_t()> random,
            std::function<void(const std::string&)> sink)
      : options_(options), random_(std::move(random)), sink_(std::move(sink)) {}

  void write(const HttpRecord& record) const;

 private:
  const Options options_;
  const std::function<uint64_t()> random_;
  const std::function<void(const std::string&)> sink_;
};

}  // namespace shoal::gateway
