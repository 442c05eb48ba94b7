#include "cli/chat/line_reader.h"

#include <histedit.h>
#include <langinfo.h>
#include <unistd.h>

#include <algorithm>
#include <clocale>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include <fmt/format.h>
#include <fmt/xchar.h>

#include "base/console.h"
#include "base/utf8.h"
#include "cli/chat/keyboard.h"

namespace shoal::chat {
namespace {

// Bytes that follow a line end within so long were pasted with it; nobody types so fast.
constexpr int kPasteGapMs = 10;
// The rest of a character, or of a bracketed paste.
constexpr int kRestMs = 5000;
constexpr std::string_view kPasteEnd = "\x1b[201~";
constexpr int kKeptLines = 1000;
// libedit keeps the line that one leaves for an older one only so far (EL_BUFSIZ), and would bring
// back a part of it.
constexpr std::ptrdiff_t kLongestLeftLine = 1000;

// Whatever the locale is called: the terminal, the servers and this program speak UTF-8.
bool use_utf8() {
  std::setlocale(LC_CTYPE, "");
  if (std::strcmp(::nl_langinfo(CODESET), "UTF-8") == 0) return true;
  return std::setlocale(LC_CTYPE, "C.UTF-8") != nullptr &&
         std::strcmp(::nl_langinfo(CODESET), "UTF-8") == 0;
}

std::wstring wide(std::string_view text) {
  std::wstring out;
  for (size_t pos = 0; pos < text.size();) out += static_cast<wchar_t>(next_code_point(text, &pos));
  return out;
}

std::string narrow(std::wstring_view text) {
  std::string out;
  for (const wchar_t c : text) append_utf8(static_cast<uint32_t>(c), &out);
  return out;
}

// What a message may hold of what was pasted: no NUL, line ends as LF.
std::string cleaned(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\0') continue;
    if (text[i] != '\r') {
      out += text[i];
    } else if (i + 1 == text.size() || text[i + 1] != '\n') {
      out += '\n';
    }
  }
  return sanitize_utf8(out);
}

// ---- the terminal's own editing: erase a character, a word, the line

class PlainReader final : public LineReader {
 public:
  PlainReader(Signals& signals, int screen) : keyboard_(signals), screen_(screen) {}

  End read(std::string_view prompt, std::string* text) override {
    text->clear();
    keyboard_.begin_line();
    put(prompt);
    for (char byte = 0;;) {
      switch (keyboard_.next(&byte)) {
        case Keyboard::Event::kEnd:
          put("\n");
          *text = cleaned(*text);
          return text->empty() ? End::kEnd : End::kLine;
        case Keyboard::Event::kInterrupt:
          put("\n");
          return End::kInterrupt;
        case Keyboard::Event::kByte:
          if (byte != '\n') {
            if (text->size() < kMaxBytes) *text += byte;
            break;
          }
          if (keyboard_.was_old() || !keyboard_.more(kPasteGapMs)) {
            *text = cleaned(*text);
            return End::kLine;
          }
          *text += '\n';
          break;
        default:
          break;
      }
    }
  }
  void remember(const std::string&) override {}
  bool plain() const override { return true; }

 private:
  void put(std::string_view text) const { write_within(screen_, text, std::chrono::seconds(1)); }

  Keyboard keyboard_;
  const int screen_;
};

// ---- libedit

struct CloseFile {
  void operator()(FILE* file) const { std::fclose(file); }
};
using OwnedFile = std::unique_ptr<FILE, CloseFile>;

class EditReader final : public LineReader {
 public:
  EditReader(Signals& signals, std::vector<std::string> words)
      : keyboard_(signals), words_(std::move(words)) {}
  ~EditReader() override {
    if (edit_ != nullptr) ::el_end(edit_);
    if (history_ != nullptr) ::history_wend(history_);
  }

  // False: this terminal can only print.
  bool start(int screen);
  End read(std::string_view prompt, std::string* text) override;
  void remember(const std::string& entry) override {
    HistEventW event{};
    ::history_w(history_, &event, H_ENTER, wide(entry).c_str());
  }
  bool plain() const override { return false; }

