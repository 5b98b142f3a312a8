// What a sample holds, in 64 bits, however it is stored: docs/format.md, section 7.1.
#pragma once

#include <cstdint>
#include <vector>

#include "e2eio/codec/image_decoder.hpp"
#include "e2eio/codec/image_scan.hpp"
#include "e2eio/format/schema.hpp"

namespace e2eio {

// Of the pixels that are not +0.0, as they came: the same for all layouts of one image. Any thread.
[[nodiscard]] std::uint64_t pixels_digest(const std::vector<ChannelScan>& channels,
                                          const ImageShape& shape) noexcept;

// The same of a decoded record. Requires: all channels were wanted, in their order.
[[nodiscard]] std::uint64_t pixels_digest(const DecodedImage& image,
                                          const ImageShape& shape) noexcept;

// What one scalar field adds. Equal values give equal digests, whatever their dtypes.
// Thread rule: immutable; any thread.
class ScalarDigest {
 public:
  explicit ScalarDigest(const ScalarField& field);

  // `value` is one value of the field's dtype.
  [[nodiscard]] std::uint64_t operator()(const std::byte* value) const;

 private:
  std::uint64_t key_;
  DType dtype_;
};

}  // namespace e2eio
