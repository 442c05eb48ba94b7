// The file that pins experts to ranks (parallel.placement). YAML, hence also JSON:
//
//   unlisted: auto
//   placement:
//     - {layers: 1-12, experts: 0-31, ranks: 0}
//     - {layers: 1-12, experts: 32-63, ranks: 1}
//     - {layers: all, experts: [64, 70-72], ranks: [0, 1]}
//
// unlisted: auto places the other experts automatically, refuse wants every expert listed. Several
// ranks: each holds each of the experts.
//
// layers: numbers of the model's blocks, as in its tensor names ("blk.7"); all: those with experts.
// experts: of each such layer, from 0; all: every one. ranks: as in `shoal inspect --workers`.
// Each is a number, a range A-B with both ends, a comma-separated text of those, or a list of them.
// `layer`, `expert` and `rank` mean the same. Nothing may be listed twice.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace shoal::config {

// [layers with experts, in order][experts] bit r set: rank r holds it; 0: not listed. Errors start
// with "NAME:LINE:COLUMN: ". `experts_of_layer`: of every layer of the model, 0 for dense ones.
// REQUIRES: 1 ≤ world ≤ 64.
Result<std::vector<uint64_t>> parse_placement(std::string_view text, const std::string& name,
                                              const std::vector<int64_t>& experts_of_layer,
                                              int world);

// The same of a file.
Result<std::vector<uint64_t>> read_placement(const std::string& path,
                                             const std::vector<int64_t>& experts_of_layer,
                                             int world);

}  // namespace shoal::config
