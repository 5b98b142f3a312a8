#include "e2eio/codec/prefix_code.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <numeric>
#include <random>
#include <string>

#include "e2eio/codec/code_book.hpp"
#include "e2eio/kernels/kernel_set.hpp"

namespace e2eio {
namespace {

std::uint64_t kraft_sum(const CodeLengths& lengths) {  // in units of 2^-kMaxCodeBits
  std::uint64_t sum = 0;
  for (const std::uint8_t length : lengths.bits) {
    sum += length > 0 ? std::uint64_t{1} << (kMaxCodeBits - length) : 0U;
  }
  return sum;
}

SymbolCounts counts_of(const std::vector<std::uint64_t>& first) {
  SymbolCounts counts{};
  std::copy(first.begin(), first.end(), counts.begin());
  return counts;
}

SymbolCounts counts_of(const Bytes& plane) {
  SymbolCounts counts{};
  for (const std::byte byte : plane) {
    ++counts[static_cast<std::size_t>(byte)];
  }
  return counts;
}

// The least cost of any complete code of counts[at...] that fills `space` leaves of depth max_bits.
std::uint64_t least_cost(const std::vector<std::uint64_t>& counts, std::size_t at,
                         std::uint64_t space, unsigned max_bits) {
  constexpr std::uint64_t kNone = std::uint64_t{1} << 60U;
  if (at == counts.size()) {
    return space == 0 ? 0 : kNone;
  }
  std::uint64_t least = kNone;
  for (unsigned length = 1; length <= max_bits; ++length) {
    const std::uint64_t taken = std::uint64_t{1} << (max_bits - length);
    if (taken <= space) {
      least = std::min(least,
                       counts[at] * length + least_cost(counts, at + 1, space - taken, max_bits));
    }
  }
  return least;
}

TEST(PrefixCode, IsAsShortAsTheBestOfAllCodes) {
  std::mt19937 random(1);
  for (int repeat = 0; repeat < 300; ++repeat) {
    const std::size_t n = 2 + random() % 5;
    const unsigned max_bits = 3 + static_cast<unsigned>(random() % 3);
    std::vector<std::uint64_t> counts(n);
    for (std::uint64_t& count : counts) {
      count = 1 + (random() >> random() % 32);
    }
    const CodeLengths lengths = fit_lengths(counts_of(counts), max_bits);
    EXPECT_EQ(lengths.cost_bits(counts_of(counts)),
              least_cost(counts, 0, std::uint64_t{1} << max_bits, max_bits));
  }
}

TEST(PrefixCode, IsCompleteAndKeepsTheLimitForAnyCounts) {
  std::mt19937 random(2);
  for (int repeat = 0; repeat < 300; ++repeat) {
    const std::size_t n = 2 + random() % 255;
    std::vector<std::uint64_t> values(n);
    for (std::uint64_t& count : values) {
      count = 1 + (std::uint64_t{random()} << 16U >> random() % 48);
    }
    SymbolCounts counts = counts_of(values);
    std::shuffle(counts.begin(), counts.end(), random);
    const auto least = static_cast<unsigned>(std::bit_width(n - 1));
    const unsigned max_bits = least + static_cast<unsigned>(random() % (kMaxCodeBits + 1 - least));
    const CodeLengths lengths = fit_lengths(counts, max_bits);
    EXPECT_EQ(kraft_sum(lengths), std::uint64_t{1} << kMaxCodeBits);
    EXPECT_LE(lengths.longest(), max_bits);
    EXPECT_EQ(lengths.n_symbols, n);
    EXPECT_TRUE(lengths.covers(counts));
    for (std::size_t s = 0; s < counts.size(); ++s) {
      EXPECT_EQ(lengths.bits[s] > 0, counts[s] > 0);
    }
  }
}

TEST(PrefixCode, ReachesTheEntropyOfPowersOfTwo) {
  const SymbolCounts counts =
      counts_of(std::vector<std::uint64_t>{512, 256, 128, 64, 32, 16, 8, 8});
  const CodeLengths lengths = fit_lengths(counts, kMaxCodeBits);
  EXPECT_EQ(std::vector<int>(lengths.bits.begin(), lengths.bits.begin() + 8),
            (std::vector<int>{1, 2, 3, 4, 5, 6, 7, 7}));
  SymbolCounts flat{};
  flat.fill(3);
  EXPECT_EQ(fit_lengths(flat, kMaxCodeBits).cost_bits(flat), 8U * 3U * 256U);
}

TEST(PrefixCode, LimitsTheDepthOfFibonacciCounts) {
  std::vector<std::uint64_t> counts{1, 1};
  while (counts.size() < 40) {
    counts.push_back(counts.end()[-1] + counts.end()[-2]);
  }
  const CodeLengths lengths =
      fit_lengths(counts_of(counts), kMaxCodeBits);  // 39 bits without limit
  EXPECT_EQ(lengths.longest(), kMaxCodeBits);
  EXPECT_EQ(kraft_sum(lengths), std::uint64_t{1} << kMaxCodeBits);
}

TEST(PrefixCode, OfOneSymbolTakesNoBits) {
  SymbolCounts counts{};
  counts[77] = 5;
  const CodeLengths lengths = fit_lengths(counts, kMaxCodeBits);
  EXPECT_EQ(lengths.n_symbols, 1);
  EXPECT_EQ(lengths.only, 77);
  EXPECT_EQ(lengths.longest(), 0U);
  EXPECT_TRUE(lengths.covers(counts));
  EXPECT_EQ(lengths.cost_bits(counts), 0U);
  counts[78] = 1;
  EXPECT_FALSE(lengths.covers(counts));
}

CodeLengths lengths_of(const std::vector<std::uint8_t>& bits) {
  CodeLengths lengths;
  std::copy(bits.begin(), bits.end(), lengths.bits.begin());
  lengths.n_symbols = static_cast<std::uint16_t>(
      std::count_if(bits.begin(), bits.end(), [](std::uint8_t b) { return b > 0; }));
  return lengths;
}

TEST(PrefixCode, CodesAreCanonicalWithTheFirstBitLowest) {
  // By length, then symbol: c = 0, a = 10, b = 110, d = 111.
  const std::array<std::uint16_t, 256> codes = canonical_codes(lengths_of({2, 3, 1, 3}));
  EXPECT_EQ(codes[2], 0b0);
  EXPECT_EQ(codes[0], 0b01);
  EXPECT_EQ(codes[1], 0b011);
  EXPECT_EQ(codes[3], 0b111);
}

TEST(PrefixCode, TableRefusesWhatIsNotACompleteCode) {
  for (const std::vector<std::uint8_t>& bits : std::vector<std::vector<std::uint8_t>>{{},
                                                                                      {1},
                                                                                      {11},
                                                                                      {1, 2},
                                                                                      {2, 2, 2},
                                                                                      {1, 1, 1},
                                                                                      {1, 1, 11},
                                                                                      {1, 2, 3, 4},
                                                                                      {1, 12},
                                                                                      {255, 1}}) {
    EXPECT_THROW(DecodeTable{lengths_of(bits)}, Error) << ::testing::PrintToString(bits);
  }
  EXPECT_EQ(DecodeTable(lengths_of({1, 2, 2})).bits(), 2U);
}

// A plane of n symbols: the more `spread`, the more of them.
Bytes random_plane(std::mt19937& random, std::size_t n, int spread) {
  std::geometric_distribution<unsigned> drawn(1.0 / (1 + spread));
  Bytes plane(n);
  for (std::byte& byte : plane) {
    byte = static_cast<std::byte>(100 + drawn(random));
  }
  return plane;
}

// Lanes of a record, one after another behind `front` bytes, in memory of just this size: a
// sanitizer sees a byte read beyond.
struct PackedLanes {
  PackedLanes(const std::array<Bytes, kLanes>& lanes, std::size_t front, std::size_t behind) {
    Bytes bytes(front, std::byte{0xA5});
    for (std::size_t k = 0; k < kLanes; ++k) {
      set.at_bits[k] = 8 * bytes.size();
      append_bytes(bytes, lanes[k]);
      end_bytes[k] = bytes.size();
    }
    bytes.resize(bytes.size() + behind, std::byte{0x5A});
    memory = std::vector<std::byte>(bytes.begin(), bytes.end());
    set.record = reinterpret_cast<const std::uint8_t*>(memory.data());
    set.record_bytes = memory.size();
  }
  std::vector<std::byte> memory;
  LaneSet set;
  std::array<std::uint64_t, kLanes> end_bytes{};
};

class SymbolKernels : public ::testing::TestWithParam<const KernelSet*> {
 protected:
  Bytes decode(LaneSet& lanes, const CodeBook::Code& code, std::size_t n) const {
    std::vector<std::uint8_t> symbols(n);
    GetParam()->decode_symbols(lanes, code.table.entries(), code.table.bits(), n, symbols.data());
    const ByteView view = std::as_bytes(std::span(symbols));
    return {view.begin(), view.end()};
  }
  std::mt19937 random_{3};
};

TEST_P(SymbolKernels, ReturnPlanesOfAnyLengthAndUseTheLanesUp) {
  std::vector<std::size_t> lengths(71);
  std::iota(lengths.begin(), lengths.end(), 0U);
  lengths.insert(lengths.end(), {100, 1000, 4096, 4099});
  for (const std::size_t n : lengths) {
    for (const int spread : {0, 1, 3, 40, 5000}) {
      for (const std::size_t behind : {std::size_t{0}, std::size_t{1}, std::size_t{64}}) {
        const Bytes plane = random_plane(random_, n, spread);
        SymbolCounts counts = counts_of(plane);
        counts[100] += 1;
        const CodeBook::Code code(fit_lengths(counts, kMaxCodeBits));
        LaneWriter writer;
        writer.write(plane, code.lengths, code.codes);
        PackedLanes packed(writer.finish(), random_() % 9, behind);
        ASSERT_EQ(decode(packed.set, code, n), plane) << n << " symbols, spread " << spread;
        for (std::size_t k = 0; k < kLanes; ++k) {
          ASSERT_EQ((packed.set.at_bits[k] + 7) / 8, packed.end_bytes[k]) << "lane " << k;
        }
      }
    }
  }
}

TEST_P(SymbolKernels, GoOnWhereTheLastPlaneEnded) {
  for (int repeat = 0; repeat < 200; ++repeat) {
    std::vector<Bytes> planes;
    std::vector<CodeBook::Code> codes;
    LaneWriter writer;
    for (int p = 0; p < 12; ++p) {
      planes.push_back(random_plane(random_, random_() % 90, static_cast<int>(random_() % 60)));
      SymbolCounts counts = counts_of(planes.back());
      counts[random_() % 256] += 1;
      codes.emplace_back(fit_lengths(counts, 8 + static_cast<unsigned>(random_() % 4)));
      writer.write(planes.back(), codes.back().lengths, codes.back().codes);
    }
    PackedLanes packed(writer.finish(), 3, 0);
    for (std::size_t p = 0; p < planes.size(); ++p) {
      ASSERT_EQ(decode(packed.set, codes[p], planes[p].size()), planes[p]);
    }
  }
}

TEST_P(SymbolKernels, ReadNothingBeyondARecordThatIsTooShort) {
  for (int repeat = 0; repeat < 300; ++repeat) {
    const Bytes plane = random_plane(random_, 300, 30);
    const CodeBook::Code code(fit_lengths(counts_of(plane), kMaxCodeBits));
    LaneWriter writer;
    writer.write(plane, code.lengths, code.codes);
    PackedLanes packed(writer.finish(), 0, 0);
    packed.memory.resize(random_() % packed.memory.size());
    packed.memory.shrink_to_fit();
    packed.set.record = reinterpret_cast<const std::uint8_t*>(packed.memory.data());
    packed.set.record_bytes = packed.memory.size();
    LaneSet of_scalar = packed.set;
    std::vector<std::uint8_t> expected(plane.size());
    scalar_kernels()->decode_symbols(of_scalar, code.table.entries(), code.table.bits(),
                                     plane.size(), expected.data());
    const ByteView view = std::as_bytes(std::span(expected));
    ASSERT_EQ(decode(packed.set, code, plane.size()), Bytes(view.begin(), view.end()));
    ASSERT_EQ(packed.set.at_bits, of_scalar.at_bits);
  }
}

INSTANTIATE_TEST_SUITE_P(All, SymbolKernels, ::testing::ValuesIn(available_kernels()),
                         [](const auto& test) { return std::string(test.param->name); });

TEST(CodeBookTest, ReturnsFromItsSection) {
  std::mt19937 random(4);
  std::vector<SymbolCounts> counts(3 * kPlaneRoles, SymbolCounts{});
  for (std::size_t slot = 0; slot < counts.size(); slot += 2) {
    counts[slot] = counts_of(random_plane(random, 5000, static_cast<int>(slot)));
  }
  const CodeBook book(counts);
  const Bytes section = book.section();
  EXPECT_LE(section.size(), CodeBook::max_section_bytes(3));
  const CodeBook read(section, 3);
  EXPECT_EQ(read.section(), section);
  std::size_t n_codes = 0;
  for (std::uint32_t channel = 0; channel < 3; ++channel) {
    for (unsigned role = 0; role < kPlaneRoles; ++role) {
      const CodeBook::Code* const written = book.find(channel, static_cast<PlaneRole>(role));
      const CodeBook::Code* const found = read.find(channel, static_cast<PlaneRole>(role));
      ASSERT_EQ(written == nullptr, found == nullptr);
      if (found != nullptr) {
        EXPECT_EQ(found->lengths, written->lengths);
        ++n_codes;
      }
    }
  }
  EXPECT_EQ(n_codes, 9U);
}

TEST(CodeBookTest, LeavesNoiseAndWhatDoesNotPayWithoutACode) {
  std::mt19937 random(5);
  std::vector<SymbolCounts> counts(kPlaneRoles, SymbolCounts{});
  counts[0].fill(1000);                                  // noise
  counts[1] = counts_of(random_plane(random, 10, 60));   // too few for their lengths
  counts[2] = counts_of(random_plane(random, 5000, 3));  // worth a code
  counts[3] = counts_of(random_plane(random, 5000, 3));  // shares it
  counts[4] = counts_of(Bytes(1000, std::byte{9}));      // one symbol
  const CodeBook book(counts);
  EXPECT_EQ(book.find(0, value_role(0)), nullptr);
  EXPECT_EQ(book.find(0, value_role(1)), nullptr);
  EXPECT_NE(book.find(0, value_role(2)), nullptr);
  EXPECT_EQ(book.find(0, value_role(2)), book.find(0, value_role(3)));
  ASSERT_NE(book.find(0, PlaneRole::kGapLow), nullptr);
  EXPECT_EQ(book.find(0, PlaneRole::kGapLow)->lengths.only, 9);
  EXPECT_EQ(book.find(0, PlaneRole::kGapHigh), nullptr);
  EXPECT_EQ(CodeBook().find(0, PlaneRole::kGapLow), nullptr);
}

TEST(CodeBookTest, RefusesMalformedSections) {
  const auto section = [](std::vector<int> front, std::vector<int> numbers = {0, 0, 0, 0, 0, 0}) {
    front.insert(front.end(), numbers.begin(), numbers.end());
    Bytes bytes;
    for (const int byte : front) {
      bytes.push_back(static_cast<std::byte>(byte));
    }
    return bytes;
  };
  (void)CodeBook(section({1, 7, 9, 0x21, 0x02}), 1);             // lengths 1, 2, 2
  (void)CodeBook(section({1, 7, 7, 0}, {1, 1, 1, 1, 1, 1}), 1);  // one symbol
  const std::vector<Bytes> malformed{
      {},
      section({1}),
      section({1, 7, 9, 0x21, 0x12}),  // the unused half is not zero
      section({1, 9, 7, 0x21, 0x02}),  // last before first
      section({1, 7, 9, 0x20, 0x02}),  // the first has no code
      section({1, 7, 9, 0x21, 0x00}),  // nor the last
      section({1, 7, 9, 0x11, 0x01}),  // over-full
      section({1, 7, 9, 0x31, 0x03}),  // incomplete
      section({1, 7, 8, 0x1C}),        // 12 bits
      section({1, 7, 7, 1}),           // one symbol that takes bits
      section({1, 7, 7, 1}, {1, 1, 1, 1, 1, 1}),
      section({1, 7, 7, 0}, {2, 0, 0, 0, 0, 0}),  // code 2 of 1
      section({1, 7, 7, 0}, {0, 0, 0, 0, 0}),
      section({1, 7, 7, 0}, {0, 0, 0, 0, 0, 0, 0}),
      section({0x81, 0x08}),  // 1,025 codes
  };
  for (const Bytes& bytes : malformed) {
    EXPECT_THROW(CodeBook(bytes, 1), Error) << ::testing::PrintToString(bytes.size());
  }
}

}  // namespace
}  // namespace e2eio
