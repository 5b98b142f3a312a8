#include "e2eio/format/content.hpp"

#include <bit>
#include <cmath>

namespace e2eio {
namespace {

// Sebastiano Vigna's splitmix64, without its counter: one to one, and every bit depends on all.
std::uint64_t mix(std::uint64_t value) noexcept {
  value += 0x9E3779B97F4A7C15ULL;
  value = (value ^ (value >> 30U)) * 0xBF58476D1CE4E5B9ULL;
  value = (value ^ (value >> 27U)) * 0x94D049BB133111EBULL;
  return value ^ (value >> 31U);
}

std::uint64_t pixel(std::uint64_t place, std::uint32_t word) noexcept {
  return mix(place << 32U | word);
}

// FNV-1a, 64 bits: http://www.isthe.com/chongo/tech/comp/fnv
std::uint64_t name_key(std::string_view name) noexcept {
  std::uint64_t key = 0xCBF29CE484222325ULL;
  for (const char c : name) {
    key = (key ^ static_cast<unsigned char>(c)) * 0x100000001B3ULL;
  }
  return key;
}

// A number is its kind and 64 bits.
struct Number {
  enum Kind : std::uint64_t { kInteger = 0, kLargeInteger = 1, kFraction = 2 };
  Kind kind = kInteger;
  std::uint64_t bits = 0;
};

Number of_signed(std::int64_t value) noexcept {
  return {Number::kInteger, std::bit_cast<std::uint64_t>(value)};
}

Number of_unsigned(std::uint64_t value) noexcept {
  return {value >> 63U != 0 ? Number::kLargeInteger : Number::kInteger, value};
}

Number of_float(double value) noexcept {
  constexpr double kLimit = 9223372036854775808.0;  // 2^63
  const bool negative_zero = value == 0 && std::signbit(value);
  if (value >= -kLimit && value < kLimit && value == std::trunc(value) && !negative_zero) {
    return of_signed(static_cast<std::int64_t>(value));
  }
  return {Number::kFraction, std::bit_cast<std::uint64_t>(value)};
}

Number number_at(const std::byte* at, DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return of_float(static_cast<double>(load<float>(at)));
    case DType::kFloat64:
      return of_float(load<double>(at));
    case DType::kInt8:
      return of_signed(load<std::int8_t>(at));
    case DType::kInt16:
      return of_signed(load<std::int16_t>(at));
    case DType::kInt32:
      return of_signed(load<std::int32_t>(at));
    case DType::kInt64:
      return of_signed(load<std::int64_t>(at));
    case DType::kUInt8:
    case DType::kBool:
      return of_unsigned(load<std::uint8_t>(at));
    case DType::kUInt16:
      return of_unsigned(load<std::uint16_t>(at));
    case DType::kUInt32:
      return of_unsigned(load<std::uint32_t>(at));
    case DType::kUInt64:
      return of_unsigned(load<std::uint64_t>(at));
    case DType::kFloat16:
    case DType::kBFloat16:
      break;
  }
  throw Error(ErrorKind::kInvalidArgument, "a scalar field of a dtype that is not stored");
}

}  // namespace

std::uint64_t pixels_digest(const std::vector<ChannelScan>& channels,
                            const ImageShape& shape) noexcept {
  std::uint64_t sum = 0;
  std::uint64_t first = 0;
  for (const ChannelScan& channel : channels) {
    for (std::size_t i = 0; i < channel.words.size(); ++i) {
      sum += pixel(first + channel.positions[i], channel.words[i]);
    }
    first += shape.plane_pixels();
  }
  return sum;
}

std::uint64_t pixels_digest(const DecodedImage& image, const ImageShape& shape) noexcept {
  std::uint64_t sum = 0;
  std::uint64_t first = 0;
  for (const ChannelPixels& channel : image.channels) {
    const std::uint32_t columns = shape.width / channel.block;
    for (std::uint32_t i = 0; i < channel.n; ++i) {
      const std::uint32_t word = image.words[channel.first_word + i];
      if (word == 0) {
        continue;
      }
      const std::uint64_t corner = channel.dense
                                       ? std::uint64_t{i / columns} * channel.block * shape.width +
                                             std::uint64_t{i % columns} * channel.block
                                       : std::uint64_t{image.positions[channel.first_position + i]};
      for (std::uint32_t y = 0; y < channel.block; ++y) {
        for (std::uint32_t x = 0; x < channel.block; ++x) {
          sum += pixel(first + corner + std::uint64_t{y} * shape.width + x, word);
        }
      }
    }
    first += shape.plane_pixels();
  }
  return sum;
}

ScalarDigest::ScalarDigest(const ScalarField& field)
    : key_(name_key(field.name)), dtype_(field.dtype) {}

std::uint64_t ScalarDigest::operator()(const std::byte* value) const {
  const Number number = number_at(value, dtype_);
  return mix(mix(key_ + number.kind) ^ number.bits);
}

}  // namespace e2eio
