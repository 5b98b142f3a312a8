// IEEE arithmetic on float32 words. Each operation rounds by itself: the build contracts none to
// a fused one, or sets would differ.

void affine(std::uint32_t* words, std::size_t n, float factor, float offset) noexcept {
  for (std::size_t i = 0; i < n; ++i) {
    words[i] = std::bit_cast<std::uint32_t>(std::bit_cast<float>(words[i]) * factor + offset);
  }
}

// What is kept keeps its bits: comparisons choose among words, and are false for NaN.
void clip(std::uint32_t* words, std::size_t n, float low, float high) noexcept {
  const auto low_word = std::bit_cast<std::uint32_t>(low);
  const auto high_word = std::bit_cast<std::uint32_t>(high);
  for (std::size_t i = 0; i < n; ++i) {
    const auto x = std::bit_cast<float>(words[i]);
    const std::uint32_t raised = x < low ? low_word : words[i];
    words[i] = x > high ? high_word : raised;
  }
}

void replace_below(std::uint32_t* words, std::size_t n, float limit, float value) noexcept {
  const auto word = std::bit_cast<std::uint32_t>(value);
  for (std::size_t i = 0; i < n; ++i) {
    words[i] = std::bit_cast<float>(words[i]) < limit ? word : words[i];
  }
}

void replace_above(std::uint32_t* words, std::size_t n, float limit, float value) noexcept {
  const auto word = std::bit_cast<std::uint32_t>(value);
  for (std::size_t i = 0; i < n; ++i) {
    words[i] = std::bit_cast<float>(words[i]) > limit ? word : words[i];
  }
}

void replace_small(std::uint32_t* words, std::size_t n, float limit, float value) noexcept {
  const auto word = std::bit_cast<std::uint32_t>(value);
  for (std::size_t i = 0; i < n; ++i) {
    words[i] = std::bit_cast<float>(words[i] & 0x7FFFFFFFU) < limit ? word : words[i];
  }
}
