#include "model/jinja/text.h"

#include <algorithm>
#include <bitset>
#include <cstring>
#include <vector>

#include "base/utf8.h"

namespace shoal::jinja {
namespace {

char to_upper(char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c; }
char to_lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c & 0x80); }

bool is_blank(char c) { return kBlanks.find(c) != std::string_view::npos; }
bool is_not_blank(char c) { return !is_blank(c); }
bool ends_line(char c) { return c == '\r' || c == '\n'; }

// The first place from `pos` on where `stop` holds, or the end.
size_t scan(Budget& budget, std::string_view text, size_t pos, bool (*stop)(char)) {
  for (; pos < text.size() && !stop(text[pos]); ++pos) {
    if (pos % 1024 == 0) budget.work(512);
  }
  return pos;
}

// A new string of the same length, made in pieces so that a long one can be stopped.
template <class F>
Value transformed(Budget& budget, const Value& text, F convert) {
  constexpr size_t kPiece = 4096;
  TextBuilder out(budget);
  char piece[kPiece];
  for (std::string_view rest = text.str(); !rest.empty();) {
    const size_t n = std::min(rest.size(), kPiece);
    budget.bytes(8 * n);
    std::transform(rest.begin(), rest.begin() + static_cast<std::ptrdiff_t>(n), piece, convert);
    out.append({piece, n});
    rest.remove_prefix(n);
  }
  return out.take();
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

int64_t character_count(Budget& budget, std::string_view text) {
  int64_t count = 0;
  for (size_t pos = 0; pos < text.size(); ++count) {
    if (count % 1024 == 0) budget.work(512);
    (void)next_code_point(text, &pos);
  }
  return count;
}

std::string_view strip(Budget& budget, std::string_view text, std::string_view set, bool left,
                       bool right) {
  const size_t before = text.size();
  budget.bytes(set.size());
  std::bitset<256> stripped;
  for (const char c : set) stripped.set(static_cast<unsigned char>(c));
  const auto goes = [&](char c) { return stripped[static_cast<unsigned char>(c)]; };
  while (left && !text.empty() && goes(text.front())) text.remove_prefix(1);
  while (right && !text.empty() && goes(text.back())) text.remove_suffix(1);
  budget.bytes(8 * (before - text.size()));
  return text;
}

Value upper(Budget& budget, const Value& text) { return transformed(budget, text, to_upper); }
Value lower(Budget& budget, const Value& text) { return transformed(budget, text, to_lower); }

Value capitalize(Budget& budget, const Value& text) {
  bool start = true;
  return transformed(budget, text, [&start](char c) {
    return std::exchange(start, false) ? to_upper(c) : to_lower(c);
  });
}

Value title(Budget& budget, const Value& text) {
  bool start = true;
  return transformed(budget, text, [&start](char c) {
    const char out = start ? to_upper(c) : to_lower(c);
    start = !is_letter(out);
    return out;
  });
}

Value replace_all(Budget& budget, const Value& text, std::string_view what, std::string_view with,
                  int64_t count) {
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

Value split_blanks(Budget& budget, const Value& text, int64_t max) {
  const std::string_view all = text.str();
  ListBuilder out(budget);
  for (size_t pos = scan(budget, all, 0, is_not_blank); pos < all.size();) {
    if (max >= 0 && static_cast<int64_t>(out.size()) == max) {
      out.add(Value::part(text, strip(budget, all.substr(pos), kBlanks, false, true)));
      break;
    }
    const size_t end = scan(budget, all, pos, is_blank);
    out.add(Value::part(text, all.substr(pos, end - pos)));
    pos = scan(budget, all, end, is_not_blank);
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
  for (size_t pos = 0; pos < all.size();) {
    const size_t end = scan(budget, all, pos, ends_line);
    size_t next = end + (end < all.size());
    if (end + 1 < all.size() && all[end] == '\r' && all[end + 1] == '\n') ++next;
    out.add(Value::part(text, all.substr(pos, (keep_ends ? next : end) - pos)));
    pos = next;
  }
  return out.take();
}

}  // namespace shoal::jinja
