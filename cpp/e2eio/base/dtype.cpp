#include "e2eio/base/dtype.hpp"

#include <array>

#include "e2eio/base/error.hpp"

namespace e2eio {
namespace {

struct Entry {
  DType dtype;
  std::size_t size;
  std::string_view name;
};

constexpr std::array<Entry, 13> kEntries{{{DType::kFloat32, 4, "float32"},
                                          {DType::kFloat64, 8, "float64"},
                                          {DType::kInt8, 1, "int8"},
                                          {DType::kInt16, 2, "int16"},
                                          {DType::kInt32, 4, "int32"},
                                          {DType::kInt64, 8, "int64"},
                                          {DType::kUInt8, 1, "uint8"},
                                          {DType::kUInt16, 2, "uint16"},
                                          {DType::kUInt32, 4, "uint32"},
                                          {DType::kUInt64, 8, "uint64"},
                                          {DType::kBool, 1, "bool"},
                                          {DType::kFloat16, 2, "float16"},
                                          {DType::kBFloat16, 2, "bfloat16"}}};

const Entry& entry_of(DType dtype) noexcept {
  for (const Entry& entry : kEntries) {
    if (entry.dtype == dtype) {
      return entry;
    }
  }
  return kEntries[0];
}

}  // namespace

std::size_t size_of(DType dtype) noexcept { return entry_of(dtype).size; }

std::string_view name_of(DType dtype) noexcept { return entry_of(dtype).name; }

DType dtype_named(std::string_view name) {
  for (const Entry& entry : kEntries) {
    if (entry.name == name) {
      return entry.dtype;
    }
  }
  throw Error(ErrorKind::kInvalidArgument,
              cat("unknown dtype '", name,
                  "'; expected float32, float64, int8 to int64, uint8 to "
                  "uint64, bool, float16 or bfloat16"));
}

}  // namespace e2eio
