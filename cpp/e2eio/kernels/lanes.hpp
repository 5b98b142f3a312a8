// Bit streams that are decoded side by side: one alone waits for its own table lookups.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace e2eio {

inline constexpr std::size_t kLanes = 4;

// Reading on past the end of a lane gives other bytes of the record, or zeros: the caller compares
// the positions with the ends of the lanes when it is done. Thread rule: as an array.
struct LaneSet {
  const std::uint8_t* record = nullptr;
  std::uint64_t record_bytes = 0;
  std::array<std::uint64_t, kLanes> at_bits{};  // of the record: what each lane reads next
};

}  // namespace e2eio
