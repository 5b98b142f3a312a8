// Element types of scalar fields and of delivered batches.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace e2eio {

// Values are the dtype codes of docs/format.md section 2.4; the last two occur in memory only.
enum class DType : std::uint8_t {
  kFloat32 = 1,
  kFloat64 = 2,
  kInt8 = 3,
  kInt16 = 4,
  kInt32 = 5,
  kInt64 = 6,
  kUInt8 = 7,
  kUInt16 = 8,
  kUInt32 = 9,
  kUInt64 = 10,
  kBool = 11,
  kFloat16 = 101,
  kBFloat16 = 102,
};

inline constexpr std::uint8_t kLastStoredDType = 11;

[[nodiscard]] std::size_t size_of(DType dtype) noexcept;

// numpy's name: "float32", "bool", ... ("bfloat16" is not numpy's).
[[nodiscard]] std::string_view name_of(DType dtype) noexcept;

// Throws: Error(kInvalidArgument) for a name that is none of the above.
[[nodiscard]] DType dtype_named(std::string_view name);

}  // namespace e2eio
