// One recycled batch that lists what is stored and nothing else: the wire form, and the coo form
// that is made from it.
//
// The wire form is one contiguous buffer, so that one copy moves a batch to a device:
//
//   0               WireHeader                                    64 bytes
//   64              WireChannel [n_samples, n_channels]           16 bytes each
//   payload_offset  one chunk per sample, in any order: positions u32, then values
//
// Header, payload and each chunk begin at multiples of 64 bytes; what lies between them is not
// defined. With P = (u32*) payload and V = (T*) payload, T being the header's dtype, pixel i < n of
// a channel has position P[first_position + i], its value V[first_value + i], and fills the
// block x block pixels whose top left is y * width + x = position. A dense channel has no
// positions: its n = (height / block) * (width / block) values are those of its native grid, row by
// row. Channels with the same support have the same first_position. Pixels that are not listed are
// +0.0; listed ones may be.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <vector>

#include "e2eio/base/bytes.hpp"
#include "e2eio/base/memory.hpp"
#include "e2eio/pipeline/slot.hpp"

namespace e2eio {

struct WireHeader {
  std::uint32_t version = 1;
  std::uint32_t dtype = 0;  // DType: 1 float32, 101 float16, 102 bfloat16
  std::uint32_t n_samples = 0;
  std::uint32_t n_channels = 0;
  std::uint32_t height = 0;
  std::uint32_t width = 0;
  std::uint64_t payload_offset = 0;  // bytes, from the start of the buffer
  std::uint64_t n_bytes = 0;         // of the whole buffer
  std::uint64_t reserved[3] = {};
};
static_assert(sizeof(WireHeader) == 64);

struct WireChannel {
  std::uint32_t first_position = 0;  // in units of 4 bytes from the payload's start
  std::uint32_t first_value = 0;     // in units of the dtype's size from the payload's start
  std::uint32_t n = 0;               // stored pixels
  std::uint16_t block = 1;           // edge of the square that each fills
  std::uint16_t dense = 0;           // 1: no positions
};
static_assert(sizeof(WireChannel) == 16);

// One pixel of a coo batch; sorted by sample, channel, y, x.
struct Coordinate {
  std::int32_t sample = 0;
  std::int32_t channel = 0;  // among the delivered ones
  std::int32_t y = 0;
  std::int32_t x = 0;
};
static_assert(sizeof(Coordinate) == 16);

// begin(), then put() for every sample, then seal(); for coo then expand() for every sample.
// Thread rule: put() and expand() of different samples may run at once in different threads; the
// rest is for one thread at a time.
class SparseBatch {
 public:
  // `with_coordinates`: a coo batch. `expected_bytes` of wire buffer are mapped at once.
  // A wire buffer is page-locked, coordinates are not.
  SparseBatch(const BatchGeometry& geometry, bool with_coordinates, std::uint64_t expected_bytes,
              const PageLock& page_lock = {});

  void begin(std::size_t n_samples);

  // Appends sample i. Throws: Error(kInvalidArgument) if the payload passes 2^32 values.
  void put(std::size_t i, const DecodedImage& image, const KernelSet& kernels);

  // Makes the wire form whole; for coo, finds room for the pixels of each sample.
  void seal();

  // Writes the coordinates and values of samples [first, first + count).
  void expand(std::size_t first, std::size_t count);

  [[nodiscard]] std::span<const std::byte> wire() const noexcept {
    return {buffer_.data(), wire_bytes_};
  }
  [[nodiscard]] bool page_locked() const noexcept { return buffer_.page_locked(); }
  [[nodiscard]] bool with_coordinates() const noexcept { return with_coordinates_; }
  [[nodiscard]] std::uint64_t n_pixels() const noexcept { return n_pixels_; }
  [[nodiscard]] const Coordinate* coordinates() const noexcept {
    return reinterpret_cast<const Coordinate*>(coordinates_.data());
  }
  [[nodiscard]] const std::byte* values() const noexcept { return values_.data(); }

  // Memory that this batch holds, used or not.
  [[nodiscard]] std::uint64_t n_bytes() const noexcept {
    return buffer_.n_bytes() + coordinates_.n_bytes() + values_.n_bytes();
  }

  // The pool's note of what it counts for this batch.
  [[nodiscard]] std::uint64_t counted_bytes() const noexcept { return counted_bytes_; }
  void set_counted_bytes(std::uint64_t n_bytes) noexcept { counted_bytes_ = n_bytes; }

 private:
  // A chunk that did not fit into the buffer as it was; seal() puts it in its place.
  struct Overflow {
    std::uint64_t at = 0;  // in the payload
    Bytes bytes;
  };
  [[nodiscard]] WireChannel* channels_of(std::size_t i) const noexcept;
  template <typename T>
  void expand_as(std::size_t first, std::size_t count);

  BatchGeometry geometry_;
  bool with_coordinates_;
  PageLock page_lock_;
  std::size_t n_samples_ = 0;
  std::uint64_t payload_offset_ = 0;
  std::uint64_t wire_bytes_ = 0;
  std::uint64_t n_pixels_ = 0;
  std::uint64_t counted_bytes_ = 0;
  std::atomic<std::uint64_t> payload_bytes_ = 0;  // given out so far
  ZeroedMemory buffer_;
  ZeroedMemory coordinates_;
  ZeroedMemory values_;
  std::vector<Overflow> overflow_;         // per sample
  std::vector<std::uint64_t> pixel_ends_;  // per sample: its pixels, after seal() the end of them
};

}  // namespace e2eio
