#include "e2eio/base/checksum.hpp"

#include <algorithm>
#include <array>

#if defined(__x86_64__)
#include <nmmintrin.h>
#include <wmmintrin.h>
#endif

namespace e2eio {
namespace {

constexpr std::uint32_t kPolynomial = 0x82F63B78U;  // 0x1EDC6F41 reflected

constexpr std::array<std::uint32_t, 256> make_table() {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t value = i;
    for (int bit = 0; bit < 8; ++bit) {
      value = (value >> 1U) ^ ((value & 1U) != 0 ? kPolynomial : 0U);
    }
    table[i] = value;
  }
  return table;
}

constexpr std::array<std::uint32_t, 256> kTable = make_table();

#if defined(__x86_64__)
// The instruction takes 8 bytes per cycle, but 3 cycles until its result can be used: three chains,
// over three pieces of equal length that follow one another, keep it busy. Up to 256 steps each.
constexpr std::size_t kStep = 8;
constexpr std::size_t kMaxSteps = 256;
constexpr std::size_t kMinSteps = 8;  // shorter ones do not pay for joining

// Element j is x^(64 j - 33) modulo the polynomial, bits reflected: the carry-less product with it
// (x), reduced by the instruction (x^32), moves a CRC past 8 j bytes.
constexpr std::array<std::uint32_t, 2 * kMaxSteps + 1> make_moves() {
  std::array<std::uint32_t, 2 * kMaxSteps + 1> moves{};
  std::uint32_t power = 0x80000000U;  // x^0
  std::size_t exponent = 0;
  for (std::size_t j = 1; j < moves.size(); ++j) {
    for (; exponent < 64 * j - 33; ++exponent) {
      power = (power >> 1U) ^ ((power & 1U) != 0 ? kPolynomial : 0U);
    }
    moves[j] = power;
  }
  return moves;
}

constexpr auto kMoves = make_moves();

__attribute__((target("sse4.2,pclmul"))) std::uint64_t product(std::uint64_t a,
                                                               std::uint32_t b) noexcept {
  const __m128i wide = _mm_clmulepi64_si128(_mm_cvtsi64_si128(static_cast<std::int64_t>(a)),
                                            _mm_cvtsi32_si128(static_cast<std::int32_t>(b)), 0);
  return static_cast<std::uint64_t>(_mm_cvtsi128_si64(wide));
}

__attribute__((target("sse4.2,pclmul"))) std::uint32_t crc32c_sse42(ByteView bytes,
                                                                    std::uint32_t value) noexcept {
  std::uint64_t state = ~value;
  const std::byte* at = bytes.data();
  std::size_t left = bytes.size();
  while (left >= 3 * kStep * kMinSteps) {
    const std::size_t steps = std::min(left / (3 * kStep), kMaxSteps);
    const std::size_t piece = steps * kStep;
    std::uint64_t second = 0;
    std::uint64_t third = 0;
    for (const std::byte* const end = at + piece; at != end; at += kStep) {
      state = _mm_crc32_u64(state, load<std::uint64_t>(at));
      second = _mm_crc32_u64(second, load<std::uint64_t>(at + piece));
      third = _mm_crc32_u64(third, load<std::uint64_t>(at + 2 * piece));
    }
    const std::uint64_t moved = product(state, kMoves[2 * steps]) ^ product(second, kMoves[steps]);
    state = _mm_crc32_u64(0, moved) ^ third;
    at += 2 * piece;
    left -= 3 * piece;
  }
  for (; left >= kStep; left -= kStep, at += kStep) {
    state = _mm_crc32_u64(state, load<std::uint64_t>(at));
  }
  auto low = static_cast<std::uint32_t>(state);
  for (; left > 0; --left, ++at) {
    low = _mm_crc32_u8(low, static_cast<std::uint8_t>(*at));
  }
  return ~low;
}
#endif

}  // namespace

std::uint32_t crc32c_table(ByteView bytes, std::uint32_t value) noexcept {
  std::uint32_t state = ~value;
  for (const std::byte byte : bytes) {
    state = (state >> 8U) ^ kTable[(state ^ static_cast<std::uint32_t>(byte)) & 0xFFU];
  }
  return ~state;
}

std::uint32_t crc32c(ByteView bytes, std::uint32_t value) noexcept {
#if defined(__x86_64__)
  static const bool has_instruction =
      __builtin_cpu_supports("sse4.2") != 0 && __builtin_cpu_supports("pclmul") != 0;
  if (has_instruction) {
    return crc32c_sse42(bytes, value);
  }
#endif
  return crc32c_table(bytes, value);
}

}  // namespace e2eio
