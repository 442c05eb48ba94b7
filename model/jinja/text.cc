#include "model/jinja/text.h"

#include <algorithm>
#include <bitset>
#include <cstring>
#include <vector>

#include "base/utf8.h"
#include "model/jinja/unicode.h"

namespace shoal::jinja {
namespace {

// Past the blanks from byte `pos` on, or past what is none.
size_t skip(Budget& budget, std::string_view text, size_t pos, bool blanks) {
  while (pos < text.size()) {
    budget.work(1);
    size_t after = pos;
    if (is_blank(next_code_point(text, &after)) != blanks) break;
    pos = after;
  }
  return pos;
}

// The same backwards from before `end`.
size_t skip_back(Budget& budget, std::string_view text, size_t end, bool blanks) {
  while (end > 0) {
    budget.work(1);
    size_t begin = 0;
    if (is_blank(character_before(text, end, &begin)) != blanks) break;
    end = begin;
  }
  return end;
}

template <class F>  // bool(uint32_t): does it go?
std::string_view stripped(Budget& budget, std::string_view text, bool left, bool right, F goes) {
  while (left && !text.empty()) {
    budget.work(1);
    size_t after = 0;
    if (!goes(next_code_point(text, &after))) break;
    text.remove_prefix(after);
  }
  while (right && !text.empty()) {
    budget.work(1);
    size_t begin = 0;
    if (!goes(character_before(text, text.size(), &begin))) break;
    text = text.substr(0, begin);
  }
  return text;
}

}  // namespace

size_t find_text(Budget& budget, std::string_view text, std::string_view what) {
  if (what.empty()) return 0;
  budget.bytes(what.size());
  // memmem is linear, but may look at all of a long text: in pieces that overlap by what is sought.
  const size_t piece = std::max<size_t>(size_t{1} << 16, 2 * what.size());
  for (size_t begin = 0; begin < text.size() && text.size() - begin >= what.size();) {
    const size_t n = std::min(piece, text.size() - begin);
    const void* at = ::memmem(text.data() + begin, n, what.data(), what.size());
    const size_t looked =
        at ? static_cast<size_t>(static_cast<const char*>(at) - (text.data() + begin)) : n;
    budget.bytes(looked);
    if (at != nullptr) return begin + looked;
    if (n == text.size() - begin) break;
    begin += n - what.size() + 1;
  }
  return std::string_view::npos;
}

size_t find_last_text(Budget& budget, std::string_view text, std::string_view what) {
  if (what.size() > text.size()) return std::string_view::npos;
  if (what.empty()) return text.size();
  // Knuth, Morris and Pratt, from the end to the beginning.
  const size_t m = what.size();
  budget.work(m);
  const Held held(budget, m * sizeof(uint32_t));
  std::vector<uint32_t> border(m, 0);
  const auto wanted = [&](size_t i) { return what[m - 1 - i]; };
  for (size_t i = 1, k = 0; i < m; ++i) {
    while (k > 0 && wanted(i) != wanted(k)) k = border[k - 1];
    if (wanted(i) == wanted(k)) ++k;
    border[i] = static_cast<uint32_t>(k);
  }
  size_t matched = 0;
  for (size_t at = text.size(); at-- > 0;) {
    if (at % 1024 == 0) budget.work(512);
    while (matched > 0 && text[at] != wanted(matched)) matched = border[matched - 1];
    if (text[at] == wanted(matched)) ++matched;
    if (matched == m) return at;
  }
  return std::string_view::npos;
}

int64_t count_text(Budget& budget, std::string_view text, std::string_view what) {
  if (what.empty()) return character_count(budget, text) + 1;
  for (int64_t count = 0;; ++count) {
    const size_t at = find_text(budget, text, what);
    if (at == std::string_view::npos) return count;
    text.remove_prefix(at + what.size());
  }
}

int64_t character_count(Budget& budget, std::string_view text) {
  int64_t count = 0;
  for (size_t pos = 0; pos < text.size(); ++count) {
    if (count % 1024 == 0) budget.work(512);
    (void)next_code_point(text, &pos);
  }
  return count;
}

size_t offset_of(Budget& budget, const Value& text, int64_t index) {
  if (text.text().one_byte_each()) return static_cast<size_t>(index);
  const std::string_view all = text.str();
  size_t pos = 0;
  for (int64_t i = 0; i < index; ++i) {
    if (i % 1024 == 0) budget.work(512);
    (void)next_code_point(all, &pos);
  }
  return pos;
}

Value characters(Budget& budget, const Value& text, int64_t from, int64_t to) {
  const size_t begin = offset_of(budget, text, from), end = offset_of(budget, text, to);
  return Value::part(text, text.str().substr(begin, end - begin));
}

uint32_t character_before(std::string_view text, size_t end, size_t* begin) {
  constexpr size_t kLongest = 4;
  for (size_t n = 1; n <= std::min(end, kLongest); ++n) {
    *begin = end - n;
    if ((static_cast<unsigned char>(text[*begin]) & 0xc0) == 0x80) continue;
    size_t pos = *begin;
    const uint32_t c = next_code_point(text.substr(0, end), &pos);
    if (pos == end) return c;
    break;
  }
  *begin = end - 1;  // an invalid byte
  return 0xfffd;
}

std::string_view strip_blanks(Budget& budget, std::string_view text, bool left, bool right) {
  return stripped(budget, text, left, right, is_blank);
}

std::string_view strip(Budget& budget, std::string_view text, std::string_view set, bool left,
                       bool right) {
  budget.bytes(8 * set.size());
  const Held held(budget, set.size() * sizeof(uint32_t));
  std::bitset<128> ascii;
  std::vector<uint32_t> others;
  for (size_t pos = 0; pos < set.size();) {
    const uint32_t c = next_code_point(set, &pos);
    if (c < 128) {
      ascii.set(c);
    } else {
      others.push_back(c);
    }
  }
  std::sort(others.begin(), others.end());
  return stripped(budget, text, left, right, [&](uint32_t c) {
    return c < 128 ? ascii[c] : std::binary_search(others.begin(), others.end(), c);
  });
}

// `with` before every character and at the end.
static Value interleaved(Budget& budget, const Value& text, std::string_view with, int64_t count) {
  const std::string_view all = text.str();
  TextBuilder out(budget);
  size_t pos = 0;
  for (; count != 0 && pos < all.size(); --count) {
    budget.work(1);
    out.append(with);
    const size_t begin = pos;
    (void)next_code_point(all, &pos);
    out.append(all.substr(begin, pos - begin));
  }
  if (count != 0) out.append(with);
  out.append(all.substr(pos));
  return out.take();
}

Value replace_all(Budget& budget, const Value& text, std::string_view what, std::string_view with,
                  int64_t count) {
  if (what.empty()) return interleaved(budget, text, with, count);
  std::string_view rest = text.str();
  TextBuilder out(budget);
  for (; count != 0; --count) {
    const size_t found = find_text(budget, rest, what);
    if (found == std::string_view::npos) break;
    out.append(rest.substr(0, found));
    out.append(with);
    rest.remove_prefix(found + what.size());
  }
  if (rest.size() == text.str().size()) return text;
  out.append(rest);
  return out.take();
}

static Value split_blanks_from_right(Budget& budget, const Value& text, int64_t max) {
  const std::string_view all = text.str();
  ListBuilder out(budget);
  for (size_t end = skip_back(budget, all, all.size(), true); end > 0;) {
    if (max >= 0 && static_cast<int64_t>(out.size()) == max) {
      out.add(Value::part(text, strip_blanks(budget, all.substr(0, end), true, false)));
      break;
    }
    const size_t begin = skip_back(budget, all, end, false);
    out.add(Value::part(text, all.substr(begin, end - begin)));
    end = skip_back(budget, all, begin, true);
  }
  return reversed(budget, out.take());
}

Value split_blanks(Budget& budget, const Value& text, int64_t max, bool from_right) {
  if (from_right && max >= 0) return split_blanks_from_right(budget, text, max);
  const std::string_view all = text.str();
  ListBuilder out(budget);
  for (size_t pos = skip(budget, all, 0, true); pos < all.size();) {
    if (max >= 0 && static_cast<int64_t>(out.size()) == max) {
      out.add(Value::part(text, strip_blanks(budget, all.substr(pos), false, true)));
      break;
    }
    const size_t end = skip(budget, all, pos, false);
    out.add(Value::part(text, all.substr(pos, end - pos)));
    pos = skip(budget, all, end, true);
  }
  return out.take();
}

Value split_on(Budget& budget, const Value& text, std::string_view separator, int64_t max,
               bool from_right) {
  std::string_view rest = text.str();
  ListBuilder out(budget);
  while (max < 0 || static_cast<int64_t>(out.size()) < max) {
    const size_t at =
        from_right ? find_last_text(budget, rest, separator) : find_text(budget, rest, separator);
    if (at == std::string_view::npos) break;
    if (from_right) {
      out.add(Value::part(text, rest.substr(at + separator.size())));
      rest = rest.substr(0, at);
    } else {
      out.add(Value::part(text, rest.substr(0, at)));
      rest.remove_prefix(at + separator.size());
    }
  }
  out.add(Value::part(text, rest));
  const Value parts = out.take();
  return from_right ? reversed(budget, parts) : parts;
}

Value split_lines(Budget& budget, const Value& text, bool keep_ends) {
  const std::string_view all = text.str();
  ListBuilder out(budget);
  for (size_t begin = 0; begin < all.size();) {
    size_t end = begin, next = begin;
    while (end < all.size()) {
      budget.work(1);
      const uint32_t c = next_code_point(all, &next);
      if (ends_line(c)) {
        if (c == '\r' && next < all.size() && all[next] == '\n') ++next;
        break;
      }
      end = next;
    }
    out.add(Value::part(text, all.substr(begin, (keep_ends ? next : end) - begin)));
    begin = next;
  }
  return out.take();
}

Value escape(Budget& budget, const Value& text) {
  if (text.is_markup()) return text;
  TextBuilder out(budget);
  for (std::string_view rest = text.str(); !rest.empty();) {
    const size_t plain = std::min(rest.find_first_of("&<>'\""), rest.size());
    out.append(rest.substr(0, plain));
    budget.bytes(4 * plain);
    rest.remove_prefix(plain);
    if (rest.empty()) break;
    const char c = rest.front();
    out.append(c == '&'    ? "&amp;"
               : c == '<'  ? "&lt;"
               : c == '>'  ? "&gt;"
               : c == '\'' ? "&#39;"
                           : "&#34;");
    rest.remove_prefix(1);
  }
  return out.take(true);
}

}  // namespace shoal::jinja
