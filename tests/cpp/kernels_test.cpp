#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <random>

#include "e2eio/base/error.hpp"
#include "e2eio/kernels/clear.hpp"
#include "e2eio/kernels/kernel_set.hpp"

namespace e2eio {
namespace {

class Kernels : public ::testing::TestWithParam<const KernelSet*> {
 protected:
  const KernelSet& set_ = *GetParam();
  std::mt19937 random_{1};
};

TEST_P(Kernels, DecodeGapsAsTheFormatSays) {
  // Position starts at -1; 255 moves by 255 and stores nothing.
  const std::vector<std::uint8_t> gaps{0, 4, 255, 255, 3, 254};
  std::vector<std::uint32_t> positions(gaps.size() + kPositionSlack);
  const GapResult result = set_.decode_gaps(gaps.data(), nullptr, 6, positions.data());
  positions.resize(result.n_positions);
  EXPECT_EQ(positions, (std::vector<std::uint32_t>{0, 5, 519, 774}));
  EXPECT_EQ(result.end, 775U);
}

TEST_P(Kernels, DecodeWideGaps) {
  const std::vector<std::uint8_t> low{0xFF, 0x01};
  const std::vector<std::uint8_t> high{0xFF, 0x02};
  std::vector<std::uint32_t> positions(2 + kPositionSlack);
  const GapResult result = set_.decode_gaps(low.data(), high.data(), 2, positions.data());
  EXPECT_EQ(result.n_positions, 1U);
  EXPECT_EQ(positions[0], 65535U + 0x201U);
}

TEST_P(Kernels, MergePlanesToTheRotatedBits) {
  for (const std::size_t n : {0U, 1U, 7U, 8U, 9U, 31U, 33U, 1000U}) {
    std::vector<std::uint32_t> words(n);
    std::array<std::vector<std::uint8_t>, 4> planes;
    for (std::uint32_t& word : words) {
      word = static_cast<std::uint32_t>(random_());
      for (unsigned p = 0; p < 4; ++p) {
        planes[p].push_back(static_cast<std::uint8_t>(std::rotl(word, 1) >> (8 * p)));
      }
    }
    std::vector<std::uint32_t> merged(n);
    set_.merge_float32({planes[0].data(), planes[1].data(), planes[2].data(), planes[3].data()}, n,
                       merged.data());
    EXPECT_EQ(merged, words);
  }
}

TEST_P(Kernels, EveryFloat16SurvivesWideningAndNarrowing) {
  for (std::uint32_t half = 0; half <= 0xFFFFU; ++half) {
    const auto rotated = static_cast<std::uint32_t>(std::rotl(static_cast<std::uint16_t>(half), 1));
    const std::uint8_t low = rotated & 0xFFU;
    const auto high = static_cast<std::uint8_t>(rotated >> 8U);
    std::uint32_t word = 0;
    set_.merge_float16({&low, &high}, 1, &word);
    std::uint16_t back = 0;
    set_.cast_float16(&word, 1, &back);
    const bool is_nan = (half & 0x7FFFU) > 0x7C00U;
    EXPECT_EQ(back, is_nan ? half | 0x200U : half);
    if (!is_nan && (half & 0x7C00U) != 0x7C00U) {
      const double mantissa = half & 0x3FFU;
      const int exponent = static_cast<int>(half >> 10U & 0x1FU);
      const double expected =
          exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
      EXPECT_EQ(std::fabs(std::bit_cast<float>(word)), expected);
    }
  }
}

TEST_P(Kernels, CastsRoundToNearestEven) {
  const auto half = [&](float value) {
    const auto word = std::bit_cast<std::uint32_t>(value);
    std::uint16_t out = 0;
    set_.cast_float16(&word, 1, &out);
    return out;
  };
  EXPECT_EQ(half(1.0F + 0x1p-11F), 0x3C00U);      // a tie, to even
  EXPECT_EQ(half(1.0F + 3 * 0x1p-11F), 0x3C02U);  // a tie, to even
  EXPECT_EQ(half(65519.0F), 0x7BFFU);
  EXPECT_EQ(half(65520.0F), 0x7C00U);
  EXPECT_EQ(half(0x1p-25F), 0x0000U);  // a tie between 0 and the least subnormal
  EXPECT_EQ(half(0x1.8p-25F), 0x0001U);
  EXPECT_EQ(half(-0.0F), 0x8000U);
  const std::array<std::uint32_t, 4> words{0x3F808000U, 0x3F818000U, 0x7F800001U, 0x80000000U};
  std::array<std::uint16_t, 4> out{};
  set_.cast_bfloat16(words.data(), 4, out.data());
  EXPECT_EQ(out, (std::array<std::uint16_t, 4>{0x3F80U, 0x3F82U, 0x7FC0U, 0x8000U}));
}

TEST_P(Kernels, DecodeGapsAsTheScalarSetDoes) {
  for (const bool wide : {false, true}) {
    for (std::size_t n = 1; n < 300; n += 1 + n / 20) {
      std::vector<std::uint8_t> low(n);
      std::vector<std::uint8_t> high(n);
      for (std::size_t i = 0; i < n; ++i) {
        // Escapes are frequent, alone and in rows.
        low[i] = random_() % 3 == 0 ? 0xFF : static_cast<std::uint8_t>(random_());
        high[i] = random_() % 2 == 0 ? low[i] : static_cast<std::uint8_t>(random_());
      }
      const std::uint8_t* const upper = wide ? high.data() : nullptr;
      std::vector<std::uint32_t> positions(n + kPositionSlack, 7);
      std::vector<std::uint32_t> expected(n + kPositionSlack, 7);
      const auto count = static_cast<std::uint32_t>(n);
      const GapResult result = set_.decode_gaps(low.data(), upper, count, positions.data());
      const GapResult reference =
          scalar_kernels()->decode_gaps(low.data(), upper, count, expected.data());
      EXPECT_EQ(result.end, reference.end);
      ASSERT_EQ(result.n_positions, reference.n_positions);
      positions.resize(result.n_positions);
      expected.resize(result.n_positions);
      EXPECT_EQ(positions, expected);
    }
  }
}

TEST_P(Kernels, ReportTheEndOfGapsThatLeave32Bits) {
  constexpr std::uint32_t kEntries = 70000;
  const std::vector<std::uint8_t> all(kEntries, 0xFF);
  std::vector<std::uint32_t> positions(kEntries + kPositionSlack);
  const GapResult result = set_.decode_gaps(all.data(), all.data(), kEntries, positions.data());
  EXPECT_EQ(result.end, std::uint64_t{kEntries} * 0xFFFF);
  EXPECT_EQ(result.n_positions, 0U);
}

TEST_P(Kernels, PlaceBlocksWhereTheDivisionSays) {
  for (const std::uint32_t columns : {1U, 2U, 25U, 125U, 375U, 65535U}) {
    for (const std::uint32_t block : {1U, 2U, 3U, 15U}) {
      const std::uint32_t width = columns * block;
      std::vector<std::uint32_t> positions(100);
      for (std::uint32_t& position : positions) {
        position = static_cast<std::uint32_t>(random_()) % (columns * 40U);
      }
      positions.push_back(0);
      positions.push_back(columns * 40U - 1);
      std::vector<std::uint32_t> expected;
      for (const std::uint32_t position : positions) {
        expected.push_back((position / columns * width + position % columns) * block);
      }
      set_.place_blocks(positions.data(), positions.size(), columns, width, block);
      EXPECT_EQ(positions, expected);
    }
  }
}

// Memory that begins at a multiple of a cache line. Thread rule: as a vector.
class Lines {
 public:
  explicit Lines(std::size_t n_lines) : bytes_((n_lines + 1) * 64, std::byte{0}) {}
  std::byte* data() {
    const auto address = reinterpret_cast<std::uintptr_t>(bytes_.data());
    return bytes_.data() + (64 - address % 64) % 64;
  }

