#include "cli/chat/conversation.h"

#include <utility>

#include "base/check.h"

namespace shoal::chat {

using Json = nlohmann::json;

void Conversation::ask(std::string question) {
  SHOAL_CHECK(!asked_, "a question is open");
  asked_ = {std::move(question), false};
  failed_.reset();
}

bool Conversation::ask_again() {
  SHOAL_CHECK(!asked_, "a question is open");
  if (failed_) {
    asked_ = std::exchange(failed_, std::nullopt);
  } else if (!turns_.empty()) {
    asked_ = {turns_.back().question, true};
  }
  return asked_.has_value();
}

void Conversation::keep(std::string answer) {
  SHOAL_CHECK(asked_.has_value(), "no question is open");
  if (asked_->replaces_last) turns_.pop_back();
  turns_.push_back({std::move(asked_->text), std::move(answer)});
  asked_.reset();
}

void Conversation::take_back() {
  SHOAL_CHECK(asked_.has_value(), "no question is open");
  failed_ = std::exchange(asked_, std::nullopt);
}

void Conversation::clear() {
  turns_.clear();
  failed_.reset();
}

Json Conversation::messages_of(size_t turns) const {
  Json out = Json::array();
  if (!system.empty()) out.push_back({{"role", "system"}, {"content", system}});
  for (size_t i = 0; i < turns; ++i) {
    out.push_back({{"role", "user"}, {"content", turns_[i].question}});
    out.push_back({{"role", "assistant"}, {"content", turns_[i].answer}});
  }
  return out;
}

Json Conversation::request_messages() const {
  SHOAL_CHECK(asked_.has_value(), "no question is open");
  Json out = messages_of(turns_.size() - (asked_->replaces_last ? 1 : 0));
  out.push_back({{"role", "user"}, {"content", asked_->text}});
  return out;
}

Json Conversation::messages() const { return messages_of(turns_.size()); }

std::string Conversation::markdown() const {
  std::string out;
  const auto add = [&](const char* who, const std::string& text) {
    out += std::string(out.empty() ? "" : "\n") + "## " + who + "\n\n" + text;
    if (out.back() != '\n') out += '\n';
  };
  if (!system.empty()) add("System", system);
  for (const Turn& turn : turns_) {
    add("User", turn.question);
    add("Assistant", turn.answer);
  }
  return out;
}

}  // namespace shoal::chat
