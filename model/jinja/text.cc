#include "model/jinja/text.h"

#include <algorithm>

namespace shoal::jinja {
namespace {

char to_upper(char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c; }
char to_lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c & 0x80); }

}  // namespace

std::string strip(std::string_view text, std::string_view set, bool left, bool right) {
  if (left) {
    const size_t first = text.find_first_not_of(set);
    text.remove_prefix(first == std::string_view::npos ? text.size() : first);
  }
  if (right) text = text.substr(0, text.find_last_not_of(set) + 1);
  return std::string(text);
}

std::string upper(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), to_upper);
  return text;
}

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), to_lower);
  return text;
}

std::string capitalize(const std::string& text) {
  std::string out = lower(text);
  if (!out.empty()) out[0] = to_upper(out[0]);
  return out;
}

std::string title(const std::string& text) {
  std::string out = lower(text);
  bool start = true;
  for (char& c : out) {
    if (start) c = to_upper(c);
    start = !is_letter(c);
  }
  return out;
}

std::string replace_all(std::string_view text, std::string_view what, std::string_view with,
                        long long count) {
  std::string out;
  size_t pos = 0;
  for (; count != 0; --count) {
    const size_t found = text.find(what, pos);
    if (found == std::string_view::npos) break;
    out.append(text, pos, found - pos);
    out += with;
    pos = found + what.size();
  }
  return out.append(text, pos, std::string_view::npos);
}

std::vector<std::string> split_blanks(std::string_view text, long long max) {
  std::vector<std::string> out;
  for (size_t pos = text.find_first_not_of(kBlanks); pos != std::string_view::npos;) {
    if (max >= 0 && static_cast<long long>(out.size()) == max) {
      out.push_back(strip(text.substr(pos), kBlanks, false, true));
      break;
    }
    const size_t end = std::min(text.find_first_of(kBlanks, pos), text.size());
    out.emplace_back(text.substr(pos, end - pos));
    pos = text.find_first_not_of(kBlanks, end);
  }
  return out;
}

std::vector<std::string> split_on(std::string_view text, std::string_view separator, long long max,
                                  bool from_right) {
  std::vector<std::string> out;
  while (max < 0 || static_cast<long long>(out.size()) < max) {
    const size_t at = from_right ? text.rfind(separator) : text.find(separator);
    if (at == std::string_view::npos) break;
    if (from_right) {
      out.emplace_back(text.substr(at + separator.size()));
      text = text.substr(0, at);
    } else {
      out.emplace_back(text.substr(0, at));
      text.remove_prefix(at + separator.size());
    }
  }
  out.emplace_back(text);
  if (from_right) std::reverse(out.begin(), out.end());
  return out;
}

std::vector<std::string> split_lines(std::string_view text, bool keep_ends) {
  std::vector<std::string> out;
  for (size_t pos = 0; pos < text.size();) {
    size_t end = text.find_first_of("\r\n", pos);
    if (end == std::string_view::npos) end = text.size();
    size_t next = end + (end < text.size());
    if (end + 1 < text.size() && text[end] == '\r' && text[end + 1] == '\n') ++next;
    out.emplace_back(text.substr(pos, (keep_ends ? next : end) - pos));
    pos = next;
  }
  return out;
}

}  // namespace shoal::jinja
