// String helpers that filters and methods share. Positions are of characters where they are
// int64_t and of bytes where they are size_t. All charge what they read; parts are views.
#pragma once

#include <string>
#include <string_view>

#include "model/jinja/value.h"

namespace shoal::jinja {

// Where `what` first stands in `text`, or npos. Linear in both.
size_t find_text(Budget& budget, std::string_view text, std::string_view what);
// Where it last stands.
size_t find_last_text(Budget& budget, std::string_view text, std::string_view what);
int64_t count_text(Budget& budget, std::string_view text, std::string_view what);
int64_t character_count(Budget& budget, std::string_view text);
// The byte in `text`, a string, where its character `index` begins. REQUIRES index ≤ its length.
size_t offset_of(Budget& budget, const Value& text, int64_t index);
// Characters [from, to) of a string; copies nothing. REQUIRES 0 ≤ from ≤ to ≤ its length.
Value characters(Budget& budget, const Value& text, int64_t from, int64_t to);
// The whole character that ends before byte `end`.
uint32_t character_before(std::string_view text, size_t end, size_t* begin);

// Without blanks at its ends, or without the characters of `set`, a string.
std::string_view strip_blanks(Budget& budget, std::string_view text, bool left, bool right);
std::string_view strip(Budget& budget, std::string_view text, std::string_view set, bool left,
                       bool right);
// At most `count` times; count < 0: all. An empty `what` stands before every character and at the
// end.
Value replace_all(Budget& budget, const Value& text, std::string_view what, std::string_view with,
                  int64_t count);
// Lists of strings. `max`: of cuts; < 0: all.
Value split_blanks(Budget& budget, const Value& text, int64_t max, bool from_right);
Value split_on(Budget& budget, const Value& text, std::string_view separator, int64_t max,
               bool from_right);
Value split_lines(Budget& budget, const Value& text, bool keep_ends);
// As HTML: & < > ' ". What is Markup already stays; the result is Markup.
Value escape(Budget& budget, const Value& text);

// letters.cc: case and kinds of characters.
Value upper(Budget& budget, const Value& text);
Value lower(Budget& budget, const Value& text);
Value capitalize(Budget& budget, const Value& text);
Value title(Budget& budget, const Value& text);
Value swapcase(Budget& budget, const Value& text);
Value casefold(Budget& budget, const Value& text);
// The filter's rule: a word begins behind a blank or one of -({[<.
Value title_words(Budget& budget, const Value& text);
bool is_lower_text(Budget& budget, std::string_view text);
bool is_upper_text(Budget& budget, std::string_view text);
bool is_title_text(Budget& budget, std::string_view text);
bool is_identifier(Budget& budget, std::string_view text);
// Of every character; `empty`: the answer for "".
bool every_character(Budget& budget, std::string_view text, bool (*holds)(uint32_t), bool empty);

// numbers.cc: numbers in text, Python's int() and float().
inline constexpr size_t kLongestNumber = 400;  // characters; longer ones are no numbers
// none: not a number in that base (2 to 36; 0: as it is written). Error: beyond 64 bits.
std::optional<int64_t> read_integer(Budget& budget, std::string_view text, int64_t base);
std::optional<double> read_float(Budget& budget, std::string_view text);

}  // namespace shoal::jinja
