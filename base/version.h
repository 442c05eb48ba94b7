#pragma once

namespace shoal {
inline constexpr char kBuild[] = "shoal 0.1.0";
}
