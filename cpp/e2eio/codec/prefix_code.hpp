// Prefix (Huffman) codes of bytes with at most kMaxCodeBits bits, made once per shard.
//
// Jets are alike: codes fitted to the first samples serve all. A record then carries no tables,
// which is what a general compressor spends most of its time on with records this short
// (docs/design/0001-record-coding.md).
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "e2eio/base/bytes.hpp"
#include "e2eio/kernels/lanes.hpp"

namespace e2eio {

inline constexpr unsigned kMaxCodeBits = 11;  // a table of 2^11 entries stays in the first cache

using SymbolCounts = std::array<std::uint64_t, 256>;

// Code lengths of docs/format.md 2.6: 0 for a symbol that has no code. A code of a single symbol
// has length 0 as well, and takes no bits.
struct CodeLengths {
  std::array<std::uint8_t, 256> bits{};
  std::uint16_t n_symbols = 0;
  std::uint8_t only = 0;  // the symbol, if n_symbols is 1

  // Whether every symbol that occurs has a code.
  [[nodiscard]] bool covers(const SymbolCounts& counts) const noexcept;
  // Bits that these symbols take. Requires: covers(counts).
  [[nodiscard]] std::uint64_t cost_bits(const SymbolCounts& counts) const noexcept;
  // Bits that a plane takes; none if one of its symbols has no code.
  [[nodiscard]] std::optional<std::uint64_t> cost_bits(ByteView plane) const noexcept;
  [[nodiscard]] unsigned longest() const noexcept;
  bool operator==(const CodeLengths&) const = default;
};

// Optimal lengths of at most `max_bits` (package-merge: Larmore and Hirschberg, JACM 37, 1990).
// Requires: at least one count; at most 2^max_bits.
[[nodiscard]] CodeLengths fit_lengths(const SymbolCounts& counts, unsigned max_bits);

// Canonical codes, lowest bit first: bits of symbol s are code[s], lengths.bits[s] of them.
[[nodiscard]] std::array<std::uint16_t, 256> canonical_codes(const CodeLengths& lengths);

// The table that decode_symbols() reads: entry [next bits] = symbol << 8 | length.
// Thread rule: immutable; any thread.
class DecodeTable {
 public:
  // Throws: Error(kCorrupt) unless the lengths are those of a complete code.
  explicit DecodeTable(const CodeLengths& lengths);
  [[nodiscard]] const std::uint16_t* entries() const noexcept { return entries_.data(); }
  [[nodiscard]] unsigned bits() const noexcept { return bits_; }

 private:
  unsigned bits_;
  std::vector<std::uint16_t> entries_;
};

// Bits of kLanes lanes; symbol i of a plane goes to lane i mod kLanes.
// Thread rule: as a vector.
class LaneWriter {
 public:
  void write(ByteView plane, const CodeLengths& lengths,
             const std::array<std::uint16_t, 256>& codes);
  // The bytes of each lane, the last one filled up with zero bits.
  [[nodiscard]] std::array<Bytes, kLanes> finish();

 private:
  struct Lane {
    Bytes bytes;
    std::uint64_t window = 0;
    unsigned valid = 0;
  };
  std::array<Lane, kLanes> lanes_;
};

}  // namespace e2eio
