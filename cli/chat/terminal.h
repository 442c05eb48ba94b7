// The terminal, or what stands in its place: the keyboard's signals, its modes, what is printed.
#pragma once

#include <termios.h>

#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/descriptor.h"

namespace shoal::chat {

// Ctrl-C and changes of the window's size, as something to poll for instead of something that
// interrupts. One at a time; signals are as before when it is gone.
class Signals {
 public:
  Signals();
  ~Signals();
  Signals(const Signals&) = delete;
  Signals& operator=(const Signals&) = delete;

  // Readable when take() has something.
  int fd() const { return file_.get(); }
  struct Taken {
    bool interrupt = false, resize = false;
  };
  Taken take();
  // Whether Ctrl-C came; true until forget_interrupt().
  bool interrupted();
  void forget_interrupt() { interrupted_ = false; }

 private:
  sigset_t before_{};
  Descriptor file_;
  bool interrupted_ = false;
};

// Keeps the terminal of standard input usable: bracketed paste is switched off and its modes are
// what they were when the program ends, is ended (SIGTERM, SIGHUP, SIGQUIT) or stopped (Ctrl-Z).
// One at a time: signal handlers can reach nothing else.
class TerminalModes {
 public:
  // From here on what is typed is neither shown nor held back until a line is whole. That stays so
  // between lines: a terminal that is switched over at every prompt loses a Ctrl-D typed then.
  TerminalModes();
  ~TerminalModes();
  TerminalModes(const TerminalModes&) = delete;
  TerminalModes& operator=(const TerminalModes&) = delete;

  // The program edits; bracketed paste is switched on through descriptor `screen`.
  void edited_by_program(int screen);
  // The terminal itself edits lines, and shows them while `show_typing`.
  void edited_by_terminal();
  void show_typing(bool show);

 private:
  termios before_{};
  bool by_terminal_ = false;
};

// Set by a SIGCONT after Ctrl-Z: the line must be drawn anew.
bool was_stopped();

// Standard output for answers, standard error for everything else.
class Screen {
 public:
  explicit Screen(Signals& signals);

  bool terminal() const { return terminal_; }  // standard output is one
  bool notes_terminal() const { return notes_terminal_; }

  // A piece of the model's text, valid UTF-8. Control characters are escaped on a terminal. False:
  // stop, somebody pressed Ctrl-C or nobody reads any more (closed(), failure()).
  bool answer(std::string_view text);
  // What it thought before that: on a terminal only, dim.
  bool reasoning(std::string_view text);
  // The answer is over: whatever comes next starts on a line of its own.
  void end_answer();
  // A remark, on a line of its own; `dim`: it is not urgent.
  void note(std::string_view text, bool dim = false);

  bool closed() const;
  // Why standard output takes no more; empty if it does.
  std::string failure() const;

 private:
  bool put(std::string_view bytes);
  bool style(bool dim);

  Signals& signals_;
  const bool terminal_, notes_terminal_, styles_;
  bool dim_ = false;
  bool line_start_ = true;
  bool spoke_ = false;    // some of this answer was printed
  bool thought_ = false;  // reasoning was the last that was printed
  int error_ = 0;
};

}  // namespace shoal::chat
