// Finds the pixels of dense images that are not +0.0.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "e2eio/codec/image_layout.hpp"

namespace e2eio {

// One dense image in foreign memory. Does not own it.
struct StridedImage {
  const std::byte* data = nullptr;
  bool is_double = false;                        // float64, else float32
  std::array<std::ptrdiff_t, 3> stride_bytes{};  // of channel, row, column
};

// Stored pixels of one channel: float32 bits at ascending positions y * W + x.
struct ChannelScan {
  std::vector<std::uint32_t> positions;
  std::vector<std::uint32_t> words;
};

// Fills one ChannelScan per channel (reusing their memory). Returns how many float64 values were
// not float32 values and were rounded to nearest even.
std::uint64_t scan_image(const StridedImage& image, const ImageShape& shape,
                         std::vector<ChannelScan>& channels);

}  // namespace e2eio
