#include "e2eio/codec/code_book.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

namespace e2eio {
namespace {

// A plane is coded if that saves more than this part of it; what saves less is noise.
constexpr double kWorthwhile = 0.85;
// Longer codes are used only if they save more than this: short ones have small tables.
constexpr double kShorterCodes = 1.02;
// A code that fits another plane nearly as well is shared: fewer tables in the first cache.
constexpr double kSharedCodes = 1.005;

std::uint64_t total_of(const SymbolCounts& counts) {
  return std::accumulate(counts.begin(), counts.end(), std::uint64_t{0});
}

// No prefix code takes fewer bits.
double entropy_bits(const SymbolCounts& counts) {
  const auto total = static_cast<double>(total_of(counts));
  double bits = 0;
  for (const std::uint64_t count : counts) {
    const auto n = static_cast<double>(count);
    bits += count > 0 ? n * std::log2(total / n) : 0.0;
  }
  return bits;
}

// Symbols between the least and the largest seen may well come later: they get a long code.
SymbolCounts with_gaps_filled(const SymbolCounts& counts) {
  constexpr std::uint64_t kScale = 16;
  const auto seen = [](std::uint64_t count) { return count > 0; };
  const auto first = std::find_if(counts.begin(), counts.end(), seen);
  const auto last = std::find_if(counts.rbegin(), counts.rend(), seen).base();
  SymbolCounts filled{};
  for (auto at = first; at < last; ++at) {
    filled[static_cast<std::size_t>(at - counts.begin())] = *at == 0 ? 1 : *at * kScale;
  }
  return filled;
}

CodeLengths shortest_lengths(const SymbolCounts& counts) {
  const SymbolCounts filled = with_gaps_filled(counts);
  const CodeLengths best = fit_lengths(filled, kMaxCodeBits);
  const auto limit = static_cast<double>(best.cost_bits(counts)) * kShorterCodes;
  for (auto bits = static_cast<unsigned>(std::bit_width(best.n_symbols - 1U)); bits < kMaxCodeBits;
       ++bits) {
    const CodeLengths lengths = fit_lengths(filled, bits);
    if (static_cast<double>(lengths.cost_bits(counts)) <= limit) {
      return lengths;
    }
  }
  return best;
}

bool is_symbol(const CodeLengths& lengths, std::size_t s) {
  return lengths.bits[s] > 0 || (lengths.n_symbols == 1 && lengths.only == s);
}

// u8 first, u8 last, then a length in 4 bits for each symbol from first to last, low half first.
void append_lengths(Bytes& section, const CodeLengths& lengths) {
  std::size_t first = 0;
  std::size_t last = 255;
  for (; !is_symbol(lengths, first); ++first) {
  }
  for (; !is_symbol(lengths, last); --last) {
  }
  section.push_back(static_cast<std::byte>(first));
  section.push_back(static_cast<std::byte>(last));
  for (std::size_t s = first; s <= last; s += 2) {
    const unsigned high = s < last ? lengths.bits[s + 1] : 0U;
    section.push_back(static_cast<std::byte>(lengths.bits[s] | high << 4U));
  }
}

CodeLengths take_lengths(ByteCursor& cursor) {
  const std::size_t first = cursor.take<std::uint8_t>();
  const std::size_t last = cursor.take<std::uint8_t>();
  if (last < first) {
    throw Error(ErrorKind::kCorrupt, "codes: the last symbol is before the first");
  }
  CodeLengths lengths;
  unsigned byte = 0;
  for (std::size_t s = first; s <= last; ++s) {
    const bool low = (s - first) % 2 == 0;
    byte = low ? cursor.take<std::uint8_t>() : byte >> 4U;
    lengths.bits[s] = static_cast<std::uint8_t>(byte & 0xFU);
    if (lengths.bits[s] > 0) {
      ++lengths.n_symbols;
    }
  }
  const bool padded = (last - first) % 2 == 0;
  const bool single = first == last && lengths.bits[first] == 0;
  if (single) {
    lengths.n_symbols = 1;
    lengths.only = static_cast<std::uint8_t>(first);
  }
  if ((padded && byte >> 4U != 0) || lengths.longest() > kMaxCodeBits ||
      (!single && (lengths.bits[first] == 0 || lengths.bits[last] == 0))) {
    throw Error(ErrorKind::kCorrupt, "codes: malformed lengths");
  }
  return lengths;
}

}  // namespace

std::uint64_t CodeBook::max_section_bytes(std::uint32_t n_channels) noexcept {
  return 5 + kMaxCodes * 130 + 2 * kPlaneRoles * std::uint64_t{n_channels};
}

CodeBook::CodeBook(const std::vector<SymbolCounts>& counts) : numbers_(counts.size(), 0) {
  for (std::size_t slot = 0; slot < counts.size(); ++slot) {
    if (total_of(counts[slot]) > 0) {
      add(slot, counts[slot]);
    }
  }
}

void CodeBook::add(std::size_t slot, const SymbolCounts& counts) {
  const auto raw_bits = 8 * static_cast<double>(total_of(counts));
  if (entropy_bits(counts) > kWorthwhile * raw_bits) {
    return;  // spares fitting a code to noise
  }
  const CodeLengths lengths = shortest_lengths(counts);
  const auto cost = static_cast<double>(lengths.cost_bits(counts));
  Bytes own;
  append_lengths(own, lengths);
  const auto own_bits = 8 * static_cast<double>(own.size());
  const double limit = std::min(cost * kSharedCodes + own_bits, kWorthwhile * raw_bits);
  for (std::size_t k = 0; k < codes_.size(); ++k) {
    const CodeLengths& other = codes_[k]->lengths;
    if (other.covers(with_gaps_filled(counts)) &&
        static_cast<double>(other.cost_bits(counts)) <= limit) {
      numbers_[slot] = static_cast<std::uint32_t>(k + 1);
      return;
    }
  }
  // A shard of a few jets does not pay for the lengths.
  const bool worthwhile = cost <= kWorthwhile * raw_bits && cost + own_bits < raw_bits;
  if (worthwhile && codes_.size() < kMaxCodes) {
    codes_.push_back(std::make_shared<const Code>(lengths));
    numbers_[slot] = static_cast<std::uint32_t>(codes_.size());
  }
}

Bytes CodeBook::section() const {
  Bytes section;
  append_varint(section, static_cast<std::uint32_t>(codes_.size()));
  for (const auto& code : codes_) {
    append_lengths(section, code->lengths);
  }
  for (const std::uint32_t number : numbers_) {
    append_varint(section, number);
  }
  return section;
}

CodeBook::CodeBook(ByteView section, std::uint32_t n_channels) {
  ByteCursor cursor(section);
  const std::uint32_t n_codes = cursor.take_varint();
  if (n_codes > kMaxCodes) {
    throw Error(ErrorKind::kCorrupt, cat("codes: ", n_codes, ", at most ", kMaxCodes));
  }
  for (std::uint32_t k = 0; k < n_codes; ++k) {
    codes_.push_back(std::make_shared<const Code>(take_lengths(cursor)));
  }
  for (std::size_t slot = 0; slot < n_channels * kPlaneRoles; ++slot) {
    numbers_.push_back(cursor.take_varint());
    if (numbers_.back() > n_codes) {
      throw Error(ErrorKind::kCorrupt,
                  cat("codes: plane ", slot, " uses code ", numbers_.back(), " of ", n_codes));
    }
  }
  if (cursor.remaining() > 0) {
    throw Error(ErrorKind::kCorrupt, cat("codes: ", cursor.remaining(), " bytes left over"));
  }
}

}  // namespace e2eio
