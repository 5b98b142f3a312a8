// Every set does what the scalar set does, bit by bit, and touches nothing else.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "e2eio/kernels/kernel_set.hpp"

namespace e2eio {
namespace {

constexpr std::size_t kMostWords = 70;
constexpr std::size_t kGuards = 64;

// Words that are hard to round or to compare, then random ones.
std::vector<std::uint32_t> hard_words(std::size_t n, std::mt19937& random) {
  std::vector<std::uint32_t> words;
  for (const std::uint32_t sign : {0U, 0x80000000U}) {
    for (const std::uint32_t magnitude :
         {0x00000000U, 0x00000001U, 0x007FFFFFU, 0x00800000U, 0x32FFFFFFU, 0x33000000U,
          0x33000001U, 0x33800000U, 0x387FC000U, 0x387FE000U, 0x387FF000U, 0x387FFFFFU,
          0x38800000U, 0x38801000U, 0x38803000U, 0x3F800000U, 0x3F808000U, 0x3F818000U,
          0x477FE000U, 0x477FEFFFU, 0x477FF000U, 0x7F7FFFFFU, 0x7F800000U, 0x7F800001U,
          0x7F801FFFU, 0x7F802000U, 0x7FBFFFFFU, 0x7FC00000U, 0x7FFFFFFFU}) {
      words.push_back(sign | magnitude);
    }
  }
  std::shuffle(words.begin(), words.end(), random);
  while (words.size() < n) {
    words.push_back(static_cast<std::uint32_t>(random()));
  }
  return words;
}

class KernelSets : public ::testing::TestWithParam<const KernelSet*> {
 protected:
  // Calls kernel(set, n, in, out) with inputs that end where their memory does, at every length and
  // alignment, and compares what the two sets leave in `out`, beyond its end too.
  template <typename In, typename Out, typename Kernel>
  void expect_equal(const std::vector<In>& source, Kernel kernel) {
    for (std::size_t n = 0; n <= kMostWords; ++n) {
      for (std::size_t shift = 0; shift < 4; ++shift) {
        const std::size_t first = random_() % (source.size() - n + 1);
        const std::vector<In> in(source.begin() + static_cast<std::ptrdiff_t>(first),
                                 source.begin() + static_cast<std::ptrdiff_t>(first + n));
        std::vector<In> shifted(shift);
        shifted.insert(shifted.end(), in.begin(), in.end());
        std::vector<Out> expected(shift + n + kGuards, Out{0x5A});
        std::vector<Out> out = expected;
        kernel(*scalar_kernels(), n, in.data(), expected.data() + shift);
        kernel(set_, n, shifted.data() + shift, out.data() + shift);
        ASSERT_EQ(out, expected) << n << " words, shifted by " << shift;
      }
    }
  }

  // The same for kernels that work in place.
  template <typename Kernel>
  void expect_equal_in_place(Kernel kernel) {
    expect_equal<std::uint32_t, std::uint32_t>(
        hard_words(4000, random_),
        [&](const KernelSet& set, std::size_t n, const std::uint32_t* in, std::uint32_t* out) {
          std::copy_n(in, n, out);
          kernel(set, out, n);
        });
  }