 private:
  static EditReader& of(EditLine* edit) {
    void* self = nullptr;
    ::el_wget(edit, EL_CLIENTDATA, &self);
    return *static_cast<EditReader*>(self);
  }
  static int read_key(EditLine* edit, wchar_t* key) { return of(edit).next_key(key); }
  static wchar_t* prompt_of(EditLine* edit) { return of(edit).prompt_.data(); }
  static unsigned char on_interrupt(EditLine* edit, wint_t);
  static unsigned char on_newline(EditLine* edit, wint_t);
  static unsigned char on_paste(EditLine* edit, wint_t);
  static unsigned char on_tab(EditLine* edit, wint_t);
  static unsigned char on_older(EditLine* edit, wint_t);
  static unsigned char on_newer(EditLine* edit, wint_t);

  bool can_edit(const char* terminal);
  void bind_keys();
  void bind(const wchar_t* key, const wchar_t* function) {
    ::el_wset(edit_, EL_BIND, key, function, static_cast<wchar_t*>(nullptr));
  }
  int next_key(wchar_t* key);
  wchar_t line_end(char byte);
  wchar_t character(char lead);
  unsigned char insert(const std::wstring& text);
  unsigned char leave_line(const wchar_t* key);

  Keyboard keyboard_;
  const std::vector<std::string> words_;
  OwnedFile screen_, nowhere_;
  EditLine* edit_ = nullptr;
  HistoryW* history_ = nullptr;
  std::wstring prompt_;
  bool pasted_newline_ = false;  // the next key is the second half of the one that inserts it
  bool after_escape_ = false;    // a line end is the second half of Alt-Enter
  bool interrupted_ = false;
};

bool EditReader::start(int screen) {
  screen_.reset(::fdopen(::dup(screen), "w"));
  nowhere_.reset(std::fopen("/dev/null", "w"));
  if (screen_ == nullptr || nowhere_ == nullptr) return false;
  // It has opinions about terminals to tell.
  edit_ = ::el_init("shoal", stdin, screen_.get(), nowhere_.get());
  history_ = ::history_winit();
  if (edit_ == nullptr || history_ == nullptr) return false;
  ::el_wset(edit_, EL_CLIENTDATA, this);
  ::el_wset(edit_, EL_SIGNAL, 0);
  // One that nobody knows is most likely of xterm's family.
  if (!can_edit(nullptr) && !can_edit("xterm")) return false;
  HistEventW event{};
  ::history_w(history_, &event, H_SETSIZE, kKeptLines);
  ::history_w(history_, &event, H_SETUNIQUE, 1);
  ::el_wset(edit_, EL_HIST, history_w, history_);
  ::el_wset(edit_, EL_PROMPT, prompt_of);
  ::el_wset(edit_, EL_EDITOR, L"emacs");
  ::el_source(edit_, nullptr);  // ~/.editrc, for those who prefer vi
  bind_keys();
  // Line ends as they were typed or pasted.
  ::el_wset(edit_, EL_SETTY, L"-d", L"-icrnl", L"-inlcr", static_cast<wchar_t*>(nullptr));
  // Between lines the terminal stays as TerminalModes made it.
  ::el_wset(edit_, EL_SETTY, L"-x", L"-icrnl", L"-inlcr", L"-icanon", L"-echo", L"-echonl",
            static_cast<wchar_t*>(nullptr));
  ::el_wset(edit_, EL_GETCFN, read_key);
  return true;
}

bool EditReader::can_edit(const char* terminal) {
  if (terminal != nullptr) ::el_set(edit_, EL_TERMINAL, terminal);
  int editing = 0;
  const char* clears = nullptr;
  ::el_get(edit_, EL_EDITMODE, &editing);
  if (::el_get(edit_, EL_GETTC, "ce", &clears) != 0) return false;
  return editing != 0 && clears != nullptr && clears[0] != '\0';
}

void EditReader::bind_keys() {
  const auto add = [this](const wchar_t* name, unsigned char (*function)(EditLine*, wint_t)) {
    ::el_wset(edit_, EL_ADDFN, name, L"of shoal chat", function);
  };
  add(L"shoal-interrupt", on_interrupt);
  add(L"shoal-newline", on_newline);
  add(L"shoal-paste", on_paste);
  add(L"shoal-tab", on_tab);
  add(L"shoal-older", on_older);
  add(L"shoal-newer", on_newer);
  constexpr struct {
    const wchar_t *key, *function;
  } kKeys[] = {
      {L"^C", L"shoal-interrupt"},
      {L"\\e[200~", L"shoal-paste"},
      {L"\\e\\r", L"shoal-newline"},
      {L"\\e\\n", L"shoal-newline"},
      {L"^I", L"shoal-tab"},
      {L"^P", L"shoal-older"},
      {L"\\e[A", L"shoal-older"},
      {L"\\eOA", L"shoal-older"},
      {L"^N", L"shoal-newer"},
      {L"\\e[B", L"shoal-newer"},
      {L"\\eOB", L"shoal-newer"},
      {L"\\e[990~", L"ed-prev-history"},
      {L"\\e[991~", L"ed-next-history"},
      {L"\\e[992~", L"ed-newline"},
      {L"^R", L"em-inc-search-prev"},
      {L"\\e[3~", L"ed-delete-next-char"},
      {L"\\e[H", L"ed-move-to-beg"},
      {L"\\e[F", L"ed-move-to-end"},
      {L"\\eOH", L"ed-move-to-beg"},
      {L"\\eOF", L"ed-move-to-end"},
      {L"\\e[1~", L"ed-move-to-beg"},
      {L"\\e[4~", L"ed-move-to-end"},
      {L"\\e[7~", L"ed-move-to-beg"},
      {L"\\e[8~", L"ed-move-to-end"},
      {L"\\e[1;5C", L"em-next-word"},
      {L"\\e[1;5D", L"ed-prev-word"},
      {L"\\e[1;3C", L"em-next-word"},
      {L"\\e[1;3D", L"ed-prev-word"},
      {L"\\e[2~", L"ed-ignore"},
      {L"\\e[5~", L"ed-ignore"},
      {L"\\e[6~", L"ed-ignore"},
      {L"\\e[I", L"ed-ignore"},
      {L"\\e[O", L"ed-ignore"},
  };
  for (const auto& entry : kKeys) bind(entry.key, entry.function);
  for (int key = 11; key <= 24; ++key) bind(fmt::format(L"\\e[{}~", key).c_str(), L"ed-ignore");
}

LineReader::End EditReader::read(std::string_view prompt, std::string* text) {
  prompt_ = wide(prompt);
  keyboard_.begin_line();
  interrupted_ = pasted_newline_ = after_escape_ = false;
  int length = 0;
  const wchar_t* line = ::el_wgets(edit_, &length);
  std::fflush(screen_.get());
  if (line == nullptr || length <= 0) {
    std::fputs("\n", screen_.get());
    std::fflush(screen_.get());
    return End::kEnd;
  }
  std::wstring_view typed(line, static_cast<size_t>(length));
  if (!typed.empty() && typed.back() == L'\n') typed.remove_suffix(1);
  *text = narrow(typed);
  return interrupted_ ? End::kInterrupt : End::kLine;
}

int EditReader::next_key(wchar_t* key) {
  if (std::exchange(pasted_newline_, false)) {
    *key = L'\r';
    return 1;
  }
  for (char byte = 0;;) {
    switch (keyboard_.next(&byte)) {
      case Keyboard::Event::kByte:
        *key = byte == '\r' || byte == '\n' ? line_end(byte) : character(byte);
        after_escape_ = byte == '\x1b';
        return 1;
      case Keyboard::Event::kInterrupt:
        *key = L'\x03';
        return 1;
      case Keyboard::Event::kResize:
        ::el_resize(edit_);
        ::el_wset(edit_, EL_REFRESH);
        break;
      case Keyboard::Event::kRedraw:
        ::el_wset(edit_, EL_REFRESH);
        break;
      case Keyboard::Event::kEnd:
        return 0;
      case Keyboard::Event::kNothing:
        break;
    }
  }
}

// What was typed ahead of the prompt ends at each line end; of what comes at once afterwards a line
// end with more behind it was pasted.
wchar_t EditReader::line_end(char byte) {
  if (byte == '\r') keyboard_.skip('\n');
  if (after_escape_ || keyboard_.was_old() || !keyboard_.more(kPasteGapMs)) return L'\r';
  pasted_newline_ = true;
  return L'\x1b';
}

wchar_t EditReader::character(char lead) {
  std::string bytes(1, lead);
  while (complete_utf8_prefix(bytes) == 0) {
    char byte = 0;
    if (keyboard_.next(&byte, kRestMs) != Keyboard::Event::kByte) break;
    bytes += byte;
  }
  size_t pos = 0;
  return static_cast<wchar_t>(next_code_point(bytes, &pos));
}

unsigned char EditReader::insert(const std::wstring& text) {
  if (text.empty()) return CC_NORM;
  return ::el_winsertstr(edit_, text.c_str()) == 0 ? CC_REFRESH : CC_ERROR;
}

unsigned char EditReader::on_interrupt(EditLine* edit, wint_t) {
  EditReader& self = of(edit);
  self.interrupted_ = true;
  const LineInfoW* line = ::el_wline(edit);
  ::el_cursor(edit, static_cast<int>(line->lastchar - line->cursor));
  self.insert(L"^C");
  ::el_wpush(edit, L"\x1b[992~");
  return CC_REFRESH;
}

unsigned char EditReader::on_newline(EditLine* edit, wint_t) { return of(edit).insert(L"\n"); }

unsigned char EditReader::on_paste(EditLine* edit, wint_t) {
  EditReader& self = of(edit);
  std::string text;
  for (char byte = 0; !text.ends_with(kPasteEnd);) {
    const Keyboard::Event event = self.keyboard_.next(&byte, kRestMs);
    if (event == Keyboard::Event::kResize || event == Keyboard::Event::kRedraw) continue;
    if (event != Keyboard::Event::kByte) break;
    if (text.size() > kMaxBytes) text.erase(kMaxBytes / 2, kMaxBytes / 4);
    text += byte;
  }
  if (text.ends_with(kPasteEnd)) text.resize(text.size() - kPasteEnd.size());
  return self.insert(wide(cleaned(text)));
}

unsigned char EditReader::on_tab(EditLine* edit, wint_t) {
  EditReader& self = of(edit);
  const LineInfoW* line = ::el_wline(edit);
  const std::wstring_view typed(line->buffer, static_cast<size_t>(line->cursor - line->buffer));
  if (!typed.starts_with(L'/')) return self.insert(L"\t");
  std::wstring common;
  int found = 0;
  for (const std::string& word : self.words_) {
    const std::wstring candidate = wide(word);
    if (!candidate.starts_with(typed)) continue;
    if (found++ == 0) common = candidate;
    const auto differs =
        std::mismatch(common.begin(), common.end(), candidate.begin(), candidate.end());
    common.erase(differs.first, common.end());
  }
  if (found == 0) return CC_ERROR;
  std::wstring rest = common.substr(typed.size());
  if (found == 1) rest += L' ';
  return rest.empty() ? CC_ERROR : self.insert(rest);
}

unsigned char EditReader::leave_line(const wchar_t* key) {
  const LineInfoW* line = ::el_wline(edit_);
  if (line->lastchar - line->buffer > kLongestLeftLine) return CC_ERROR;
  ::el_wpush(edit_, key);
  return CC_NORM;
}

unsigned char EditReader::on_older(EditLine* edit, wint_t) {
  return of(edit).leave_line(L"\x1b[990~");
}

unsigned char EditReader::on_newer(EditLine* edit, wint_t) {
  return of(edit).leave_line(L"\x1b[991~");
}

bool is_plain_terminal() {
  const char* term = std::getenv("TERM");
  const std::string_view name = term == nullptr ? "" : term;
  return name.empty() || name == "dumb" || name == "unknown";
}

}  // namespace

std::unique_ptr<LineReader> LineReader::open(Signals& signals, int screen,
                                             std::vector<std::string> words) {
  if (!is_plain_terminal() && use_utf8()) {
    auto reader = std::make_unique<EditReader>(signals, std::move(words));
    if (reader->start(screen)) return reader;
  }
  return std::make_unique<PlainReader>(signals, screen);
}

}  // namespace shoal::chat
