// A line of input from a terminal: edited with libedit where the terminal can do that, else as the
// terminal itself edits it. Lines that are pasted together are one.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "cli/chat/terminal.h"

namespace shoal::chat {

class LineReader {
 public:
  enum class End { kLine, kEnd, kInterrupt };

  // REQUIRES standard input to be a terminal. `screen`: descriptor (1 or 2) of what is drawn.
  // `words`: what Tab completes at the start of a line.
  static std::unique_ptr<LineReader> open(Signals& signals, int screen,
                                          std::vector<std::string> words);
  virtual ~LineReader() = default;

  // kLine: `*text` is what was typed or pasted, without the last line end, valid UTF-8. kEnd:
  // Ctrl-D at the start of a line, or the terminal is gone. kInterrupt: Ctrl-C; `*text` is what
  // stood there.
  virtual End read(std::string_view prompt, std::string* text) = 0;
  // Something that the arrow keys bring back.
  virtual void remember(const std::string& entry) = 0;
  // Whether it is the terminal that edits.
  virtual bool plain() const = 0;

  // Of one line; what is pasted beyond is dropped.
  static constexpr size_t kMaxBytes = size_t{16} << 20;
};

}  // namespace shoal::chat
