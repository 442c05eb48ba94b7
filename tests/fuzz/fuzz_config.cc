// Fuzz target: any text is a configuration or an error that names a place. What parses is in range
// and survives being written key by key and read again as overrides. The same text as a placement
// file: masks of ranks that exist, or an error that names a place.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/check.h"
#include "config/parser.h"
#include "config/placement_file.h"
#include "config/schema.h"

namespace shoal::config {
namespace {

void check_text(std::string_view text) {
  const auto settings = parse(text, "f");
  if (!settings) {
    SHOAL_CHECK(settings.status().message().starts_with("f:"), settings.status().message());
    return;
  }
  (void)check(*settings).is_ok();
  Settings again;
  for (const auto& field : config_fields()) {
    const std::string value = field.get(settings->config);
    const Status status = apply_overrides({{std::string(field.key), value, "again"}}, &again);
    SHOAL_CHECK(status.is_ok(), status.message());
  }
  for (const Worker& worker : settings->config.workers) {
    Worker copy;
    for (const auto& field : worker_fields()) {
      const Status status = field.set(copy, field.get(worker));
      SHOAL_CHECK(status.is_ok(), status.message());
    }
    SHOAL_CHECK(copy == worker, "a worker changed");
    again.config.workers.push_back(copy);
  }
  SHOAL_CHECK(again.config == settings->config, "the configuration changed");
}

void check_placement(std::string_view text) {
  constexpr int kWorld = 5;
  const auto masks = parse_placement(text, "f", {0, 4, 2, 130}, kWorld);
  if (!masks) {
    SHOAL_CHECK(masks.status().message().starts_with("f:"), masks.status().message());
    return;
  }
  SHOAL_CHECK(masks->size() == 136, "a mask per expert");
  for (const uint64_t mask : *masks) SHOAL_CHECK(mask >> kWorld == 0, "a rank beyond the group");
}

}  // namespace
}  // namespace shoal::config

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  shoal::config::check_text(text);
  shoal::config::check_placement(text);
  return 0;
}
