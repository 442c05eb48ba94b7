// Chat templates: a bounded, sandboxed interpreter of the Jinja2 language as chat templates use it
// (docs/chat-templates.md lists what is there). No file, no attribute of the host, no code can be
// reached from a template, and work, time, memory and depth are limited: templates come from model
// files, messages from anybody.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <ctime>
#include <memory>
#include <string>

#include <nlohmann/json_fwd.hpp>

#include "base/clock.h"
#include "base/status.h"

namespace shoal {

struct TemplateLimits {
  uint64_t max_source_bytes = 4u << 20;  // the format's own bound for the key
  uint64_t max_live_bytes = 64u << 20;   // values and output at any time of a rendering
  // Units of work of all renderings of a request: nodes evaluated, items visited, 16 bytes copied
  // or compared. Conversations that fill the largest contexts need a hundredth of this.
  uint64_t max_work = 500'000'000;
  uint64_t max_depth = 400;  // nested expressions and macro calls; bounds the stack
};

// What all renderings of one request share: the time they may take together and the way to stop
// them. One thread renders and reads the figures; cancel() may come from any.
class RenderControl {
 public:
  // CPU time of the thread that makes it, from now on; everything that thread does counts.
  explicit RenderControl(Duration cpu_limit = std::chrono::seconds(1));
  RenderControl(const RenderControl&) = delete;
  RenderControl& operator=(const RenderControl&) = delete;

  // The rendering in progress and later ones fail with kCancelled, within about a millisecond.
  void cancel() { cancelled_.store(true, std::memory_order_relaxed); }
  bool cancelled() const { return cancelled_.load(std::memory_order_relaxed); }
  bool out_of_time() const;
  Duration cpu_limit() const { return cpu_limit_; }

  // Of the renderings that have ended: work of all, the most bytes live in one, and bytes that were
  // not given back (a bug).
  uint64_t work() const { return work_; }
  uint64_t peak_bytes() const { return peak_bytes_; }
  uint64_t lost_bytes() const { return lost_bytes_; }
  void add(uint64_t work, uint64_t peak_bytes, uint64_t lost_bytes);

 private:
  const Duration cpu_limit_;
  const Duration started_;  // CPU time of the thread
  std::atomic<bool> cancelled_{false};
  uint64_t work_ = 0;
  uint64_t peak_bytes_ = 0;
  uint64_t lost_bytes_ = 0;
};

// Immutable after parse(); render() is thread-safe.
class ChatTemplate {
 public:
  // Environment: trim_blocks, lstrip_blocks, loop controls. Errors: "line 3: …".
  static Result<ChatTemplate> parse(std::string source, const TemplateLimits& limits = {});

  // `context`: an object with messages, add_generation_prompt, tools, bos_token … in insertion
  // order. `now`: what strftime_now() shows, in local time. raise_exception(text) gives
  // kInvalidArgument with that text; other errors name the line. kResourceExhausted: more work,
  // time or memory than the limits allow. kCancelled: `control` was. Time: linear in the messages
  // for templates that look at each of them a bounded number of times.
  Result<std::string> render(const nlohmann::ordered_json& context, std::time_t now,
                             RenderControl& control) const;

 private:
  struct Program;
  std::shared_ptr<const Program> program_;
};

}  // namespace shoal
