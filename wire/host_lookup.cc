#include "wire/host_lookup.h"

#include <thread>

#include "base/host.h"

namespace shoal::wire {

void HostLookup::start(const std::string& host) {
  if (answer_.valid()) return;
  std::packaged_task<Addresses()> task([host] { return resolve_host(host); });
  answer_ = task.get_future();
  std::thread(std::move(task)).detach();  // nothing ends a resolver before its time
}

std::optional<HostLookup::Addresses> HostLookup::take() {
  const bool ready =
      answer_.valid() && answer_.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
  if (!ready) return {};
  return answer_.get();
}

}  // namespace shoal::wire
