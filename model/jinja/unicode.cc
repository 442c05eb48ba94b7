#include "model/jinja/unicode.h"

#include <algorithm>
#include <iterator>

#include <unicase.h>
#include <unictype.h>

namespace shoal::jinja {
namespace {

// Numbers among ideographs (Unihan's numeric fields): Python counts them, libunistring does not.
constexpr uint32_t kNumericIdeographs[] = {
    0x3405,  0x3483,  0x382a,  0x3b4d,  0x4e00,  0x4e03,  0x4e07,  0x4e09,  0x4e5d,
    0x4e8c,  0x4e94,  0x4e96,  0x4ebf,  0x4ec0,  0x4edf,  0x4ee8,  0x4f0d,  0x4f70,
    0x5104,  0x5146,  0x5169,  0x516b,  0x516d,  0x5341,  0x5343,  0x5344,  0x5345,
    0x534c,  0x53c1,  0x53c2,  0x53c3,  0x53c4,  0x56db,  0x58f1,  0x58f9,  0x5e7a,
    0x5efe,  0x5eff,  0x5f0c,  0x5f0d,  0x5f0e,  0x5f10,  0x62fe,  0x634c,  0x67d2,
    0x6f06,  0x7396,  0x767e,  0x8086,  0x842c,  0x8cae,  0x8cb3,  0x8d30,  0x9621,
    0x9646,  0x964c,  0x9678,  0x96f6,  0xf96b,  0xf973,  0xf978,  0xf9b2,  0xf9d1,
    0xf9d3,  0xf9fd,  0x20001, 0x20064, 0x200e2, 0x20121, 0x2092a, 0x20983, 0x2098c,
    0x2099c, 0x20aea, 0x20afd, 0x20b19, 0x22390, 0x22998, 0x23b1b, 0x2626d, 0x2f890};

bool has_category(uint32_t c, uint32_t mask) { return uc_is_general_category_withtable(c, mask); }

}  // namespace

size_t map_case(uint32_t c, Case to, uint32_t out[kMostMapped]) {
  if (c < 0x80) {
    const bool lower = c >= 'a' && c <= 'z', upper = c >= 'A' && c <= 'Z';
    const bool raise = to == Case::kUpper || to == Case::kTitle;
    out[0] = lower && raise ? c - 32 : upper && !raise ? c + 32 : c;
    return 1;
  }
  size_t n = kMostMapped;
  const auto convert = to == Case::kUpper   ? u32_toupper
                       : to == Case::kLower ? u32_tolower
                       : to == Case::kTitle ? u32_totitle
                                            : nullptr;
  const uint32_t* mapped = convert ? convert(&c, 1, nullptr, nullptr, out, &n)
                                   : u32_casefold(&c, 1, nullptr, nullptr, out, &n);
  if (mapped == out && n > 0) return n;
  if (mapped != out) ::free(const_cast<uint32_t*>(mapped));
  out[0] = c;
  return 1;
}

bool is_cased(uint32_t c) { return uc_is_property_cased(c); }
bool is_case_ignorable(uint32_t c) { return uc_is_property_case_ignorable(c); }
bool is_lower(uint32_t c) { return uc_is_property_lowercase(c); }
bool is_upper(uint32_t c) { return uc_is_property_uppercase(c); }
bool is_title(uint32_t c) { return has_category(c, UC_CATEGORY_MASK_Lt); }

bool is_blank(uint32_t c) {
  if (c < 0x80) return c == ' ' || (c >= '\t' && c <= '\r') || (c >= 0x1c && c <= 0x1f);
  return c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 ||
         c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

bool ends_line(uint32_t c) {
  return (c >= '\n' && c <= '\r') || (c >= 0x1c && c <= 0x1e) || c == 0x85 || c == 0x2028 ||
         c == 0x2029;
}

bool is_letter(uint32_t c) {
  if (c < 0x80) return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
  return has_category(c, UC_CATEGORY_MASK_L);
}

int decimal_value(uint32_t c) {
  if (c < 0x80) return c >= '0' && c <= '9' ? static_cast<int>(c - '0') : -1;
  return uc_decimal_value(c);
}

bool is_digit(uint32_t c) { return c < 0x80 ? c >= '0' && c <= '9' : uc_digit_value(c) >= 0; }

bool is_numeric(uint32_t c) {
  if (c < 0x80) return c >= '0' && c <= '9';
  return uc_numeric_value(c).denominator != 0 ||
         std::binary_search(std::begin(kNumericIdeographs), std::end(kNumericIdeographs), c);
}

bool is_printable(uint32_t c) {
  if (c < 0x80) return c >= ' ' && c < 0x7f;
  return !has_category(c, UC_CATEGORY_MASK_C | UC_CATEGORY_MASK_Z);
}

bool is_name_start(uint32_t c) { return c == '_' || uc_is_property_xid_start(c); }
bool is_name_part(uint32_t c) { return uc_is_property_xid_continue(c); }

}  // namespace shoal::jinja
