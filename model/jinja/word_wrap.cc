#include "model/jinja/word_wrap.h"

#include <algorithm>
#include <vector>

#include "base/utf8.h"
#include "model/jinja/text.h"
#include "model/jinja/unicode.h"

namespace shoal::jinja {
namespace {

constexpr uint64_t kUnitsPerCharacter = 4;

class Wrapper {
 public:
  Wrapper(Budget& budget, const Value& text, const WrapOptions& options)
      : budget_(budget), text_(text), options_(options), held_(budget), lines_(budget) {
    const std::string_view all = text.str();
    held_.set(static_cast<uint64_t>(text.text().length() + 1) *
              (sizeof(uint32_t) + 3 * sizeof(size_t)));
    for (size_t pos = 0; pos < all.size();) {
      budget_.work(kUnitsPerCharacter);
      offsets_.push_back(pos);
      characters_.push_back(next_code_point(all, &pos));
    }
    offsets_.push_back(all.size());
  }

  Value run() {
    if (options_.width <= 0) throw TemplateError("wordwrap: the width must be positive");
    cut();
    for (size_t i = 0; i < chunks_.size();) i = line(i);
    return lines_.take();
  }

 private:
  struct Chunk {
    size_t begin, end;
    size_t size() const { return end - begin; }
  };

  // textwrap's own idea of white space.
  static bool is_space(uint32_t c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
  bool in_range(size_t i) const { return i < characters_.size(); }
  bool is_word(size_t i) const {
    return in_range(i) && (characters_[i] == '_' || is_letter_or_number(characters_[i]));
  }
  bool is_word_letter(size_t i) const { return is_word(i) && decimal_value(characters_[i]) < 0; }
  bool is_word_or_mark(size_t i) const {
    constexpr std::u32string_view kMarks = U"!\"'&.,?";
    return is_word(i) || (in_range(i) && kMarks.find(static_cast<char32_t>(characters_[i])) !=
                                             std::u32string_view::npos);
  }
  bool is_hyphen(size_t i) const { return in_range(i) && characters_[i] == '-'; }
  // Two hyphens or more from i on, then a word: where that begins; else 0.
  size_t behind_dash(size_t i) const {
    size_t end = i;
    while (is_hyphen(end)) ++end;
    return end >= i + 2 && is_word(end) ? end : 0;
  }
  // May a line end behind the hyphen at i?
  bool splits_word(size_t i) const {
    if (!is_hyphen(i) || i < 2) return false;
    const bool before =
        (is_word_letter(i - 1) && is_word_letter(i - 2)) ||
        (i >= 3 && is_word_letter(i - 3) && is_hyphen(i - 2) && is_word_or_mark(i - 1));
    return before && is_word_letter(i + 1) &&
           (is_word_letter(i + 2) || (is_hyphen(i + 2) && is_word_letter(i + 3)));
  }

  void cut() {
    for (size_t i = 0; i < characters_.size();) {
      const size_t begin = i;
      const bool space = is_space(characters_[i]);
      if (space || !options_.break_on_hyphens) {
        while (in_range(i) && is_space(characters_[i]) == space) ++i;
      } else if (i > 0 && is_word_or_mark(i - 1) && behind_dash(i) > 0) {
        i = behind_dash(i);
      } else {
        i = end_of_word(i);
      }
      budget_.work(1);
      chunks_.push_back({begin, i});
    }
  }
  size_t end_of_word(size_t begin) const {
    for (size_t j = begin + 1;; ++j) {
      budget_.work(1);
      if (splits_word(j)) return j + 1;
      if (!in_range(j) || is_space(characters_[j])) return j;
      if (is_word_or_mark(j - 1) && is_hyphen(j) && behind_dash(j) > 0) return j;
    }
  }

  bool is_blank_chunk(const Chunk& chunk) const {
    return std::all_of(characters_.begin() + static_cast<std::ptrdiff_t>(chunk.begin),
                       characters_.begin() + static_cast<std::ptrdiff_t>(chunk.end), is_blank);
  }

  // Makes the line that begins with chunk i; the first chunk of the next.
  size_t line(size_t i) {
    budget_.work(1);
    const auto width = static_cast<size_t>(options_.width);
    if (lines_.size() > 0 && is_blank_chunk(chunks_[i])) ++i;
    const size_t first = i;
    size_t length = 0;
    while (i < chunks_.size() && length + chunks_[i].size() <= width) {
      budget_.work(1);
      length += chunks_[i++].size();
    }
    if (first >= chunks_.size()) return i;
    const size_t begin = chunks_[first].begin;
    size_t end = i > first ? chunks_[i - 1].end : begin;
    size_t last_begin = i > first ? chunks_[i - 1].begin : begin;
    if (i < chunks_.size() && chunks_[i].size() > width) {
      if (options_.break_long_words) {
        last_begin = chunks_[i].begin;
        end = last_begin + broken(chunks_[i], width - length);
        chunks_[i].begin = end;
      } else if (i == first) {
        last_begin = chunks_[i].begin;
        end = chunks_[i++].end;
      }
    }
    if (end > begin && is_blank_chunk({last_begin, end})) end = last_begin;
    if (end > begin) {
      const std::string_view all = text_.str();
      lines_.add(Value::part(text_, all.substr(offsets_[begin], offsets_[end] - offsets_[begin])));
    }
    return i;
  }
  // How much of a word that is too long goes into `room`: up to a hyphen if there is one.
  size_t broken(const Chunk& chunk, size_t room) const {
    if (!options_.break_on_hyphens) return room;
    for (size_t n = room; n-- > 1;) {
      if (!is_hyphen(chunk.begin + n)) continue;
      for (size_t k = 0; k < n; ++k) {
        if (!is_hyphen(chunk.begin + k)) return n + 1;
      }
      return room;
    }
    return room;
  }

  Budget& budget_;
  const Value& text_;
  const WrapOptions& options_;
  Held held_;
  std::vector<uint32_t> characters_;
  std::vector<size_t> offsets_;
  std::vector<Chunk> chunks_;
  ListBuilder lines_;
};

}  // namespace

Value wrap_words(Budget& budget, const Value& text, const WrapOptions& options) {
  return Wrapper(budget, text, options).run();
}

}  // namespace shoal::jinja