  const KernelSet& set_ = *GetParam();
  std::mt19937 random_{7};
};

TEST_P(KernelSets, MergeFourPlanes) {
  std::vector<std::uint32_t> rotated = hard_words(4000, random_);
  for (std::uint32_t& word : rotated) {
    word = std::rotl(word, 1);
  }
  expect_equal<std::uint32_t, std::uint32_t>(
      rotated,
      [](const KernelSet& set, std::size_t n, const std::uint32_t* in, std::uint32_t* out) {
        std::array<std::vector<std::uint8_t>, 4> planes;
        for (unsigned p = 0; p < 4; ++p) {
          for (std::size_t i = 0; i < n; ++i) {
            planes[p].push_back(static_cast<std::uint8_t>(in[i] >> 8 * p));
          }
          planes[p].shrink_to_fit();
        }
        set.merge_float32({planes[0].data(), planes[1].data(), planes[2].data(), planes[3].data()},
                          n, out);
      });
}

TEST_P(KernelSets, MergeTwoPlanes) {
  std::vector<std::uint16_t> halves(0x10000);
  for (std::size_t i = 0; i < halves.size(); ++i) {
    halves[i] = static_cast<std::uint16_t>(i);
  }
  const auto merge = [](const KernelSet& set, std::size_t n, const std::uint16_t* in,
                        std::uint32_t* out) {
    std::array<std::vector<std::uint8_t>, 2> planes;
    for (std::size_t i = 0; i < n; ++i) {
      const auto rotated = std::rotl(in[i], 1);
      planes[0].push_back(static_cast<std::uint8_t>(rotated));
      planes[1].push_back(static_cast<std::uint8_t>(rotated >> 8));
    }
    planes[0].shrink_to_fit();
    planes[1].shrink_to_fit();
    set.merge_float16({planes[0].data(), planes[1].data()}, n, out);
  };
  // All there are, in order and mixed: what is special comes alone and in groups.
  std::vector<std::uint32_t> all(halves.size());
  std::vector<std::uint32_t> expected(halves.size());
  merge(set_, halves.size(), halves.data(), all.data());
  merge(*scalar_kernels(), halves.size(), halves.data(), expected.data());
  EXPECT_EQ(all, expected);
  std::shuffle(halves.begin(), halves.end(), random_);
  merge(set_, halves.size(), halves.data(), all.data());
  merge(*scalar_kernels(), halves.size(), halves.data(), expected.data());
  EXPECT_EQ(all, expected);
  expect_equal<std::uint16_t, std::uint32_t>(halves, merge);
}

TEST_P(KernelSets, CastEveryUpperHalfWithHardLowerHalves) {
  std::vector<std::uint32_t> words;
  for (std::uint32_t upper = 0; upper <= 0xFFFFU; ++upper) {
    for (const std::uint32_t lower : {0x0000U, 0x0001U, 0x0FFFU, 0x1000U, 0x1001U, 0x1FFFU, 0x2000U,
                                      0x7FFFU, 0x8000U, 0x8001U, 0xFFFFU}) {
      words.push_back(upper << 16U | lower);
    }
    words.push_back(static_cast<std::uint32_t>(random_()));
  }
  std::vector<std::uint16_t> out(words.size());
  std::vector<std::uint16_t> expected(words.size());
  set_.cast_float16(words.data(), words.size(), out.data());
  scalar_kernels()->cast_float16(words.data(), words.size(), expected.data());
  EXPECT_EQ(out, expected);
  set_.cast_bfloat16(words.data(), words.size(), out.data());
  scalar_kernels()->cast_bfloat16(words.data(), words.size(), expected.data());
  EXPECT_EQ(out, expected);
}

TEST_P(KernelSets, CastAtEveryLength) {
  for (const auto cast : {&KernelSet::cast_float16, &KernelSet::cast_bfloat16}) {
    expect_equal<std::uint32_t, std::uint16_t>(
        hard_words(4000, random_), [&](const KernelSet& set, std::size_t n, const std::uint32_t* in,
                                       std::uint16_t* out) { (set.*cast)(in, n, out); });
  }
}

TEST_P(KernelSets, ComputeInFloat32) {
  // A fused product and sum would give 2^-46 for the first word.
  const std::uint32_t word = std::bit_cast<std::uint32_t>(1.0F + 0x1p-23F);
  std::vector<std::uint32_t> many(20, word);
  set_.affine(many.data(), many.size(), 1.0F + 0x1p-23F, -(1.0F + 0x1p-22F));
  EXPECT_EQ(many, std::vector<std::uint32_t>(20, 0U));
  for (const float factor : {1.0F, 0.02F, -3e38F, 0.0F}) {
    for (const float offset : {0.0F, -0.0F, 1.5F, -3e38F}) {
      expect_equal_in_place([&](const KernelSet& set, std::uint32_t* words, std::size_t n) {
        set.affine(words, n, factor, offset);
      });
    }
  }
}

// Float32 values between neighbours of the true value, which float64 gives nearly.
void expect_near(std::uint32_t word, double expected) {
  const auto found = std::bit_cast<float>(word);
  const auto nearest = static_cast<float>(expected);
  if (std::isnan(expected) || std::isinf(nearest)) {
    EXPECT_TRUE(std::isnan(expected) ? std::isnan(found) : found == nearest) << found;
    return;
  }
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_GE(found, std::nextafter(nearest, -infinity)) << expected;
  EXPECT_LE(found, std::nextafter(nearest, infinity)) << expected;
  EXPECT_EQ(std::signbit(found), std::signbit(nearest)) << expected;
}

TEST_P(KernelSets, TakeLogarithms) {
  const float infinity = std::numeric_limits<float>::infinity();
  std::vector<float> values{0.0F,
                            -0.0F,
                            1.0F,
                            -1.0F,
                            -1.5F,
                            infinity,
                            -infinity,
                            0x1p-149F,
                            -0x1p-149F,
                            0x1.fffffep127F,
                            -0.5F,
                            -0x1.fffffep-1F,
                            std::numeric_limits<float>::quiet_NaN(),
                            1e-4F,
                            0.3F};
  for (const std::uint32_t word : hard_words(4000, random_)) {
    values.push_back(std::bit_cast<float>(word));
  }
  std::vector<std::uint32_t> words(values.size());
  std::transform(values.begin(), values.end(), words.begin(),
                 [](float x) { return std::bit_cast<std::uint32_t>(x); });
  std::vector<std::uint32_t> logs = words;
  set_.log1p(logs.data(), logs.size());
  set_.asinh(words.data(), words.size(), 0.3F);
  for (std::size_t i = 0; i < values.size(); ++i) {
    expect_near(logs[i], std::log1p(static_cast<double>(values[i])));
    expect_near(words[i], std::asinh(static_cast<double>(values[i] / 0.3F)));
  }
  expect_equal_in_place(
      [](const KernelSet& set, std::uint32_t* some, std::size_t n) { set.log1p(some, n); });
  for (const float scale : {1.0F, 0.3F, 0x1p-149F, 3e38F}) {
    expect_equal_in_place([scale](const KernelSet& set, std::uint32_t* some, std::size_t n) {
      set.asinh(some, n, scale);
    });
  }
}

TEST_P(KernelSets, ChooseAmongWords) {
  const float infinity = std::numeric_limits<float>::infinity();
  for (const float limit : {0.0F, -0.0F, 0.001F, 1.0F, 0x1p-149F, infinity}) {
    expect_equal_in_place([&](const KernelSet& set, std::uint32_t* words, std::size_t n) {
      set.clip(words, n, -limit, limit);
    });
    for (const auto replace :
         {&KernelSet::replace_below, &KernelSet::replace_above, &KernelSet::replace_small}) {
      expect_equal_in_place([&](const KernelSet& set, std::uint32_t* words, std::size_t n) {
        (set.*replace)(words, n, limit, -7.5F);
      });
    }
  }
}

TEST_P(KernelSets, KeepBitsOfWhatIsNotReplaced) {
  const std::uint32_t nan = 0x7F800001U;
  const std::uint32_t minus_zero = 0x80000000U;
  const std::vector<std::uint32_t> source{nan, minus_zero, 0x3F800000U, 0xBF800000U, 0x00000001U};
  std::vector<std::uint32_t> words = source;
  set_.clip(words.data(), words.size(), 0.0F, 0.5F);
  EXPECT_EQ(words, (std::vector<std::uint32_t>{nan, minus_zero, 0x3F000000U, 0U, 0x00000001U}));
  words = source;
  set_.replace_small(words.data(), words.size(), 0.5F, 0.0F);
  EXPECT_EQ(words, (std::vector<std::uint32_t>{nan, 0U, 0x3F800000U, 0xBF800000U, 0U}));
  words = source;
  set_.replace_below(words.data(), words.size(), 0.0F, 2.0F);
  EXPECT_EQ(words, (std::vector<std::uint32_t>{nan, minus_zero, 0x3F800000U, 0x40000000U, 1U}));
  words = source;
  set_.replace_above(words.data(), words.size(), 0.0F, 2.0F);
  EXPECT_EQ(words,
            (std::vector<std::uint32_t>{nan, minus_zero, 0x40000000U, 0xBF800000U, 0x40000000U}));
}

TEST_P(KernelSets, DecodeGapsWithinTheirMemory) {
  for (const bool wide : {false, true}) {
    for (const unsigned escapes : {0U, 1U, 3U, 10U}) {
      for (std::uint32_t n = 0; n <= kMostWords; ++n) {
        std::vector<std::uint8_t> low(n);
        std::vector<std::uint8_t> high(n);
        for (std::uint32_t i = 0; i < n; ++i) {
          const bool escape = random_() % 10 < escapes;
          low[i] = escape ? 0xFF : static_cast<std::uint8_t>(random_());
          high[i] = escape ? 0xFF : static_cast<std::uint8_t>(random_());
        }
        std::vector<std::uint32_t> positions(n + kPositionSlack + kGuards, 7);
        std::vector<std::uint32_t> expected = positions;
        const std::uint8_t* const upper = wide ? high.data() : nullptr;
        const GapResult reference =
            scalar_kernels()->decode_gaps(low.data(), upper, n, expected.data());
        const GapResult result = set_.decode_gaps(low.data(), upper, n, positions.data());
        ASSERT_EQ(result.end, reference.end);
        ASSERT_EQ(result.n_positions, reference.n_positions);
        const auto used = static_cast<std::ptrdiff_t>(result.n_positions);
        ASSERT_TRUE(std::equal(expected.begin(), expected.begin() + used, positions.begin()));
        for (std::size_t i = n + kPositionSlack; i < positions.size(); ++i) {
          ASSERT_EQ(positions[i], 7U) << "entry " << i << " of " << n;
        }
      }
    }
  }
}

// A complete code with lengths from 1 to `bits`, so that lanes drift apart.
std::vector<std::uint16_t> skewed_table(unsigned bits) {
  std::vector<std::uint16_t> table(std::size_t{1} << bits);
  for (std::size_t at = 0; at < table.size(); ++at) {
    const unsigned ones = static_cast<unsigned>(std::countr_one(at));
    const unsigned length = std::min(ones + 1, bits);
    table[at] = static_cast<std::uint16_t>((3 * ones + 1) << 8U | length);
  }
  return table;
}

TEST_P(KernelSets, DecodeSymbolsOfEveryTableSize) {
  for (unsigned bits = 0; bits <= 11; ++bits) {
    const std::vector<std::uint16_t> table = skewed_table(bits);
    for (const std::size_t record_bytes : {0U, 3U, 7U, 8U, 9U, 40U, 333U}) {
      // Many ones make long codes; the lanes may run beyond the end of the record.
      std::vector<std::uint8_t> record(record_bytes);
      for (std::size_t n = 0; n < 150; n += 1 + n / 30) {
        // Ones alone: all codes are as long as codes can be.
        const unsigned ones = random_() % 3 == 0 ? 0xFFU : 0U;
        for (std::uint8_t& byte : record) {
          byte = static_cast<std::uint8_t>(random_() | random_() | ones);
        }
        LaneSet lanes{.record = record.data(), .record_bytes = record.size(), .at_bits = {}};
        for (std::size_t k = 0; k < kLanes; ++k) {
          lanes.at_bits[k] = random_() % (2 * record_bytes + 1) + 2 * k;
        }
        LaneSet expected_lanes = lanes;
        std::vector<std::uint8_t> symbols(n + kGuards, 0x5A);
        std::vector<std::uint8_t> expected = symbols;
        // One lane after another, a bit at a time, is what the format says.
        for (std::size_t i = 0; i < n; ++i) {
          std::uint64_t& at = expected_lanes.at_bits[i % kLanes];
          std::size_t next = 0;
          for (unsigned b = 0; b < bits; ++b) {
            const std::uint64_t bit = at + b;
            const unsigned byte = bit / 8 < record.size() ? record[bit / 8] : 0U;
            next |= std::size_t{byte >> bit % 8 & 1U} << b;
          }
          expected[i] = static_cast<std::uint8_t>(table[next] >> 8U);
          at += table[next] & 0xFFU;
        }
        set_.decode_symbols(lanes, table.data(), bits, n, symbols.data());
        ASSERT_EQ(symbols, expected) << bits << " bits, " << n << " symbols";
        ASSERT_EQ(lanes.at_bits, expected_lanes.at_bits);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, KernelSets, ::testing::ValuesIn(available_kernels()),
                         [](const auto& test) { return std::string(test.param->name); });

}  // namespace
}  // namespace e2eio
