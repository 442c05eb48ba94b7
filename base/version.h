#pragma once

namespace shoal {

inline constexpr char kVersion[] = "0.1.0";
inline constexpr char kBuild[] = "shoal 0.1.0";

}  // namespace shoal
