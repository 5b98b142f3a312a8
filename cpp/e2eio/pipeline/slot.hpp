// One recycled buffer of the ring: a dense batch, and the memory of what was written into it.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "e2eio/base/dtype.hpp"
#include "e2eio/base/memory.hpp"
#include "e2eio/codec/image_decoder.hpp"
#include "e2eio/kernels/kernel_set.hpp"

namespace e2eio {

// How a delivered batch lies in memory: [n, C, H, W], or [n, H, W, C] if channels_last.
struct BatchGeometry {
  std::uint32_t n_channels = 0;  // delivered ones
  std::uint32_t height = 0;
  std::uint32_t width = 0;
  DType dtype = DType::kFloat32;  // kFloat32, kFloat16 or kBFloat16
  bool channels_last = false;

  [[nodiscard]] std::size_t sample_bytes() const noexcept {
    return size_of(dtype) * n_channels * height * width;
  }
};

// Where the pixels of one channel of a sample go. `sample` is the first byte of the sample.
[[nodiscard]] PixelTarget channel_target(const BatchGeometry& geometry, std::byte* sample,
                                         std::uint32_t channel, std::uint32_t block) noexcept;

// Writes an image into a sample that holds zeros. Thread rule: one thread at a time (scratch
// memory).
class ImageScatter {
 public:
  ImageScatter(const BatchGeometry& geometry, const KernelSet& kernels)
      : geometry_(geometry), kernels_(&kernels) {}
  void write(const DecodedImage& image, std::byte* sample);

 private:
  void write_dense(const ChannelPixels& channel, const PixelTarget& target,
                   const std::uint32_t* words);

  BatchGeometry geometry_;
  const KernelSet* kernels_;
  std::vector<std::uint16_t> narrow_;
  std::vector<std::uint32_t> grid_positions_;
};

// Thread rule: different samples may be worked on by different threads at once; the rest by one.
class Slot {
 public:
  Slot(const BatchGeometry& geometry, std::size_t n_samples);

  [[nodiscard]] std::byte* sample(std::size_t i) const noexcept {
    return memory_.data() + i * geometry_.sample_bytes();
  }
  [[nodiscard]] std::byte* data() const noexcept { return memory_.data(); }
  [[nodiscard]] std::size_t n_bytes() const noexcept { return memory_.n_bytes(); }

  // Makes sample i all zeros: only where it was written, or in full if that is quicker, or if
  // somebody else may have written into it (distrust()).
  // Returns false if a canary was found dead: the sample was written into behind our back.
  [[nodiscard]] bool clear(std::size_t i, const KernelSet& kernels, std::uint64_t canary_key);

  // Remembers that sample i now holds `image`; takes its position lists and leaves others.
  void remember(std::size_t i, DecodedImage& image);

  // The holder may have written anywhere: clear everything in full before the next use.
  void distrust() noexcept;

 private:
  struct Written {
    std::vector<ChannelPixels> channels;
    std::vector<std::uint32_t> positions;
    bool anywhere = false;
  };
  void clear_written(std::size_t i, const Written& written, const KernelSet& kernels) const;
  [[nodiscard]] bool canaries_live(std::size_t i, std::uint64_t key) const noexcept;

  BatchGeometry geometry_;
  ZeroedMemory memory_;
  std::vector<Written> written_;
};

}  // namespace e2eio
