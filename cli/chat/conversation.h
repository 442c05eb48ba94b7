// A conversation: what was said, what is asked now, what may be asked again. Pure data.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace shoal::chat {

class Conversation {
 public:
  std::string system;  // empty: no system message

  // What becomes the next request. Exactly one of keep() and take_back() follows.
  void ask(std::string question);
  // Asks the question once more that got no answer, or else the last one, whose answer is given up
  // only when another has come. False: nothing was asked.
  bool ask_again();
  void keep(std::string answer);
  void take_back();

  void clear();  // all but the system message
  bool empty() const { return turns_.empty(); }
  size_t turns() const { return turns_.size(); }

  // For a request; REQUIRES a question. And for a file: what was said, in the API's form.
  nlohmann::json request_messages() const;
  nlohmann::json messages() const;
  // To read: one heading a message.
  std::string markdown() const;

 private:
  struct Turn {
    std::string question, answer;
  };
  struct Question {
    std::string text;
    bool replaces_last = false;
  };

  nlohmann::json messages_of(size_t turns) const;

  std::vector<Turn> turns_;
  std::optional<Question> asked_, failed_;
};

}  // namespace shoal::chat
