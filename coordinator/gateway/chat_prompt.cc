#include "coordinator/gateway/chat_prompt.h"

#include <algorithm>
#include <bitset>
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

bool ControlTexts::edge_risk(std::string_view text) const {
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
  return text.size() < longest_;  // all of it is part of one
}

namespace {

constexpr uint32_t kFirstMark = 0xF0000;  // plane 15, private use: no text has business here
constexpr uint32_t kMarks = 4096;

// What of a message may be user text. Roles come from a fixed set.
constexpr const char* kTextFields[] = {"content", "name", "reasoning_content", "tool_call_id"};

template <class Function>
void each_string(const Json& value, const Function& function) {  // depth is bounded by the parser
  if (value.is_string()) function(value.get_ref<const std::string&>());
  if (value.is_structured()) {
    for (const Json& element : value) each_string(element, function);
  }
}

// A character that occurs nowhere in the request.
std::optional<std::string> unused_mark(const ChatRequest& request, const std::string& rendered) {
  std::bitset<kMarks> used;
  const auto scan = [&](const std::string& text) {
    for (size_t i = 0; i < text.size();) {
      if (static_cast<unsigned char>(text[i]) != 0xf3) {
        ++i;
        continue;
      }
      const uint32_t code = next_code_point(text, &i);
      if (code >= kFirstMark && code < kFirstMark + kMarks) used.set(code - kFirstMark);
    }
  };
  each_string(*request.messages, scan);
  each_string(*request.template_arguments, scan);
  scan(rendered);
  for (uint32_t i = 0; i < kMarks; ++i) {
    if (used[i]) continue;
    std::string mark;
    append_utf8(kFirstMark + i, &mark);
    return mark;
  }
  return std::nullopt;
}

// `text` with the mark inside every control text and, with `edges`, around it. The outer marks
// stand inside surrounding white space, so that a template's trim does what it does without them.
std::string marked(const ControlTexts& controls, const std::string& text, const std::string& mark,
                   bool edges) {
  std::vector<size_t> places = controls.inner_breaks(text);
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
    out += mark;
    done = place;
  }
  return out.append(text, done);
}

void mark_strings(Json& value, const ControlTexts& controls, const std::string& mark) {
  if (value.is_string()) {
    value = marked(controls, value.get_ref<const std::string&>(), mark, false);
  } else if (value.is_structured()) {
    for (Json& element : value) mark_strings(element, controls, mark);
  }
}

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

Json marked_context(const TextCodec& codec, const ControlTexts& controls,
                    const ChatRequest& request, const std::string& mark, bool edges) {
  ChatRequest copy = request;
  Json messages = *request.messages;
  for (Json& message : messages) {
    for (const char* field : kTextFields) {
      const auto found = message.find(field);
      if (found == message.end()) continue;
      *found = marked(controls, found->get_ref<const std::string&>(), mark, edges);
    }
  }
  // Arguments steer the template ("high" == "high"), so nothing is put around them.
  Json arguments = *request.template_arguments;
  for (Json& value : arguments) mark_strings(value, controls, mark);
  copy.messages = share_json(std::move(messages));
  copy.template_arguments = share_json(std::move(arguments));
  return template_context(codec, copy);
}

struct Unmarked {
  std::string text;
  std::vector<size_t> breaks;  // where marks were
};

Unmarked remove_marks(const std::string& text, const std::string& mark) {
  Unmarked out;
  size_t done = 0;
  for (size_t at = text.find(mark); at != std::string::npos; at = text.find(mark, done)) {
    out.text.append(text, done, at - done);
    out.breaks.push_back(out.text.size());
    done = at + mark.size();
  }
  out.text.append(text, done);
  return out;
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

}  // namespace

Result<std::vector<int32_t>> chat_prompt_tokens(const TextCodec& codec,
                                                const ControlTexts& controls,
                                                const ChatRequest& request,
                                                uint32_t context_tokens, RenderControl& control) {
  if (!codec.has_chat_template()) {
    return invalid_argument(
        "this model has no chat template; use /v1/completions or a model file that has one");
  }
  SHOAL_ASSIGN(std::string plain, codec.render_chat(template_context(codec, request), control));

  bool inside = false, edges = false;
  for (const Json& message : *request.messages) {
    for (const char* field : kTextFields) {
      const auto found = message.find(field);
      if (found == message.end()) continue;
      inside |= controls.contains(found->get_ref<const std::string&>());
      edges |= controls.edge_risk(found->get_ref<const std::string&>());
    }
  }
  each_string(*request.template_arguments,
              [&](const std::string& text) { inside |= controls.contains(text); });
  if (!inside && !edges) return encode_prompt(codec, {std::move(plain), {}}, context_tokens);

  const auto mark = unused_mark(request, plain);
  if (!mark) return invalid_argument("the messages hold too many private-use characters");
  // First with marks around every text. If the template looked at them, the result differs from the
  // plain rendering; then with marks only inside control texts.
  auto rendered = codec.render_chat(marked_context(codec, controls, request, *mark, true), control);
  if (!rendered && rendered.status().code() != Code::kInvalidArgument) return rendered.status();
  if (rendered) {
    Unmarked unmarked = remove_marks(*rendered, *mark);
    if (unmarked.text == plain) return encode_prompt(codec, unmarked, context_tokens);
  }
  if (edges) {
    return invalid_argument(
        "a message begins or ends with part of a control token, and this model's chat template "
        "leaves no way to tell it from the template's own; change or quote that text");
  }
  SHOAL_ASSIGN(rendered,
               codec.render_chat(marked_context(codec, controls, request, *mark, false), control));
  return encode_prompt(codec, remove_marks(*rendered, *mark), context_tokens);
}

}  // namespace shoal::gateway
