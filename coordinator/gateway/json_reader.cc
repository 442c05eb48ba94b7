#include "coordinator/gateway/json_reader.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "base/quote.h"

namespace shoal::gateway {
namespace {

// Objects up to this many keys are searched linearly for a duplicate; larger ones get a hash set.
constexpr size_t kLinearKeys = 16;

class Builder final : public nlohmann::json_sax<Json> {
 public:
  explicit Builder(const JsonLimits& limits) : limits_(limits) {}
  ~Builder() override { dismantle(&root_); }

  Json take() { return std::move(root_); }
  const std::string& error() const { return error_; }

  bool null() override { return add(Json(nullptr)); }
  bool boolean(bool value) override { return add(Json(value)); }
  bool number_integer(number_integer_t value) override { return add(Json(value)); }
  bool number_unsigned(number_unsigned_t value) override { return add(Json(value)); }
  bool number_float(number_float_t value, const string_t&) override { return add(Json(value)); }
  bool string(string_t& value) override { return add(Json(std::move(value))); }
  bool binary(binary_t&) override { return fail("binary data"); }

  bool start_object(std::size_t) override { return open(Json::object()); }
  bool end_object() override { return close(); }
  bool start_array(std::size_t) override { return open(Json::array()); }
  bool end_array() override { return close(); }

  bool key(string_t& name) override {
    Level& level = levels_.back();
    const auto& object = level.value->get_ref<const Json::object_t&>();
    if (object.size() < kLinearKeys) {
      for (const auto& [other, unused] : object) {
        if (other == name) return duplicate(name);
      }
    } else {
      if (level.keys.empty()) {
        for (const auto& [other, unused] : object) level.keys.insert(other);
      }
      if (!level.keys.insert(name).second) return duplicate(name);
    }
    level.key = std::move(name);
    return true;
  }

  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception& error) override {
    // The library's text ends with what it read last, which may be the whole body.
    std::string_view what = error.what();
    if (const size_t at = what.find(": "); at != what.npos) what.remove_prefix(at + 2);
    if (const size_t at = what.find("; last read"); at != what.npos) what = what.substr(0, at);
    error_ = fmt::format("at byte {}: {}", position, excerpt(what));
    return false;
  }

 private:
  struct Level {
    Json* value = nullptr;  // lives in its parent, which grows only after this level is closed
    std::string key;
    std::unordered_set<std::string> keys;  // only for large objects
  };

  bool fail(std::string message) {
    error_ = std::move(message);
    return false;
  }
  bool duplicate(const std::string& name) {
    return fail(fmt::format("the key {} appears twice in one object", in_quotes(name)));
  }

  Json* place(Json value) {
    if (levels_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    Level& level = levels_.back();
    if (level.value->is_array()) {
      auto& array = level.value->get_ref<Json::array_t&>();
      return &array.emplace_back(std::move(value));
    }
    // Not ordered_json's emplace, which searches all keys again.
    auto& object = level.value->get_ref<Json::object_t&>();
    static_cast<Json::object_t::Container&>(object).emplace_back(std::move(level.key),
                                                                 std::move(value));
    return &object.back().second;
  }

  bool add(Json value) {
    if (++values_ > limits_.values) {
      return fail(fmt::format("more than {} values", limits_.values));
    }
    place(std::move(value));
    return true;
  }

  bool open(Json value) {
    if (levels_.size() >= limits_.depth) {
      return fail(fmt::format("nested deeper than {} levels", limits_.depth));
    }
    if (++containers_ > limits_.containers) {
      return fail(fmt::format("more than {} arrays and objects", limits_.containers));
    }
    Json* placed = place(std::move(value));
    levels_.push_back({placed, {}, {}});
    return true;
  }

  bool close() {
    levels_.pop_back();
    return true;
  }

  const JsonLimits limits_;
  Json root_;
  std::vector<Level> levels_;
  size_t containers_ = 0;
  size_t values_ = 0;
  std::string error_;
};

}  // namespace

void dismantle(Json* value) noexcept {  // depth is bounded by the parser
  if (auto* array = value->get_ptr<Json::array_t*>()) {
    for (Json& element : *array) dismantle(&element);
    array->clear();
  } else if (auto* object = value->get_ptr<Json::object_t*>()) {
    for (auto& [key, element] : *object) dismantle(&element);
    object->clear();
  }
}

std::shared_ptr<const Json> share_json(Json value) {
  return {new Json(std::move(value)), [](Json* owned) {
            dismantle(owned);
            delete owned;
          }};
}

Result<Json> parse_json(std::string_view text, const JsonLimits& limits) {
  Builder builder(limits);
  if (!Json::sax_parse(text.begin(), text.end(), &builder)) {
    return invalid_argument("the body is not acceptable JSON: " + builder.error());
  }
  return builder.take();
}

}  // namespace shoal::gateway
