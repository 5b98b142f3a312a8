// Per-channel sums over what is written, kept in dataset.json.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include "e2eio/codec/image_scan.hpp"

namespace e2eio {

// Over the stored pixels of the full image. min and max stay NaN-free: infinite while there is
// none.
struct ChannelStatistics {
  std::uint64_t nonzero = 0;    // stored pixels, finite or not
  std::uint64_t nonfinite = 0;  // NaN and infinities
  double min = std::numeric_limits<double>::infinity();
  double max = -std::numeric_limits<double>::infinity();
  double sum = 0;
  double sum_squares = 0;
};

// Adds one sample; `totals` has one entry per channel.
void add_statistics(const std::vector<ChannelScan>& channels,
                    std::vector<ChannelStatistics>& totals);

}  // namespace e2eio
