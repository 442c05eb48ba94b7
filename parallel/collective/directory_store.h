// A RendezvousStore in a directory that all ranks see: a file per key. For benches, tests and
// groups without a coordinator; workers use the control plane.
#pragma once

#include <string>

#include "parallel/collective/collective.h"

namespace shoal {

class DirectoryStore final : public RendezvousStore {
 public:
  explicit DirectoryStore(std::string directory) : directory_(std::move(directory)) {}
  // Keys: 1 to 200 characters of [A-Za-z0-9_.-]. A value appears whole or not at all.
  Status set(const std::string& key, const std::string& value) override;
  Result<std::string> get(const std::string& key, TimePoint deadline) override;

 private:
  Result<std::string> path_of(const std::string& key) const;
  const std::string directory_;
};

}  // namespace shoal
