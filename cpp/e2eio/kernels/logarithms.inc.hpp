// log1p and asinh of float32 words, computed in float64: what is rounded to float32 is within 1 ulp
// of the true value. Loops without branches or calls, which compilers turn into vectors. After
// arithmetic.inc.hpp, whose rule holds here.

constexpr std::uint32_t kSign = 0x80000000U;
constexpr std::uint32_t kInfinity = 0x7F800000U;
constexpr std::uint32_t kQuietNan = 0x7FC00000U;

// log(t) for normal t > 0: t = 2^e m with m in [sqrt(1/2), sqrt(2)), and log(m) = 2 atanh(s) by its
// series in s = (m - 1) / (m + 1), |s| < 0.1716, whose next term is below 2^-39 of the sum.
double log_positive(double t) noexcept {
  constexpr std::uint64_t kOne = 0x3FF0000000000000U;
  constexpr std::uint64_t kRootHalf = 0x3FE6A09E667F3BCDU;
  constexpr std::uint64_t kTwo52 = 0x4330000000000000U;  // 2^52, whose last bits count ones
  const auto bits = std::bit_cast<std::uint64_t>(t);
  const std::uint64_t shifted = (bits + (kOne - kRootHalf)) >> 52U;  // e + 1023
  const auto m = std::bit_cast<double>(bits - (shifted << 52U) + kOne);
  const double e = std::bit_cast<double>(kTwo52 | shifted) - (0x1p52 + 1023);
  const double s = (m - 1) / (m + 1);
  const double q = s * s;
  const double series =
      1 + q * (1.0 / 3 +
               q * (1.0 / 5 + q * (1.0 / 7 + q * (1.0 / 9 + q * (1.0 / 11 + q * (1.0 / 13))))));
  return e * 0x1.62e42fefa39efp-1 + 2 * s * series;
}

// log(1 + u) for u > -1, with what the sum 1 + u loses put back.
double log_of_more(double u) noexcept {
  const double t = 1 + u;
  return log_positive(t) + (u - (t - 1)) / t;
}

// `chosen` where `is`, else `other`. GCC makes a branch of ?:, around arithmetic that may trap.
std::uint32_t pick(bool is, std::uint32_t chosen, std::uint32_t other) noexcept {
  const std::uint32_t mask = 0U - static_cast<std::uint32_t>(is);
  return (chosen & mask) | (other & ~mask);
}

void asinh(std::uint32_t* words, std::size_t n, float scale) noexcept {
  for (std::size_t i = 0; i < n; ++i) {
    const auto y = std::bit_cast<std::uint32_t>(std::bit_cast<float>(words[i]) / scale);
    const std::uint32_t size = y & ~kSign;
    const auto d = static_cast<double>(std::bit_cast<float>(size));
    const double u = d + d * d / (1 + std::sqrt(1 + d * d));
    const auto found = std::bit_cast<std::uint32_t>(static_cast<float>(log_of_more(u)));
    words[i] = pick(size < kInfinity, found | (y & kSign), y);
  }
}

void log1p(std::uint32_t* words, std::size_t n) noexcept {
  constexpr std::uint32_t kMinusOne = 0xBF800000U;
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint32_t y = words[i];
    const auto u = static_cast<double>(std::bit_cast<float>(y));
    std::uint32_t found = std::bit_cast<std::uint32_t>(static_cast<float>(log_of_more(u)));
    found = pick(y == kMinusOne, kInfinity | kSign, found);
    found = pick(y > kMinusOne, kQuietNan, found);
    // +-0 and infinity are what they were; so is NaN without a sign.
    found = pick((y & ~kSign) == 0, y, found);
    words[i] = pick(y - kInfinity < kSign - kInfinity, y, found);
  }
}
