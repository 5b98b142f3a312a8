// Little-endian loads and stores, varints, and a bounds-checked cursor over bytes.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "e2eio/base/error.hpp"

namespace e2eio {

static_assert(std::endian::native == std::endian::little, "e2eio runs on little-endian machines");

using ByteView = std::span<const std::byte>;
using Bytes = std::vector<std::byte>;

template <typename T>
[[nodiscard]] inline T load(const std::byte* from) noexcept {
  static_assert(std::is_trivially_copyable_v<T>);
  T value;
  std::memcpy(&value, from, sizeof(T));
  return value;
}

template <typename T>
inline void store(std::byte* to, T value) noexcept {
  static_assert(std::is_trivially_copyable_v<T>);
  std::memcpy(to, &value, sizeof(T));
}

template <typename T>
void append(Bytes& to, T value) {
  const std::size_t at = to.size();
  to.resize(at + sizeof(T));
  store(to.data() + at, value);
}

inline void append_bytes(Bytes& to, ByteView from) {
  if (!from.empty()) {
    const std::size_t at = to.size();
    to.resize(at + from.size());
    std::memcpy(to.data() + at, from.data(), from.size());
  }
}

// Unsigned LEB128, shortest form.
inline void append_varint(Bytes& to, std::uint32_t value) {
  while (value >= 0x80U) {
    to.push_back(static_cast<std::byte>(value | 0x80U));
    value >>= 7U;
  }
  to.push_back(static_cast<std::byte>(value));
}

[[nodiscard]] inline ByteView as_bytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

// Reads forward and refuses to read past the end.
// Thread rule: one thread at a time. Does not own the bytes.
// Throws: Error(kCorrupt) without a place; the caller knows it and adds it.
class ByteCursor {
 public:
  explicit ByteCursor(ByteView bytes) : bytes_(bytes) {}

  template <typename T>
  [[nodiscard]] T take() {
    return load<T>(take_bytes(sizeof(T)).data());
  }

  [[nodiscard]] ByteView take_bytes(std::size_t count) {
    if (count > remaining()) {
      throw Error(ErrorKind::kCorrupt,
                  cat("needs ", count, " bytes at ", position_, ", has ", remaining()));
    }
    const ByteView taken = bytes_.subspan(position_, count);
    position_ += count;
    return taken;
  }

  [[nodiscard]] std::uint32_t take_varint() {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 35; shift += 7) {
      const auto byte = take<std::uint8_t>();
      value |= static_cast<std::uint64_t>(byte & 0x7FU) << shift;
      if (byte < 0x80U) {
        const bool overlong = shift > 0 && byte == 0;
        if (overlong || value > 0xFFFFFFFFULL) {
          break;
        }
        return static_cast<std::uint32_t>(value);
      }
    }
    throw Error(ErrorKind::kCorrupt, cat("malformed varint before byte ", position_));
  }

  [[nodiscard]] std::string take_string() {
    const auto size = take<std::uint16_t>();
    const ByteView text = take_bytes(size);
    std::string result(size, '\0');
    if (size > 0) {
      std::memcpy(result.data(), text.data(), size);
    }
    return result;
  }

  [[nodiscard]] std::size_t position() const noexcept { return position_; }
  [[nodiscard]] std::size_t remaining() const noexcept { return bytes_.size() - position_; }

 private:
  ByteView bytes_;
  std::size_t position_ = 0;
};

}  // namespace e2eio
