// What a shard holds: one image field and any number of scalar fields.
#pragma once

#include <string>
#include <vector>

#include "e2eio/base/bytes.hpp"
#include "e2eio/base/dtype.hpp"
#include "e2eio/codec/image_layout.hpp"

namespace e2eio {

struct NameAndUnit {
  std::string name;
  std::string unit;
  bool operator==(const NameAndUnit&) const = default;
};

struct ScalarField {
  std::string name;
  DType dtype = DType::kFloat32;
  std::string unit;
  bool operator==(const ScalarField&) const = default;
};

struct Schema {
  std::string image_name;
  std::uint32_t height = 0;
  std::uint32_t width = 0;
  std::vector<NameAndUnit> channels;
  std::vector<ScalarField> scalars;
  Precision precision = Precision::kFloat32;

  [[nodiscard]] ImageShape shape() const noexcept {
    return {static_cast<std::uint32_t>(channels.size()), height, width};
  }
  bool operator==(const Schema&) const = default;
};

// Throws: Error(kInvalidArgument) unless the sizes are within docs/format.md section 6, names are
// unique, and texts are valid UTF-8 of at most 65,535 bytes.
void validate(const Schema& schema);

[[nodiscard]] Bytes encode_schema(const Schema& schema);

// Throws: Error(kCorrupt) without a place.
[[nodiscard]] Schema decode_schema(ByteView bytes);

}  // namespace e2eio
