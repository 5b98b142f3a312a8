#include <gtest/gtest.h>
#include <stdlib.h>

#include <bit>
#include <cmath>
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
  std::vector<std::uint32_t> positions(gaps.size());
  const GapResult result = set_.decode_gaps(gaps.data(), nullptr, 6, positions.data());
  positions.resize(result.n_positions);
  EXPECT_EQ(positions, (std::vector<std::uint32_t>{0, 5, 519, 774}));
  EXPECT_EQ(result.end, 775U);
}

TEST_P(Kernels, DecodeWideGaps) {
  const std::vector<std::uint8_t> low{0xFF, 0x01};
  const std::vector<std::uint8_t> high{0xFF, 0x02};
  std::vector<std::uint32_t> positions(2);
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

TEST_P(Kernels, ScatterFillsBlocksAndClearUndoesIt) {
  constexpr std::uint32_t kWidth = 12;
  for (const std::uint32_t block : {1U, 2U, 3U}) {
    for (const std::size_t stride : {std::size_t{1}, std::size_t{5}}) {
      std::vector<std::uint32_t> memory(kWidth * 12 * stride, 0);
      std::vector<std::uint32_t> expected = memory;
      const PixelTarget target{reinterpret_cast<std::byte*>(memory.data()), stride, kWidth, block};
      const std::vector<std::uint32_t> positions{0, block * 2, kWidth * block + block};
      const std::vector<std::uint32_t> values{11, 22, 33};
      for (std::size_t i = 0; i < positions.size(); ++i) {
        for (std::uint32_t y = 0; y < block; ++y) {
          for (std::uint32_t x = 0; x < block; ++x) {
            expected[(positions[i] + y * kWidth + x) * stride] = values[i];
          }
        }
      }
      set_.scatter32(target, positions.data(), values.data(), positions.size());
      EXPECT_EQ(memory, expected);
      set_.clear32(target, positions.data(), positions.size());
      EXPECT_EQ(memory, std::vector<std::uint32_t>(memory.size(), 0));
    }
  }
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
