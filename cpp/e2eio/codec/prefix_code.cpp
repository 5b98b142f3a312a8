#include "e2eio/codec/prefix_code.hpp"

#include <algorithm>
#include <iterator>
#include <utility>

namespace e2eio {

bool CodeLengths::covers(const SymbolCounts& counts) const noexcept {
  for (std::size_t s = 0; s < counts.size(); ++s) {
    if (counts[s] > 0 && bits[s] == 0 && !(n_symbols == 1 && only == s)) {
      return false;
    }
  }
  return true;
}

std::uint64_t CodeLengths::cost_bits(const SymbolCounts& counts) const noexcept {
  std::uint64_t cost = 0;
  for (std::size_t s = 0; s < counts.size(); ++s) {
    cost += counts[s] * bits[s];
  }
  return cost;
}

std::optional<std::uint64_t> CodeLengths::cost_bits(ByteView plane) const noexcept {
  std::uint64_t cost = 0;
  std::size_t n_uncoded = 0;
  for (const std::byte symbol : plane) {
    const std::uint8_t length = bits[static_cast<std::size_t>(symbol)];
    cost += length;
    n_uncoded += length == 0 ? 1 : 0;
  }
  if (n_symbols == 1) {  // its code has no bits
    n_uncoded -= static_cast<std::size_t>(
        std::count(plane.begin(), plane.end(), static_cast<std::byte>(only)));
  }
  return n_uncoded == 0 ? std::optional(cost) : std::nullopt;
}

unsigned CodeLengths::longest() const noexcept {
  return *std::max_element(bits.begin(), bits.end());
}

namespace {

// An item of a level of package-merge: a symbol, or a pair of items of the level before.
struct Item {
  std::uint64_t weight = 0;
  bool is_pair = false;
};

std::vector<Item> pairs_of(const std::vector<Item>& level) {
  std::vector<Item> pairs;
  for (std::size_t i = 0; i + 1 < level.size(); i += 2) {
    pairs.push_back({level[i].weight + level[i + 1].weight, true});
  }
  return pairs;
}

}  // namespace

CodeLengths fit_lengths(const SymbolCounts& counts, unsigned max_bits) {
  CodeLengths lengths;
  std::vector<std::uint8_t> symbols;
  symbols.reserve(counts.size());
  for (std::size_t s = 0; s < counts.size(); ++s) {
    if (counts[s] > 0) {
      symbols.push_back(static_cast<std::uint8_t>(s));
    }
  }
  lengths.n_symbols = static_cast<std::uint16_t>(symbols.size());
  if (symbols.size() == 1) {
    lengths.only = symbols.front();
    return lengths;
  }
  std::sort(symbols.begin(), symbols.end(), [&](std::uint8_t a, std::uint8_t b) {
    return counts[a] != counts[b] ? counts[a] < counts[b] : a < b;
  });
  std::vector<Item> singles(symbols.size());
  std::transform(symbols.begin(), symbols.end(), singles.begin(),
                 [&](std::uint8_t symbol) { return Item{counts[symbol], false}; });
  std::vector<std::vector<Item>> levels{singles};
  while (levels.size() < max_bits) {
    const std::vector<Item> pairs = pairs_of(levels.back());
    std::vector<Item> level;
    std::merge(singles.begin(), singles.end(), pairs.begin(), pairs.end(),
               std::back_inserter(level),
               [](const Item& a, const Item& b) { return a.weight < b.weight; });
    levels.push_back(std::move(level));
  }
  // The lightest items of the last level, then those that their pairs hold; each time that a symbol
  // is among them its code grows by a bit.
  std::size_t n_taken = 2 * symbols.size() - 2;
  for (std::size_t k = levels.size(); k-- > 0;) {
    const auto begin = levels[k].begin();
    const auto n_pairs =
        static_cast<std::size_t>(std::count_if(begin, begin + static_cast<std::ptrdiff_t>(n_taken),
                                               [](const Item& item) { return item.is_pair; }));
    for (std::size_t s = 0; s < n_taken - n_pairs; ++s) {
      ++lengths.bits[symbols[s]];
    }
    n_taken = 2 * n_pairs;
  }
  return lengths;
}

std::array<std::uint16_t, 256> canonical_codes(const CodeLengths& lengths) {
  std::array<std::uint16_t, 256> codes{};
  unsigned code = 0;
  for (unsigned length = 1; length <= kMaxCodeBits; ++length) {
    for (std::size_t s = 0; s < codes.size(); ++s) {
      if (lengths.bits[s] != length) {
        continue;
      }
      unsigned reversed = 0;
      for (unsigned bit = 0; bit < length; ++bit) {
        reversed |= (code >> bit & 1U) << (length - 1 - bit);
      }
      codes[s] = static_cast<std::uint16_t>(reversed);
      ++code;
    }
    code <<= 1U;
  }
  return codes;
}

DecodeTable::DecodeTable(const CodeLengths& lengths) : bits_(lengths.longest()) {
  if (lengths.n_symbols == 1 && bits_ == 0) {
    entries_.assign(1, static_cast<std::uint16_t>(lengths.only << 8U));
    return;
  }
  std::uint64_t space = 0;
  for (const std::uint8_t length : lengths.bits) {
    const bool used = length > 0 && length <= kMaxCodeBits;
    space += used ? std::uint64_t{1} << (kMaxCodeBits - length) : 0U;
  }
  if (bits_ > kMaxCodeBits || space != std::uint64_t{1} << kMaxCodeBits) {
    throw Error(ErrorKind::kCorrupt, "codes: the lengths do not make a complete prefix code");
  }
  entries_.resize(std::size_t{1} << bits_);
  const std::array<std::uint16_t, 256> codes = canonical_codes(lengths);
  for (std::size_t s = 0; s < codes.size(); ++s) {
    const unsigned length = lengths.bits[s];
    if (length == 0) {
      continue;
    }
    for (std::size_t i = codes[s]; i < entries_.size(); i += std::size_t{1} << length) {
      entries_[i] = static_cast<std::uint16_t>(s << 8U | length);
    }
  }
}

void LaneWriter::write(ByteView plane, const CodeLengths& lengths,
                       const std::array<std::uint16_t, 256>& codes) {
  for (std::size_t k = 0; k < kLanes; ++k) {
    Lane& lane = lanes_[k];
    // Whole words at a time, and as many bytes as symbols at most: a code has at most 11 bits.
    const std::size_t begin = lane.bytes.size();
    lane.bytes.resize(begin + 2 * (plane.size() / kLanes + 1) + sizeof(std::uint32_t));
    std::byte* out = lane.bytes.data() + begin;
    std::uint64_t window = lane.window;
    unsigned valid = lane.valid;
    for (std::size_t i = k; i < plane.size(); i += kLanes) {
      const auto symbol = static_cast<std::size_t>(plane[i]);
      window |= std::uint64_t{codes[symbol]} << valid;
      valid += lengths.bits[symbol];
      if (valid >= 32) {
        store(out, static_cast<std::uint32_t>(window));
        out += sizeof(std::uint32_t);
        window >>= 32U;
        valid -= 32;
      }
    }
    lane.bytes.resize(static_cast<std::size_t>(out - lane.bytes.data()));
    lane.window = window;
    lane.valid = valid;
  }
}

std::array<Bytes, kLanes> LaneWriter::finish() {
  std::array<Bytes, kLanes> bytes;
  for (std::size_t k = 0; k < kLanes; ++k) {
    Lane& lane = lanes_[k];
    for (unsigned done = 0; done < lane.valid; done += 8) {
      lane.bytes.push_back(static_cast<std::byte>(lane.window >> done));
    }
    bytes[k] = std::move(lane.bytes);
    lane = Lane{};
  }
  return bytes;
}

}  // namespace e2eio
