// Starts the answer to a request for tokens: chat and text completions alike.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "coordinator/gateway/echo.h"
#include "coordinator/gateway/generation.h"
#include "coordinator/gateway/services.h"

namespace shoal::gateway {

// What the ids of answers begin with.
inline constexpr char kChatId[] = "chatcmpl";
inline constexpr char kCompletionId[] = "cmpl";

// Refuses prompts that are empty or do not fit the context.
void generate(const Services& services, AnswerKind kind, const HttpRequest& request,
              GenerationOptions options, std::vector<std::vector<int32_t>> prompts,
              std::vector<Echo> echoes, const std::shared_ptr<Exchange>& exchange);

}  // namespace shoal::gateway
