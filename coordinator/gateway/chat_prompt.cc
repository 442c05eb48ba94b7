#include "coordinator/gateway/chat_prompt.h"

#include <algorithm>
#include <bitset>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/utf8.h"

namespace shoal::gateway {

void ControlTexts::Trie::insert(std::string_view text, bool marks_end) {
  uint32_t node = 0;
  for (const char byte : text) {
    uint32_t next = child(node, byte);
    if (next == 0) {
      next = static_cast<uint32_t>(nodes_.size());
      const auto label = static_cast<unsigned char>(byte);
      if (node == 0) {
        first_[label] = next;
      } else {
        nodes_[node].next.emplace_back(label, next);
      }
      nodes_.emplace_back();
    }
    node = next;
  }
  nodes_[node].end |= marks_end;
}

uint32_t ControlTexts::Trie::child(uint32_t node, char byte) const {
  const auto wanted = static_cast<unsigned char>(byte);
  if (node == 0) return first_[wanted];
  for (const auto& [label, next] : nodes_[node].next) {
    if (label == wanted) return next;
  }
  return 0;
}

ControlTexts::ControlTexts(const std::vector<std::string>& texts) {
  for (const std::string& text : texts) {
    if (text.empty()) continue;
    longest_ = std::max(longest_, text.size());
    texts_.insert(text, true);
    for (size_t i = 0; i < text.size(); ++i)
      substrings_.insert(std::string_view(text).substr(i), i > 0);
  }
}

std::vector<size_t> ControlTexts::inner_breaks(std::string_view text) const {
  std::vector<size_t> breaks;
  for (size_t begin = 0; begin < text.size(); ++begin) {
    uint32_t node = 0;
    for (size_t i = begin; i < text.size(); ++i) {
      node = texts_.child(node, text[i]);
      if (node == 0) break;
      if (!texts_.ends(node)) continue;
      size_t after_first = begin;
      next_code_point(text, &after_first);
      breaks.push_back(after_first);
      break;
    }
  }
  return breaks;
}

bool ControlTexts::joins(std::string_view text) const {
  if (text.empty()) return false;
  const size_t reach = std::min(text.size(), longest_ > 0 ? longest_ - 1 : 0);
  for (size_t length = 1; length <= reach; ++length) {
    uint32_t node = 0;
    for (const char byte : text.substr(text.size() - length)) {
      node = texts_.child(node, byte);
      if (node == 0) break;
    }
    if (node != 0) return true;  // a proper prefix of one, or the whole of one
  }
  uint32_t node = 0;
  for (size_t i = 0; i < reach; ++i) {
    node = substrings_.child(node, text[i]);
    if (node == 0) return false;
    if (substrings_.ends(node)) return true;
  }
  return false;
}

bool ControlTexts::is_piece(std::string_view text) const {
  if (text.empty() || text.size() >= longest_) return false;
  uint32_t node = 0;
  for (const char byte : text) {
    node = substrings_.child(node, byte);
    if (node == 0) return false;
  }
  return true;
}

namespace {

constexpr uint32_t kFirstMark = 0xF0000;  // plane 15, private use: no text has business here
constexpr uint32_t kMarks = 4096;

// Fields whose text is a key to something else. Templates measure and compare them, so nothing may
// be put into them.
bool is_identifier(std::string_view field) {
  return field == "name" || field == "id" || field == "tool_call_id";
}

// Of a message; roles and types come from fixed sets.
bool is_user_text(std::string_view field) { return field != "role" && field != "type"; }

// Calls function(field, text) for every text in `value`, that of a list with the list's field.
// Whatever a call's arguments are named, they are arguments: people choose those names.
template <class Value, class Function>
void each_text(Value& value, std::string_view field, const Function& function) {
  if (value.is_string()) {
    function(field, value);
  } else if (value.is_object()) {
    for (auto it = value.begin(); it != value.end(); ++it)
      each_text(it.value(), field == "arguments" ? field : it.key(), function);
  } else if (value.is_array()) {
    for (auto& element : value) each_text(element, field, function);
  }
}

const std::string& text_of(const Json& value) { return value.get_ref<const std::string&>(); }

// Characters that occur nowhere in the request.
class UnusedCharacters {
 public:
  UnusedCharacters(const ChatRequest& request, const std::string& rendered) {
    const auto scan = [&](std::string_view, const Json& value) { see(text_of(value)); };
    each_text(*request.messages, "", scan);
    each_text(*request.template_arguments, "", scan);
    see(rendered);
  }
  // none: all are used.
  std::optional<uint32_t> take() {
    while (next_ < kMarks && used_[next_]) ++next_;
    if (next_ == kMarks) return std::nullopt;
    return kFirstMark + next_++;
  }

