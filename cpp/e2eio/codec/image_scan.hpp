// Finds the pixels of dense images that are not +0.0.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "e2eio/codec/image_layout.hpp"
#include "e2eio/kernels/kernel_set.hpp"

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

// Thread rule: one thread at a time; make one per thread.
class ImageScanner {
 public:
  explicit ImageScanner(const KernelSet& kernels);

  // Fills one ChannelScan per channel (reusing their memory). Returns how many float64 values were
  // not float32 values and were rounded to nearest even.
  std::uint64_t scan(const StridedImage& image, const ImageShape& shape,
                     std::vector<ChannelScan>& channels);

 private:
  template <typename T>
  std::uint64_t scan_as(const StridedImage& image, const ImageShape& shape,
                        std::vector<ChannelScan>& channels);
  template <typename T>
  std::uint64_t scan_run(const std::byte* data, std::size_t n, std::uint32_t first,
                         ChannelScan& channel);
  template <typename T>
  std::uint64_t scan_interleaved(const std::byte* data, const ImageShape& shape,
                                 std::vector<ChannelScan>& channels);
  template <typename T>
  std::uint64_t list(const std::byte* data, std::size_t n, std::uint32_t first);

  const KernelSet* kernels_;
  std::size_t n_ = 0;  // listed in these
  std::vector<std::uint32_t> positions_;
  std::vector<std::uint32_t> words_;
  std::vector<std::uint64_t> doubles_;
};

}  // namespace e2eio
