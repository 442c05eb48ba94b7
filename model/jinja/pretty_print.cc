// The filter pprint: Python's pformat(), 80 characters wide.
#include <algorithm>
#include <vector>

#include "base/utf8.h"
#include "model/jinja/interpreter.h"
#include "model/jinja/text.h"
#include "model/jinja/unicode.h"
#include "model/jinja/word_wrap.h"

namespace shoal::jinja {
namespace {

constexpr int64_t kWidth = 80;
constexpr int kMaxValueDepth = 200;

class PrettyPrinter {
 public:
  explicit PrettyPrinter(Budget& budget) : budget_(budget), out_(budget) {}

  // `indent`: the column; `allowance`: characters that follow the value in its line.
  void print_value(const Value& value, int64_t indent, int64_t allowance, int level) {
    if (level > kMaxValueDepth) throw TemplateError("pprint: a value is nested too deeply");
    budget_.work(1);
    const Value shown = in_one_line(value);
    if (shown.text().length() <= kWidth - indent - allowance) return out_.append(shown.str());
    if (value.is_dict()) return print_dict(value, indent, allowance, level);
    if (value.is_string() && !value.is_markup()) return print_text(value, indent, allowance, level);
    if (!value.is_list()) return out_.append(shown.str());
    const bool tuple = value.list().tuple();
    const std::string_view close = !tuple ? "]" : value.items().size() == 1 ? ",)" : ")";
    out_.push(tuple ? '(' : '[');
    print_items(value.items(), indent + 1, allowance + static_cast<int64_t>(close.size()), level);
    out_.append(close);
  }
  Value take() { return out_.take(); }

 private:
  // repr(), with the keys of dicts in order.
  Value in_one_line(const Value& value) {
    TextBuilder text(budget_);
    print_repr(ordered(value, 0), &text);
    return text.take();
  }
  Value ordered(const Value& value, int depth) {
    if (depth > kMaxValueDepth) throw TemplateError("pprint: a value is nested too deeply");
    budget_.work(1);
    if (value.is_dict()) {
      const auto out = make_object<Dict>(budget_, 0);
      const Value entries = sorted_entries(value);
      for (const Value& entry : entries.items())
        out->add(entry.items()[0], ordered(entry.items()[1], depth + 1));
      return Value::dict(out);
    }
    if (!value.is_list()) return value;
    ListBuilder out(budget_);
    for (const Value& item : value.items()) out.add(ordered(item, depth + 1));
    return out.take(value.list().kind);
  }
  Value sorted_entries(const Value& dict) {
    std::vector<std::pair<Value, Value>> entries = dict.dict().entries;
    const Held held(budget_, 2 * entries.size() * sizeof(entries[0]));
    std::stable_sort(entries.begin(), entries.end(), [&](const auto& a, const auto& b) {
      const Value &x = a.first, &y = b.first;
      const bool comparable = (x.is_number() && y.is_number()) || (x.is_string() && y.is_string());
      if (comparable) return compare(budget_, x, y) < 0;
      return std::string_view(x.type_name()) < std::string_view(y.type_name());
    });
    ListBuilder out(budget_);
    for (const auto& [key, value] : entries) out.add(pair(budget_, key, value));
    return out.take();
  }

  void new_line(int64_t indent) {
    out_.push('\n');
    out_.append(static_cast<size_t>(indent), ' ');
  }
  void print_items(std::span<const Value> items, int64_t indent, int64_t allowance, int level) {
    for (size_t i = 0; i < items.size(); ++i) {
      if (i > 0) {
        out_.push(',');
        new_line(indent);
      }
      print_value(items[i], indent, i + 1 == items.size() ? allowance : 1, level + 1);
    }
  }
  void print_dict(const Value& dict, int64_t indent, int64_t allowance, int level) {
    out_.push('{');
    const Value entries = sorted_entries(dict);
    const std::span<const Value> all = entries.items();
    for (size_t i = 0; i < all.size(); ++i) {
      if (i > 0) {
        out_.push(',');
        new_line(indent + 1);
      }
      const Value key = in_one_line(all[i].items()[0]);
      out_.append(key.str());
      out_.append(": ");
      print_value(all[i].items()[1], indent + 3 + key.text().length(),
                  i + 1 == all.size() ? allowance + 1 : 1, level + 1);
    }
    out_.push('}');
  }

  // A long string: its lines, and words of lines that are too long, each as a literal.
  void print_text(const Value& text, int64_t indent, int64_t allowance, int level) {
    if (level == 1) ++indent, ++allowance;
    const Value lines = split_lines(budget_, text, true);
    ListBuilder chunks(budget_);
    const size_t n = lines.items().size();
    Value whole;
    for (size_t i = 0; i < n; ++i) {
      const Value& line = lines.items()[i];
      whole = in_one_line(line);
      const int64_t after = i + 1 == n ? allowance : 0;
      if (whole.text().length() <= kWidth - indent - after) {
        chunks.add(whole);
      } else {
        add_words(line, kWidth - indent, after, &chunks);
      }
    }
    const Value all = chunks.take();
    if (all.items().size() == 1) return out_.append(whole.str());
    if (level == 1) out_.push('(');
    for (size_t i = 0; i < all.items().size(); ++i) {
      if (i > 0) new_line(indent);
      out_.append(all.items()[i].str());
    }
    if (level == 1) out_.push(')');
  }
  void add_words(const Value& line, int64_t width, int64_t after, ListBuilder* chunks) {
    const std::string_view all = line.str();
    size_t begin = 0, end = 0;  // what goes into the next chunk
    while (end < all.size()) {
      size_t pos = end;
      bool blanks = false;
      while (pos < all.size()) {
        budget_.work(1);
        size_t behind = pos;
        const bool blank = is_blank(next_code_point(all, &behind));
        if (blanks && !blank) break;
        blanks = blank;
        pos = behind;
      }
      if (pos == all.size()) width -= after;
      const Value candidate = in_one_line(Value::part(line, all.substr(begin, pos - begin)));
      if (candidate.text().length() > width) {
        if (end > begin)
          chunks->add(in_one_line(Value::part(line, all.substr(begin, end - begin))));
        begin = end;
      }
      end = pos;
    }
    if (end > begin) chunks->add(in_one_line(Value::part(line, all.substr(begin, end - begin))));
  }

  Budget& budget_;
  TextBuilder out_;
};

}  // namespace

Value pretty_print(Interpreter& in, const Value& v, const Arguments&) {
  PrettyPrinter printer(in.budget());
  printer.print_value(v, 0, 0, 1);
  return printer.take();
}

}  // namespace shoal::jinja