 private:
  void see(const std::string& text) {
    for (size_t i = 0; i < text.size();) {
      if (static_cast<unsigned char>(text[i]) != 0xf3) {
        ++i;
        continue;
      }
      const uint32_t code = next_code_point(text, &i);
      if (code >= kFirstMark && code < kFirstMark + kMarks) used_.set(code - kFirstMark);
    }
  }
  std::bitset<kMarks> used_;
  uint32_t next_ = 0;
};

size_t characters_in(std::string_view text) {
  size_t count = 0;
  for (size_t i = 0; i < text.size(); ++count) (void)next_code_point(text, &i);
  return count;
}

struct Unmarked {
  std::string text;
  std::vector<size_t> breaks;  // where marks were
};

// A rendering whose message texts carry marks, and the way back from it.
class Marking {
 public:
  // `around`: marks at both ends of risky texts too; else only inside control texts.
  Marking(const ControlTexts& controls, UnusedCharacters unused, bool around)
      : controls_(controls), unused_(std::move(unused)), around_(around), mark_(unused_.take()) {
    if (mark_) append_utf8(*mark_, &mark_text_);
  }

  // false: there are not enough unused characters.
  bool mark_messages(Json& messages) {
    bool possible = mark_.has_value();
    each_text(messages, "", [&](std::string_view field, Json& value) {
      const std::string& text = text_of(value);
      if (!possible || !is_user_text(field) || !controls_.is_risky(text)) return;
      const bool piece_only = !controls_.contains(text) && !controls_.joins(text);
      if (is_identifier(field) || (!around_ && piece_only)) {
        possible = replace(value);
      } else {
        value = marked(text, around_);
      }
    });
    return possible;
  }
  // Arguments steer the template ("high" == "high"), so nothing is put around them.
  void mark_arguments(Json& arguments) const {
    each_text(arguments, "", [&](std::string_view, Json& value) {
      if (controls_.contains(text_of(value))) value = marked(text_of(value), false);
    });
  }

  // none: the template cut what stands for an identifier.
  std::optional<Unmarked> undo(const std::string& rendered) const {
    Unmarked out;
    size_t done = 0;
    for (size_t i = 0; i < rendered.size();) {
      const size_t begin = i;
      if (static_cast<unsigned char>(rendered[i]) != 0xf3) {
        ++i;
        continue;
      }
      const uint32_t code = next_code_point(rendered, &i);
      const auto replaced = replaced_.find(code);
      if (code != mark_ && replaced == replaced_.end()) continue;
      out.text.append(rendered, done, begin - done);
      out.breaks.push_back(out.text.size());
      if (replaced != replaced_.end()) {
        const std::string& text = replaced->second;
        const std::string_view one = std::string_view(rendered).substr(begin, i - begin);
        for (size_t n = characters_in(text); n > 1; --n, i += one.size()) {
          if (std::string_view(rendered).substr(i, one.size()) != one) return std::nullopt;
        }
        for (const size_t place : controls_.inner_breaks(text))
          out.breaks.push_back(out.text.size() + place);
        out.text += text;
        out.breaks.push_back(out.text.size());
      }
      done = i;
    }
    out.text.append(rendered, done);
    return out;
  }

 private:
  // As many characters as the text has, one that occurs nowhere else. Equal texts stay equal.
  bool replace(Json& value) {
    const std::string text = text_of(value);
    auto found = stands_for_.find(text);
    if (found == stands_for_.end()) {
      const auto code = unused_.take();
      if (!code) return false;
      found = stands_for_.emplace(text, *code).first;
      replaced_.emplace(*code, text);
    }
    std::string out;
    for (size_t n = characters_in(text); n > 0; --n) append_utf8(found->second, &out);
    value = std::move(out);
    return true;
  }

  // `text` with the mark inside every control text and, with `edges`, around it. The outer marks
  // stand inside surrounding white space, so that a template's trim does what it does without them.
  std::string marked(const std::string& text, bool edges) const {
    std::vector<size_t> places = controls_.inner_breaks(text);
    if (edges) {
      constexpr std::string_view kSpace = " \t\n\r\v\f";
      const size_t first = text.find_first_not_of(kSpace);
      if (first != std::string::npos) {
        places.push_back(first);
        places.push_back(text.find_last_not_of(kSpace) + 1);
        std::sort(places.begin(), places.end());
      }
    }
    std::string out;
    size_t done = 0;
    for (const size_t place : places) {
      out.append(text, done, place - done);
      out += mark_text_;
      done = place;
    }
    return out.append(text, done);
  }

