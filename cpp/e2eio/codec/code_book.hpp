// The prefix codes of a shard: which plane of which channel uses which (docs/format.md 2.6).
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "e2eio/base/bytes.hpp"
#include "e2eio/codec/prefix_code.hpp"

namespace e2eio {

// What the bytes of a plane are: byte p of the values (p = 0 the lowest), or of the gaps.
enum class PlaneRole : std::uint8_t { kValue0 = 0, kGapLow = 4, kGapHigh = 5 };
inline constexpr std::size_t kPlaneRoles = 6;
inline constexpr std::size_t kMaxCodes = 1024;

[[nodiscard]] constexpr PlaneRole value_role(unsigned plane) noexcept {
  return static_cast<PlaneRole>(plane);
}

// Thread rule: immutable once made; any thread.
class CodeBook {
 public:
  struct Code {
    explicit Code(const CodeLengths& fitted)
        : lengths(fitted), codes(canonical_codes(fitted)), table(fitted) {}
    CodeLengths lengths;
    std::array<std::uint16_t, 256> codes;
    DecodeTable table;
  };

  CodeBook() = default;

  // Throws: Error(kCorrupt) without a place.
  CodeBook(ByteView section, std::uint32_t n_channels);

  // Codes for planes with these counts, [channel * kPlaneRoles + role]; none where bytes do not
  // compress. Codes that fit several planes are shared.
  explicit CodeBook(const std::vector<SymbolCounts>& counts);

  [[nodiscard]] Bytes section() const;

  // The code of a plane; null: it has none. Requires: channel < n_channels.
  [[nodiscard]] const Code* find(std::uint32_t channel, PlaneRole role) const noexcept {
    const std::size_t slot = channel * kPlaneRoles + static_cast<std::size_t>(role);
    const std::uint32_t number = slot < numbers_.size() ? numbers_[slot] : 0;
    return number == 0 ? nullptr : codes_[number - 1].get();
  }

  // The largest section that n_channels channels can need.
  [[nodiscard]] static std::uint64_t max_section_bytes(std::uint32_t n_channels) noexcept;

 private:
  void add(std::size_t slot, const SymbolCounts& counts);

  std::vector<std::shared_ptr<const Code>> codes_;
  std::vector<std::uint32_t> numbers_;  // [channel * kPlaneRoles + role]: 1 + number of the code
};

}  // namespace e2eio
