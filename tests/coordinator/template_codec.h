// A codec with a real chat template, for tests of prompts.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "model/chat_template.h"
#include "tests/coordinator/gateway_fakes.h"

namespace shoal::gateway::testing {

// A real template over tokens that are bytes and control texts; ids from 1000 on are those.
class TemplateCodec : public FakeCodec {
 public:
  TemplateCodec(const std::string& source, std::vector<std::string> controls)
      : chat_(ChatTemplate::parse(source)), texts_(std::move(controls)) {
    EXPECT_TRUE(chat_) << chat_.status().message();
  }
  const std::vector<std::string>& control_texts() const override { return texts_; }
  std::string bos_text() const override { return ""; }
  Result<std::string> render_chat(const Json& context, RenderControl& control) const override {
    return chat_->render(context, 0, control);
  }
  Result<std::vector<int32_t>> encode(std::string_view text,
                                      const EncodeOptions& options) const override {
    EXPECT_TRUE(std::is_sorted(options.breaks.begin(), options.breaks.end()));
    std::vector<int32_t> ids;
    for (size_t i = 0; i < text.size();) {
      size_t best = texts_.size();
      for (size_t k = 0; k < texts_.size(); ++k) {
        const size_t end = i + texts_[k].size();
        const bool broken = std::any_of(options.breaks.begin(), options.breaks.end(),
                                        [&](size_t b) { return b > i && b < end; });
        if (broken || !text.substr(i).starts_with(texts_[k])) continue;
        if (best == texts_.size() || texts_[k].size() > texts_[best].size()) best = k;
      }
      if (best < texts_.size()) {
        ids.push_back(1000 + static_cast<int32_t>(best));
        i += texts_[best].size();
      } else {
        ids.push_back(static_cast<unsigned char>(text[i++]));
      }
    }
    return ids;
  }
  // The text of a prompt; control tokens in brackets.
  std::string show(const std::vector<int32_t>& ids) const {
    std::string out;
    for (const int32_t id : ids)
      out += id < 1000 ? std::string(1, static_cast<char>(id))
                       : "⟦" + texts_[static_cast<size_t>(id - 1000)] + "⟧";
    return out;
  }

 private:
  Result<ChatTemplate> chat_;
  std::vector<std::string> texts_;
};

}  // namespace shoal::gateway::testing
