#include "wire/zap.h"

#include <csignal>
#include <optional>

#include <fmt/core.h>

#include "base/log.h"
#include "wire/curve_keys.h"
#include "wire/zmq_socket.h"

namespace shoal::wire {
namespace {

constexpr size_t kKeyBytes = 32;
constexpr size_t kMaxRequestFrames = 16;

// version, request id, domain, address, routing id, mechanism, credentials …
enum RequestFrame { kVersion, kRequestId, kDomain, kAddress, kRoutingId, kMechanism, kCredentials };

Status check_allowed(const std::map<std::string, std::string>& allowed) {
  for (const auto& [key, name] : allowed) {
    SHOAL_TRY(check_worker_name(name));
    SHOAL_TRY(check_public_key(fmt::format("the public key of worker '{}'", name), key));
  }
  return Status::ok();
}

// All frames of one message, or nothing.
std::optional<std::vector<std::string>> receive_all(ZmqSocket& socket) {
  std::vector<std::string> frames;
  for (bool more = true; more;) {
    ZmqFrame frame;
    if (!frame.receive(socket)) return {};
    more = frame.more();
    if (frames.size() < kMaxRequestFrames) frames.emplace_back(frame.bytes());
  }
  return frames;
}

}  // namespace

ZapServer::ZapServer()
    : socket_(std::make_unique<ZmqSocket>()), stop_(std::make_unique<WakeUp>()) {}

ZapServer::~ZapServer() { stop(); }

Result<std::unique_ptr<ZapServer>> ZapServer::start(
    const ZmqContext& context, const std::map<std::string, std::string>& allowed) {
  SHOAL_TRY(check_allowed(allowed));
  std::unique_ptr<ZapServer> server(new ZapServer);
  server->allowed_ = allowed;
  SHOAL_ASSIGN(*server->socket_, ZmqSocket::open(context, ZMQ_REP));
  SHOAL_TRY(server->socket_->set(ZMQ_LINGER, 0, "LINGER"));
  if (zmq_bind(server->socket_->handle(), "inproc://zeromq.zap.01") != 0) {
    return zmq_status("cannot start authentication");
  }
  sigset_t all, before;
  sigfillset(&all);  // signals belong to the main thread
  pthread_sigmask(SIG_SETMASK, &all, &before);
  server->thread_ = std::thread([raw = server.get()] { raw->serve(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return server;
}

Status ZapServer::set_allowed(const std::map<std::string, std::string>& allowed) {
  SHOAL_TRY(check_allowed(allowed));
  const std::lock_guard lock(mutex_);
  allowed_ = allowed;
  return Status::ok();
}

void ZapServer::stop() {
  if (!thread_.joinable()) return;
  stop_->set();
  thread_.join();
  socket_->close();
}

void ZapServer::serve() {
  zmq_pollitem_t items[] = {{socket_->handle(), 0, ZMQ_POLLIN, 0},
                            {nullptr, stop_->fd(), ZMQ_POLLIN, 0}};
  for (;;) {
    if (zmq_poll(items, 2, -1) < 0 && zmq_errno() != EINTR) return;
    if (items[1].revents != 0) return;
    const auto request = receive_all(*socket_);
    if (!request) continue;
    const Verdict verdict = judge(*request);
    if (verdict.code != "200") ++denied_;
    const std::string id = request->size() > kRequestId ? (*request)[kRequestId] : std::string();
    const std::string metadata;
    const std::string* reply[] = {nullptr,       &id,           &verdict.code,
                                  &verdict.text, &verdict.user, &metadata};
    const std::string version = "1.0";
    reply[0] = &version;
    for (size_t i = 0; i < std::size(reply); ++i) {
      const int flags = ZMQ_DONTWAIT | (i + 1 < std::size(reply) ? ZMQ_SNDMORE : 0);
      if (zmq_send(socket_->handle(), reply[i]->data(), reply[i]->size(), flags) < 0) break;
    }
  }
}

ZapServer::Verdict ZapServer::judge(const std::vector<std::string>& request) {
  const Verdict denied{"400", "not authorised", ""};
  if (request.size() != kCredentials + 1 || request[kVersion] != "1.0" ||
      request[kDomain] != kZapDomain || request[kMechanism] != "CURVE" ||
      request[kCredentials].size() != kKeyBytes) {
    return denied;
  }
  char key[kZ85KeyLength + 1];
  zmq_z85_encode(key, reinterpret_cast<const uint8_t*>(request[kCredentials].data()), kKeyBytes);
  const std::lock_guard lock(mutex_);
  const auto found = allowed_.find(key);
  if (found == allowed_.end()) {
    log_debug(fmt::format("refused a connection from {} with the unknown key {}", request[kAddress],
                          key));
    return denied;
  }
  return {"200", "OK", found->second};
}

}  // namespace shoal::wire
