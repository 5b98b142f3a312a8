// The inside of a record (docs/format.md section 3): every bit of a descriptor, and only here.
#pragma once

#include <cstddef>
#include <cstdint>

namespace e2eio {

// Float32 image [channels, height, width] of one sample.
// Requires (checked where a schema is made or read): all at least 1, 4 * C * H * W <= 2^30.
struct ImageShape {
  std::uint32_t channels = 0;
  std::uint32_t height = 0;
  std::uint32_t width = 0;

  [[nodiscard]] std::size_t plane_pixels() const noexcept { return std::size_t{height} * width; }
  [[nodiscard]] std::size_t pixels() const noexcept { return channels * plane_pixels(); }
  bool operator==(const ImageShape&) const = default;
};

enum class PixelKind : std::uint8_t { kEmpty = 0, kSparse = 1, kShared = 2, kDense = 3 };
enum class ValueCoding : std::uint8_t {
  kFloat32 = 0,
  kSmallInteger = 1,
  kFloat16 = 2,
  kMostlyOneInteger = 3,
};
enum class Precision : std::uint8_t { kFloat32 = 1, kFloat16 = 2 };

namespace image_layout {

inline constexpr unsigned kKindMask = 0x03;
inline constexpr unsigned kCodingShift = 2;
inline constexpr unsigned kCodingMask = 0x03;
inline constexpr unsigned kWideGaps = 0x10;
inline constexpr unsigned kBlock = 0x20;
inline constexpr unsigned kReserved = 0xC0;

inline constexpr std::uint32_t kNarrowEscape = 0xFF;
inline constexpr std::uint32_t kWideEscape = 0xFFFF;
inline constexpr std::uint32_t kMaxBlock = 255;

// Bounds of section 6: nothing larger is allocated for a record.
[[nodiscard]] inline std::uint64_t max_index_bytes(const ImageShape& shape) noexcept {
  return std::uint64_t{shape.channels} * (16 + 4 * std::uint64_t{shape.plane_pixels()});
}
[[nodiscard]] inline std::uint64_t max_value_bytes(const ImageShape& shape) noexcept {
  return 4 * std::uint64_t{shape.pixels()};
}
// Preamble, both streams and the noise, each at most its raw size.
[[nodiscard]] inline std::uint64_t max_record_bytes(const ImageShape& shape) noexcept {
  return 64 + max_index_bytes(shape) + 2 * max_value_bytes(shape);
}

// Places of the planes of a channel in a coded record (section 3.3).
inline constexpr unsigned kValuePlacesMask = 0x0F;
inline constexpr unsigned kGapLowInLanes = 0x10;
inline constexpr unsigned kGapHighInLanes = 0x20;
inline constexpr unsigned kRestInValueStream = 0x40;

// Byte planes of a value coding.
[[nodiscard]] constexpr unsigned planes_of(ValueCoding coding) noexcept {
  switch (coding) {
    case ValueCoding::kFloat32:
      return 4;
    case ValueCoding::kFloat16:
      return 2;
    case ValueCoding::kSmallInteger:
      return 1;
    case ValueCoding::kMostlyOneInteger:
      break;
  }
  return 0;
}

}  // namespace image_layout
}  // namespace e2eio
