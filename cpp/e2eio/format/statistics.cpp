#include "e2eio/format/statistics.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

namespace e2eio {

void add_statistics(const std::vector<ChannelScan>& channels,
                    std::vector<ChannelStatistics>& totals) {
  for (std::size_t c = 0; c < channels.size(); ++c) {
    ChannelStatistics& total = totals[c];
    total.nonzero += channels[c].words.size();
    for (const std::uint32_t word : channels[c].words) {
      const auto value = static_cast<double>(std::bit_cast<float>(word));
      if (!std::isfinite(value)) {
        ++total.nonfinite;
        continue;
      }
      total.min = std::min(total.min, value);
      total.max = std::max(total.max, value);
      total.sum += value;
      total.sum_squares += value * value;
    }
  }
}

}  // namespace e2eio
