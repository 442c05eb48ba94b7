#include "cli/chat/terminal.h"

#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "base/console.h"
#include "cli/chat/text.h"

namespace shoal::chat {
namespace {

constexpr std::string_view kPasteOn = "\x1b[?2004h", kPasteOff = "\x1b[?2004l";
constexpr std::string_view kDim = "\x1b[2m", kPlain = "\x1b[m";
constexpr Duration kNotePatience = std::chrono::seconds(1);
// What a pipe or terminal that is ready takes at once.
constexpr size_t kPiece = 1024;

// For the handlers of TerminalModes.
struct {
  termios before{};
  int screen = -1;
  bool paste = false;
} saved;
volatile sig_atomic_t stopped = 0;

void put_quietly(std::string_view text) {
  if (saved.paste) (void)!::write(saved.screen, text.data(), text.size());
}

void give_back() {
  ::tcsetattr(STDIN_FILENO, TCSANOW, &saved.before);
  put_quietly(kPasteOff);
}

void on_end(int number) {
  give_back();
  ::signal(number, SIG_DFL);
  ::raise(number);
}

void on_stop(int) {
  const int error = errno;
  termios now{};
  ::tcgetattr(STDIN_FILENO, &now);
  give_back();
  ::raise(SIGSTOP);
  ::tcsetattr(STDIN_FILENO, TCSADRAIN, &now);
  put_quietly(kPasteOn);
  stopped = 1;
  errno = error;
}

void handle(int number, void (*handler)(int)) {
  struct sigaction action {};
  action.sa_handler = handler;
  if (handler == on_end) action.sa_flags = static_cast<int>(SA_NODEFER);
  ::sigaction(number, &action, nullptr);
}

bool shows_styles() {
  const char* term = std::getenv("TERM");
  const char* no_color = std::getenv("NO_COLOR");
  const std::string_view name = term == nullptr ? "" : term;
  return !name.empty() && name != "dumb" && name != "unknown" &&
         (no_color == nullptr || *no_color == '\0');
}

}  // namespace

Signals::Signals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGWINCH);
  ::pthread_sigmask(SIG_BLOCK, &set, &before_);
  file_ = Descriptor(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
}

Signals::~Signals() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

Signals::Taken Signals::take() {
  Taken out;
  signalfd_siginfo info{};
  while (::read(file_.get(), &info, sizeof(info)) == sizeof(info)) {
    (info.ssi_signo == SIGINT ? out.interrupt : out.resize) = true;
  }
  interrupted_ = interrupted_ || out.interrupt;
  return out;
}

bool Signals::interrupted() {
  take();
  return interrupted_;
}

TerminalModes::TerminalModes() {
  ::tcgetattr(STDIN_FILENO, &before_);
  saved.before = before_;
  saved.paste = false;
  for (const int number : {SIGTERM, SIGHUP, SIGQUIT}) handle(number, on_end);
  handle(SIGTSTP, on_stop);
  termios modes = before_;
  modes.c_lflag &= ~static_cast<tcflag_t>(ECHO | ECHONL | ICANON);
  modes.c_cc[VMIN] = 1;
  modes.c_cc[VTIME] = 0;
  ::tcsetattr(STDIN_FILENO, TCSANOW, &modes);
}

TerminalModes::~TerminalModes() {
  give_back();
  for (const int number : {SIGTERM, SIGHUP, SIGQUIT, SIGTSTP}) ::signal(number, SIG_DFL);
}

void TerminalModes::edited_by_program(int screen) {
  saved.screen = screen;
  saved.paste = true;
  put_quietly(kPasteOn);
}

void TerminalModes::edited_by_terminal() {
  by_terminal_ = true;
  show_typing(true);
}

void TerminalModes::show_typing(bool show) {
  if (!by_terminal_) return;
  termios modes = before_;
  modes.c_iflag |= IUTF8;  // a character is erased whole
  modes.c_lflag |= ICANON;
  if (!show) modes.c_lflag &= ~static_cast<tcflag_t>(ECHO | ECHONL);
  ::tcsetattr(STDIN_FILENO, TCSANOW, &modes);
}

bool was_stopped() {
  const bool was = stopped != 0;
  stopped = 0;
  return was;
}

Screen::Screen(Signals& signals)
    : signals_(signals),
      terminal_(::isatty(STDOUT_FILENO) != 0),
      notes_terminal_(::isatty(STDERR_FILENO) != 0),
      styles_(shows_styles()) {}

bool Screen::put(std::string_view bytes) {
  while (!bytes.empty() && error_ == 0) {
    if (signals_.interrupted()) return false;
    pollfd wait[] = {{STDOUT_FILENO, POLLOUT, 0}, {signals_.fd(), POLLIN, 0}};
    if (::poll(wait, 2, -1) < 0 && errno != EINTR) error_ = errno;
    if (wait[0].revents == 0) continue;
    const ssize_t wrote = ::write(STDOUT_FILENO, bytes.data(), std::min(bytes.size(), kPiece));
    if (wrote > 0) bytes.remove_prefix(static_cast<size_t>(wrote));
    if (wrote < 0 && errno != EINTR && errno != EAGAIN) error_ = errno;
  }
  return error_ == 0;
}

bool Screen::style(bool dim) {
  if (!styles_ || !terminal_ || dim == dim_) return true;
  dim_ = dim;
  return put(dim ? kDim : kPlain);
}

bool Screen::answer(std::string_view text) {
  if (!style(false)) return false;
  if (thought_ && !put(line_start_ ? "\n" : "\n\n")) return false;
  thought_ = false;
  spoke_ = true;
  line_start_ = text.ends_with('\n');
  return put(terminal_ ? for_terminal(text) : std::string(text));
}

bool Screen::reasoning(std::string_view text) {
  if (!terminal_) return true;
  if (!style(true)) return false;
  if (!thought_ && !styles_ && !put("(thinking) ")) return false;
  thought_ = spoke_ = true;
  line_start_ = text.ends_with('\n');
  return put(for_terminal(text));
}

void Screen::end_answer() {
  signals_.take();
  const std::string end = std::string(dim_ ? kPlain : "") + (spoke_ && !line_start_ ? "\n" : "");
  // Also after Ctrl-C.
  if (!end.empty() && error_ == 0) write_within(STDOUT_FILENO, end, kNotePatience);
  dim_ = spoke_ = thought_ = false;
  line_start_ = true;
}

void Screen::note(std::string_view text, bool dim) {
  if (!line_start_) end_answer();
  std::string line = notes_terminal_ ? for_terminal(text) : std::string(text);
  if (dim && styles_ && notes_terminal_) line = std::string(kDim) + line + std::string(kPlain);
  write_within(STDERR_FILENO, line + "\n", kNotePatience);
}

bool Screen::closed() const { return error_ == EPIPE; }

std::string Screen::failure() const { return error_ == 0 ? "" : std::strerror(error_); }

}  // namespace shoal::chat
