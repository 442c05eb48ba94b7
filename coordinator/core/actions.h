// What happens to the pure core (events) and what it wants done (actions). The loop around it
// performs the actions in order.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "base/log.h"
#include "coordinator/core/token_service.h"
#include "wire/link.h"

namespace shoal {

struct SubmitEvent {
  RequestId id = 0;  // new
  GenerationRequest request;
};
struct CancelEvent {
  RequestId id = 0;
};
struct PeerGoneEvent {  // a message to it could not be sent
  wire::PeerId peer;
  std::string reason;
};
struct DisconnectedEvent {  // a connection broke; the peer may come back on another one
  wire::PeerId peer;
};
struct WorkerDiedEvent {  // somebody knows better than the heartbeats: the local supervisor
  std::string name;
  int64_t pid = 0;  // which process of that name; 0: whichever it is now
  std::string reason;
};
struct DrainEvent {};
struct StopEvent {  // the last one: everybody is told
  std::string reason;
};
struct TickEvent {};
using Event = std::variant<SubmitEvent, CancelEvent, wire::Incoming, PeerGoneEvent,
                           DisconnectedEvent, WorkerDiedEvent, DrainEvent, StopEvent, TickEvent>;

struct SendAction {
  std::vector<wire::PeerId> peers;
  wire::ToWorker message;
};
struct AcceptAction {  // this peer's hello was accepted: see wire::CoordinatorLink::accept()
  wire::PeerId peer;
};
struct TokenAction {
  RequestId id = 0;
  TokenEvent event;
};
struct PromptAction {
  RequestId id = 0;
  PromptEvent event;
};
struct FinishAction {
  RequestId id = 0;
  FinishEvent event;
};
// This process is no part of the cluster any more: whoever supervises it should make sure that it
// is gone (a hung one does not exit by itself) and may start another.
struct WorkerLostAction {
  std::string name;
  std::string host_id;
  int64_t pid = 0;
  std::string reason;
};
struct LogAction {
  LogLevel level = LogLevel::kInfo;
  std::string text;
};
using Action = std::variant<SendAction, AcceptAction, PromptAction, TokenAction, FinishAction,
                            WorkerLostAction, LogAction>;
using Actions = std::vector<Action>;

}  // namespace shoal