  const ControlTexts& controls_;
  UnusedCharacters unused_;
  const bool around_;
  const std::optional<uint32_t> mark_;
  std::string mark_text_;
  std::map<std::string, uint32_t> stands_for_;
  std::map<uint32_t, std::string> replaced_;
};

Json template_context(const TextCodec& codec, const ChatRequest& request) {
  Json context = *request.template_arguments;
  context["messages"] = *request.messages;
  context["add_generation_prompt"] = request.add_generation_prompt;
  context["tools"] = nullptr;
  context["documents"] = nullptr;
  context["bos_token"] = codec.bos_text();
  context["eos_token"] = codec.eos_text();
  return context;
}

Result<std::vector<int32_t>> encode_prompt(const TextCodec& codec, const Unmarked& prompt,
                                           uint32_t context_tokens) {
  EncodeOptions options;
  options.parse_special = true;
  options.breaks = prompt.breaks;
  // A template that writes BOS itself must not get a second one; a message's text is no BOS.
  const std::string bos = codec.bos_text();
  const bool broken = !prompt.breaks.empty() && prompt.breaks.front() < bos.size();
  options.add_bos = bos.empty() || broken || !prompt.text.starts_with(bos);
  return encode_within(codec, prompt.text, options, context_tokens);
}

// What of the request's texts could become part of a control token.
struct Risks {
  bool any = false;         // something is to be marked
  bool edges = false;       // of a text that is no identifier: at its ends
  std::string identifiers;  // the fields of identifiers, for a message; "": none
};

Risks find_risks(const ControlTexts& controls, const ChatRequest& request) {
  Risks out;
  size_t index = 0;
  for (const Json& message : *request.messages) {
    each_text(message, "", [&](std::string_view field, const Json& value) {
      const std::string& text = text_of(value);
      if (!is_user_text(field) || !controls.is_risky(text)) return;
      out.any = true;
      if (!is_identifier(field)) {
        out.edges |= controls.joins(text);
      } else if (out.identifiers.empty() && (controls.contains(text) || controls.joins(text))) {
        out.identifiers = "messages[" + std::to_string(index) + "]." + std::string(field);
      }
    });
    ++index;
  }
  each_text(*request.template_arguments, "", [&](std::string_view, const Json& value) {
    out.any |= controls.contains(text_of(value));
  });
  return out;
}

// Are control texts inside texts that are no identifiers the only risk?
bool only_inside(const ControlTexts& controls, const ChatRequest& request) {
  bool out = true;
  each_text(*request.messages, "", [&](std::string_view field, const Json& value) {
    const std::string& text = text_of(value);
    if (!is_user_text(field) || !controls.is_risky(text)) return;
    out = out && !is_identifier(field) && controls.contains(text);
  });
  return out;
}

// The prompt rendered with marks, unmarked again; none: the template did not render the marked
// messages, or not recognisably.
Result<std::optional<Unmarked>> render_marked(const TextCodec& codec, Marking marking,
                                              const ChatRequest& request, RenderControl& control) {
  ChatRequest copy = request;
  Json messages = *request.messages, arguments = *request.template_arguments;
  if (!marking.mark_messages(messages))
    return invalid_argument("the messages hold too many private-use characters");
  marking.mark_arguments(arguments);
  copy.messages = share_json(std::move(messages));
  copy.template_arguments = share_json(std::move(arguments));
  auto rendered = codec.render_chat(template_context(codec, copy), control);
  if (rendered) return marking.undo(*rendered);
  if (rendered.status().code() != Code::kInvalidArgument) return rendered.status();
  return std::optional<Unmarked>();
}

Status cannot_protect(const Risks& risks) {
  if (!risks.identifiers.empty()) {
    return invalid_argument(
        "'" + risks.identifiers +
        "' holds a control token or part of one, and this model's chat template "
        "leaves no way to tell it from the template's own; choose another");
  }
  return invalid_argument(
      "a message begins or ends with part of a control token, and this model's chat template "
      "leaves no way to tell it from the template's own; change or quote that text");
}

// The prompt's text, and where no control token may span.
Result<Unmarked> render_prompt(const TextCodec& codec, const ControlTexts& controls,
                               const ChatRequest& request, RenderControl& control) {
  SHOAL_ASSIGN(std::string plain, codec.render_chat(template_context(codec, request), control));
  const Risks risks = find_risks(controls, request);
  if (!risks.any) return Unmarked{std::move(plain), {}};
  // First with marks around every risky text. If the template looked at them, the result differs
  // from the plain rendering; then with marks only inside control texts.
  const UnusedCharacters unused(request, plain);
  SHOAL_ASSIGN(const auto around,
               render_marked(codec, Marking(controls, unused, true), request, control));
  if (around && around->text == plain) return *around;
  if (risks.edges) return cannot_protect(risks);
  SHOAL_ASSIGN(const auto inside,
               render_marked(codec, Marking(controls, unused, false), request, control));
  // Where the template looked at a control text itself the result differs, and is what it made of
  // the marked one; what stands for identifiers and short texts must have come through.
  if (!inside || (inside->text != plain && !only_inside(controls, request)))
    return cannot_protect(risks);
  return *inside;
}

bool has_risky_key(const ControlTexts& controls, const Json& value) {
  if (!value.is_structured()) return false;
  for (auto it = value.begin(); it != value.end(); ++it) {
    if (value.is_object() && (controls.contains(it.key()) || controls.joins(it.key()))) return true;
    if (has_risky_key(controls, it.value())) return true;
  }
  return false;
}

// The request with function() applied to the arguments of each call.
template <class Function>
ChatRequest with_arguments(const ChatRequest& request, const Function& function) {
  ChatRequest out = request;
  Json messages = *request.messages;
  for (Json& message : messages) {
    const auto calls = message.find("tool_calls");
    if (calls == message.end()) continue;
    for (Json& call : *calls) function(call["function"]["arguments"]);
  }
  out.messages = share_json(std::move(messages));
  return out;
}

// With the arguments of calls as objects, which is what most templates want: they write them with
// tojson. Not where a key could become a control token: keys carry no marks, texts do.
ChatRequest with_objects(const ControlTexts& controls, const ChatRequest& request) {
  return with_arguments(request, [&](Json& arguments) {
    if (arguments.is_string()) {
      auto parsed = parse_json(text_of(arguments), JsonLimits{});
      if (!parsed || !parsed->is_object()) return;
      arguments = std::move(*parsed);
    }
    if (has_risky_key(controls, arguments)) arguments = arguments.dump();
  });
}

// With them as JSON in strings, as OpenAI's clients send them.
ChatRequest with_strings(const ChatRequest& request) {
  return with_arguments(request, [](Json& arguments) {
    if (!arguments.is_string()) arguments = arguments.dump();
  });
}

bool has_calls(const ChatRequest& request) {
  return std::any_of(request.messages->begin(), request.messages->end(),
                     [](const Json& message) { return message.contains("tool_calls"); });
}

// The last message, which the answer goes on from, taken off.
std::string take_beginning(ChatRequest* request) {
  Json messages = *request->messages;
  std::string text = messages.back()["content"].get<std::string>();
  messages.erase(messages.size() - 1);
  request->messages = share_json(std::move(messages));
  request->add_generation_prompt = true;
  return text;
}

}  // namespace

Result<std::vector<int32_t>> chat_prompt_tokens(const TextCodec& codec,
                                                const ControlTexts& controls,
                                                const ChatRequest& request, uint32_t context_tokens,
                                                RenderControl& control) {
  if (!codec.has_chat_template()) {
    return invalid_argument(
        "this model has no chat template; use /v1/completions, or --chat-template at start");
  }
  ChatRequest whole = request;
  const std::string beginning = request.continues ? take_beginning(&whole) : "";
  const bool calls = has_calls(whole);
  auto prompt =
      render_prompt(codec, controls, calls ? with_objects(controls, whole) : whole, control);
  if (!prompt && prompt.status().code() == Code::kInvalidArgument && calls) {
    auto second = render_prompt(codec, controls, with_strings(whole), control);
    if (second) prompt = std::move(second);
  }
  if (!prompt) return prompt.status();
  if (!beginning.empty()) {
    prompt->breaks.push_back(prompt->text.size());
    for (const size_t place : controls.inner_breaks(beginning)) {
      prompt->breaks.push_back(prompt->text.size() + place);
    }
    prompt->text += beginning;
  }
  return encode_prompt(codec, *prompt, context_tokens);
}

}  // namespace shoal::gateway
