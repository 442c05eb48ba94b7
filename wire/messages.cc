#include "wire/messages.h"

namespace shoal::wire {

uint64_t settings_id(const Settings& settings) {
  if (settings == Settings{}) return 0;
  uint64_t id = 0xcbf29ce484222325;  // FNV-1a, over words
  const auto add = [&id](uint64_t word) { id = (id ^ word) * 0x100000001b3; };
  add(settings.threads);
  add(settings.cores.size());
  for (const uint32_t core : settings.cores) add(core);
  for (const char c : settings.device) add(static_cast<unsigned char>(c));
  return id | 1;
}

}  // namespace shoal::wire
