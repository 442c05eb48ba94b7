#include "model/jinja/arguments.h"

#include <algorithm>
#include <string>

namespace shoal::jinja {

void Arguments::unpack_items(const Value& items) {
  const Value all = iterate(budget(), items);
  held.add(sizeof(Value) * all.items().size());
  budget().work(all.items().size());
  positional.insert(positional.end(), all.items().begin(), all.items().end());
}

void Arguments::unpack_names(const Value& mapping) {
  if (!mapping.is_dict())
    throw TemplateError(std::string("after ** a mapping is needed, not ") + mapping.type_name());
  for (const auto& [key, value] : mapping.dict().entries) {
    if (!key.is_string()) throw TemplateError("after ** all keys must be strings");
    if (find(key.str()) != nullptr)
      throw TemplateError("the argument '" + excerpt(key.str()) + "' is given twice");
    held.add(sizeof(Value));
    names_.push_back(key);
    add(key.str(), value);
  }
}

const Value* Arguments::find(std::string_view name) const {
  budget().work(named.size() / 8);
  for (const auto& [key, value] : named) {
    if (key == name) return &value;
  }
  return nullptr;
}

Signature::Signature(const char* written) {
  std::string_view rest = written;
  while (!rest.empty()) {
    const size_t end = std::min(rest.find(','), rest.size());
    std::string_view name = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (!rest.empty()) rest.remove_prefix(1);  // the blank behind a comma
    if (name == "/") {
      positional_only_ = names_.size();
    } else if (name == "*") {
      more_ = true;
    } else if (name == "**") {
      more_names_ = true;
    } else if (name.ends_with('=')) {
      names_.push_back(name.substr(0, name.size() - 1));
    } else {
      names_.push_back(name);
      required_ = names_.size();
    }
  }
}

void Signature::check(std::string_view function, const Arguments& args) const {
  const auto fail = [&](const std::string& what) {
    throw TemplateError(std::string(function) + ": " + what);
  };
  if (args.positional.size() > names_.size() && !more_) {
    fail("takes at most " + std::to_string(names_.size()) + " arguments, not " +
         std::to_string(args.positional.size()));
  }
  args.budget().work(args.named.size() * (1 + names_.size() / 8));
  for (const auto& [name, value] : args.named) {
    const auto found = std::find(names_.begin() + static_cast<std::ptrdiff_t>(positional_only_),
                                 names_.end(), name);
    if (found == names_.end()) {
      if (!more_names_) fail("there is no argument '" + excerpt(name) + "'");
    } else if (static_cast<size_t>(found - names_.begin()) < args.positional.size()) {
      fail("the argument '" + excerpt(name) + "' is given twice");
    }
  }
  for (size_t i = args.positional.size(); i < required_; ++i) {
    if (i < positional_only_ || args.find(names_[i]) == nullptr)
      fail("the argument '" + std::string(names_[i]) + "' is missing");
  }
}

int64_t integer(const Value& value, std::string_view what) {
  if (!value.is_int() && !value.is_bool()) {
    throw TemplateError(std::string(what) + ": an integer is needed, not " + value.type_name() +
                        (value.is_undefined() ? " (" + value.undefined_text() + ")" : ""));
  }
  return value.as_int();
}

const Value& text(const Value& value, std::string_view what) {
  if (!value.is_string()) {
    throw TemplateError(std::string(what) + ": a string is needed, not " + value.type_name() +
                        (value.is_undefined() ? " (" + value.undefined_text() + ")" : ""));
  }
  return value;
}

}  // namespace shoal::jinja
