// Case of strings and the kinds of their characters, by Python's rules.
#include <algorithm>
#include <utility>

#include "base/utf8.h"
#include "model/jinja/text.h"
#include "model/jinja/unicode.h"

namespace shoal::jinja {
namespace {

constexpr uint32_t kCapitalSigma = 0x3a3, kSigma = 0x3c3, kFinalSigma = 0x3c2;
constexpr uint64_t kMappingUnits = 8;  // work to look a character up and map it

bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return (c & 0x80) == 0; });
}

// Goes through a string; makes the new one.
class CaseMapper {
 public:
  CaseMapper(Budget& budget, std::string_view text) : budget_(budget), text_(text), out_(budget) {}

  // The next character; false at the end. What stood before it is known to lower().
  bool next() {
    if (started_) {
      if (!is_case_ignorable(c_)) cased_before_ = is_cased(c_);
    }
    started_ = true;
    if (pos_ >= text_.size()) return false;
    budget_.work(kMappingUnits);
    c_ = next_code_point(text_, &pos_);
    return true;
  }
  uint32_t character() const { return c_; }
  void keep() { out_.push_character(c_); }
  void map(Case to) {
    if (to == Case::kLower && c_ == kCapitalSigma) {
      out_.push_character(cased_before_ && !cased_behind() ? kFinalSigma : kSigma);
      return;
    }
    uint32_t mapped[kMostMapped];
    const size_t n = map_case(c_, to, mapped);
    for (size_t i = 0; i < n; ++i) out_.push_character(mapped[i]);
  }
  // What comes is another text to the rule of the final sigma.
  void forget() { cased_before_ = started_ = false; }
  Value take() { return out_.take(); }

 private:
  bool cased_behind() {
    for (size_t pos = pos_; pos < text_.size();) {
      budget_.work(kMappingUnits);
      const uint32_t c = next_code_point(text_, &pos);
      if (!is_case_ignorable(c)) return is_cased(c);
    }
    return false;
  }

  Budget& budget_;
  const std::string_view text_;
  TextBuilder out_;
  size_t pos_ = 0;
  uint32_t c_ = 0;
  bool started_ = false;
  bool cased_before_ = false;
};

template <Case kTo>
Value mapped(Budget& budget, const Value& text) {
  constexpr size_t kPiece = 4096;
  const std::string_view all = text.str();
  budget.bytes(all.size());
  if (!is_ascii(all)) {
    CaseMapper out(budget, all);
    while (out.next()) out.map(kTo);
    return out.take();
  }
  // In pieces, so that a long one can be stopped.
  TextBuilder out(budget);
  char piece[kPiece];
  for (std::string_view rest = all; !rest.empty();) {
    const size_t n = std::min(rest.size(), kPiece);
    budget.bytes(8 * n);
    std::transform(rest.begin(), rest.begin() + static_cast<std::ptrdiff_t>(n), piece, [](char c) {
      uint32_t one[kMostMapped];
      map_case(static_cast<unsigned char>(c), kTo, one);
      return static_cast<char>(one[0]);
    });
    out.append({piece, n});
    rest.remove_prefix(n);
  }
  return out.take();
}

bool begins_word(uint32_t c) {
  return c == '-' || c == '(' || c == '{' || c == '[' || c == '<' || is_blank(c);
}

}  // namespace

Value upper(Budget& budget, const Value& text) { return mapped<Case::kUpper>(budget, text); }
Value lower(Budget& budget, const Value& text) { return mapped<Case::kLower>(budget, text); }
Value casefold(Budget& budget, const Value& text) { return mapped<Case::kFold>(budget, text); }

Value capitalize(Budget& budget, const Value& text) {
  CaseMapper out(budget, text.str());
  for (bool first = true; out.next(); first = false) out.map(first ? Case::kTitle : Case::kLower);
  return out.take();
}

Value title(Budget& budget, const Value& text) {
  CaseMapper out(budget, text.str());
  for (bool inside = false; out.next(); inside = is_cased(out.character()))
    out.map(inside ? Case::kLower : Case::kTitle);
  return out.take();
}

Value swapcase(Budget& budget, const Value& text) {
  CaseMapper out(budget, text.str());
  while (out.next()) {
    const uint32_t c = out.character();
    if (is_upper(c)) {
      out.map(Case::kLower);
    } else if (is_lower(c)) {
      out.map(Case::kUpper);
    } else {
      out.keep();
    }
  }
  return out.take();
}

Value title_words(Budget& budget, const Value& text) {
  const std::string_view all = text.str();
  TextBuilder out(budget);
  // Words and what stands between them are converted one by one: the rule of the final sigma must
  // not see across.
  for (size_t begin = 0; begin < all.size();) {
    size_t pos = begin;
    const uint32_t first = next_code_point(all, &pos);
    const bool between = begins_word(first);
    const size_t second = pos;
    while (pos < all.size()) {
      budget.work(1);
      size_t after = pos;
      if (begins_word(next_code_point(all, &after)) != between) break;
      pos = after;
    }
    CaseMapper head(budget, all.substr(begin, second - begin));
    head.next();
    head.map(Case::kUpper);
    out.append(head.take().str());
    out.append(lower(budget, Value::part(text, all.substr(second, pos - second))).str());
    begin = pos;
  }
  return out.take();
}

bool is_lower_text(Budget& budget, std::string_view text) {
  bool any = false;
  for (size_t pos = 0; pos < text.size();) {
    budget.work(1);
    const uint32_t c = next_code_point(text, &pos);
    if (is_upper(c) || is_title(c)) return false;
    any = any || is_lower(c);
  }
  return any;
}

bool is_upper_text(Budget& budget, std::string_view text) {
  bool any = false;
  for (size_t pos = 0; pos < text.size();) {
    budget.work(1);
    const uint32_t c = next_code_point(text, &pos);
    if (is_lower(c) || is_title(c)) return false;
    any = any || is_upper(c);
  }
  return any;
}

bool is_title_text(Budget& budget, std::string_view text) {
  bool any = false, inside = false;
  for (size_t pos = 0; pos < text.size();) {
    budget.work(1);
    const uint32_t c = next_code_point(text, &pos);
    const bool starts = is_upper(c) || is_title(c), goes_on = !starts && is_lower(c);
    if ((starts && inside) || (goes_on && !inside)) return false;
    inside = starts || goes_on;
    any = any || inside;
  }
  return any;
}

bool is_identifier(Budget& budget, std::string_view text) {
  for (size_t pos = 0; pos < text.size();) {
    const bool first = pos == 0;
    budget.work(1);
    const uint32_t c = next_code_point(text, &pos);
    if (!(first ? is_name_start(c) : is_name_part(c))) return false;
  }
  return !text.empty();
}

bool every_character(Budget& budget, std::string_view text, bool (*holds)(uint32_t), bool empty) {
  if (text.empty()) return empty;
  for (size_t pos = 0; pos < text.size();) {
    budget.work(1);
    if (!holds(next_code_point(text, &pos))) return false;
  }
  return true;
}

}  // namespace shoal::jinja