 private:
  std::vector<std::byte> bytes_;
};

TEST_P(Kernels, ScatterFillsBlocksAndFlagsTheirLines) {
  constexpr std::uint32_t kWidth = 60;
  constexpr std::size_t kPixels = kWidth * 60;
  for (const std::size_t item : {std::size_t{4}, std::size_t{2}}) {
    for (const std::uint32_t block : {1U, 2U, 3U, 4U, 5U, 7U, 9U, 15U, 20U}) {
      for (const std::size_t stride : {std::size_t{1}, std::size_t{5}}) {
        const std::size_t shift = item * (random_() % (64 / item));
        const std::size_t n_lines = kPixels * stride * item / 64 + 2;
        Lines memory(n_lines);
        std::vector<std::byte> expected(n_lines * 64, std::byte{0});
        std::vector<std::uint8_t> touched(n_lines, 0);
        std::vector<std::uint8_t> expected_lines(n_lines, 0);
        std::vector<std::uint32_t> positions;
        std::vector<std::uint32_t> values32;
        std::vector<std::uint16_t> values16;
        for (std::uint32_t native = 0; native < (60 / block) * (60 / block); ++native) {
          if (random_() % 3 != 0) {
            continue;
          }
          const std::uint32_t y = native / (60 / block) * block;
          const std::uint32_t x = native % (60 / block) * block;
          positions.push_back(y * kWidth + x);
          values32.push_back(static_cast<std::uint32_t>(random_()));
          values16.push_back(static_cast<std::uint16_t>(values32.back()));
          for (std::size_t i = 0; i < std::size_t{block} * block; ++i) {
            const std::size_t pixel = positions.back() + i / block * kWidth + i % block;
            const std::size_t at = shift + pixel * stride * item;
            std::memcpy(&expected[at], &values32.back(), item);  // the low bytes come first
            expected_lines[at / 64] = 1;
          }
        }
        const PixelTarget target{.plane = memory.data() + shift,
                                 .stride = stride,
                                 .width = kWidth,
                                 .block = block,
                                 .origin = memory.data(),
                                 .touched = touched.data()};
        if (item == 4) {
          set_.scatter32(target, positions.data(), values32.data(), positions.size());
        } else {
          set_.scatter16(target, positions.data(), values16.data(), positions.size());
        }
        EXPECT_EQ(std::memcmp(memory.data(), expected.data(), expected.size()), 0)
            << "block " << block << " stride " << stride << " item " << item;
        EXPECT_EQ(touched, expected_lines);
      }
    }
  }
}

TEST_P(Kernels, MoveTouchedLinesAndClearStaleOnes) {
  for (const auto move : {set_.stream_lines, set_.store_lines}) {
    for (const std::size_t n_words : {std::size_t{1}, std::size_t{31}, std::size_t{70}}) {
      const std::size_t n_lines = 64 * n_words;
      Lines staged(n_lines);
      Lines out(n_lines);
      std::vector<std::uint8_t> touched(n_lines, 0);
      std::vector<std::uint64_t> written(n_words, 0);
      std::vector<std::byte> expected(n_lines * 64, std::byte{0});
      std::vector<std::uint64_t> masks(n_words, 0);
      for (std::size_t line = 0; line < n_lines; ++line) {
        const bool stale = random_() % 3 == 0;
        const bool fresh = line < 128 ? line % 2 == 0 : random_() % 4 == 0;
        if (stale) {
          std::memset(out.data() + line * 64, 9, 64);
          written[line / 64] |= std::uint64_t{1} << line % 64;
        }
        if (fresh) {
          const int value = 1 + static_cast<int>(random_() % 200);
          std::memset(staged.data() + line * 64 + random_() % 64, value, 1);
          std::memcpy(&expected[line * 64], staged.data() + line * 64, 64);
          touched[line] = 1;
          masks[line / 64] |= std::uint64_t{1} << line % 64;
        }
      }
      move({.staged = staged.data(),
            .out = out.data(),
            .touched = touched.data(),
            .written = written.data(),
            .n_words = n_words});
      fence_nontemporal();
      EXPECT_EQ(std::memcmp(out.data(), expected.data(), expected.size()), 0);
      EXPECT_EQ(written, masks);
      EXPECT_EQ(touched, std::vector<std::uint8_t>(n_lines, 0));
      EXPECT_EQ(std::vector<std::byte>(staged.data(), staged.data() + n_lines * 64),
                std::vector<std::byte>(n_lines * 64, std::byte{0}));
    }
  }
}

template <typename Word>
void expect_listed(std::mt19937& random,
                   std::size_t (*list)(const std::byte*, std::size_t, std::uint32_t, std::uint32_t*,
                                       Word*) noexcept) {
  for (std::size_t n = 0; n < 300; ++n) {
    std::vector<Word> words(n, 0);
    std::vector<std::uint32_t> positions;
    std::vector<Word> held;
    for (std::size_t i = 0; i < n; ++i) {
      const unsigned share = n % 3 == 0 ? 1 : 40;  // all of them, or few
      if (random() % share == 0) {
        // One bit anywhere: -0.0 and denormals are stored like every other value.
        words[i] = static_cast<Word>(Word{1} << random() % (8 * sizeof(Word)));
        positions.push_back(static_cast<std::uint32_t>(1000 + i));
        held.push_back(words[i]);
      }
    }
    std::vector<std::byte> memory(n * sizeof(Word) + 1);
    std::memcpy(memory.data() + 1, words.data(), n * sizeof(Word));  // of no alignment
    std::vector<std::uint32_t> got_positions(n + kPositionSlack);
    std::vector<Word> got(n + kPositionSlack);
    const std::size_t count = list(memory.data() + 1, n, 1000, got_positions.data(), got.data());
    got_positions.resize(count);
    got.resize(count);
    EXPECT_EQ(got_positions, positions) << n;
    EXPECT_EQ(got, held) << n;
  }
}

TEST_P(Kernels, ListWordsThatAreNotZero) {
  expect_listed<std::uint32_t>(random_, set_.list_nonzero32);
  expect_listed<std::uint64_t>(random_, set_.list_nonzero64);
}

INSTANTIATE_TEST_SUITE_P(All, Kernels, ::testing::ValuesIn(available_kernels()),
                         [](const auto& test) { return std::string(test.param->name); });

TEST(Dispatch, TakesTheSetThatTheEnvironmentNames) {
  ::setenv("E2EIO_KERNELS", "scalar", 1);
  EXPECT_EQ(selected_kernels().name, "scalar");
  ::setenv("E2EIO_KERNELS", "mmx", 1);
  EXPECT_THROW((void)selected_kernels(), Error);
  ::unsetenv("E2EIO_KERNELS");
  EXPECT_EQ(&selected_kernels(), available_kernels().front());
}

TEST(Clear, LeavesTheNeighboursAlone) {
  for (std::size_t begin = 0; begin < 70; ++begin) {
    for (const std::size_t size : {0U, 1U, 63U, 64U, 65U, 300U}) {
      std::vector<std::byte> memory(512, std::byte{9});
      clear_nontemporal(std::span(memory).subspan(begin, size));
      for (std::size_t i = 0; i < memory.size(); ++i) {
        ASSERT_EQ(memory[i], i >= begin && i < begin + size ? std::byte{0} : std::byte{9});
      }
    }
  }
}

}  // namespace
}  // namespace e2eio
