// Words that are not zero, without intrinsics of an instruction set.

template <typename Word>
std::size_t list_nonzero(const std::byte* from, std::size_t n, std::uint32_t first,
                         std::uint32_t* positions, Word* words) noexcept {
  constexpr std::size_t kLine = 64 / sizeof(Word);
  std::size_t count = 0;
  std::size_t i = 0;
  const auto keep = [&](std::size_t at) {
    // Written always and kept if not zero: a branch would be missed half of the time.
    std::memcpy(words + count, from + at * sizeof(Word), sizeof(Word));
    positions[count] = first + static_cast<std::uint32_t>(at);
    count += words[count] != 0 ? 1 : 0;
  };
  for (; i + kLine <= n; i += kLine) {
    std::uint64_t any = 0;
    for (std::size_t k = 0; k < 64; k += 8) {
      std::uint64_t eight = 0;
      std::memcpy(&eight, from + i * sizeof(Word) + k, 8);
      any |= eight;
    }
    if (any != 0) {
      for (std::size_t k = 0; k < kLine; ++k) {
        keep(i + k);
      }
    }
  }
  for (; i < n; ++i) {
    keep(i);
  }
  return count;
}

std::size_t list_nonzero32(const std::byte* from, std::size_t n, std::uint32_t first,
                           std::uint32_t* positions, std::uint32_t* words) noexcept {
  return list_nonzero(from, n, first, positions, words);
}

std::size_t list_nonzero64(const std::byte* from, std::size_t n, std::uint32_t first,
                           std::uint32_t* positions, std::uint64_t* words) noexcept {
  return list_nonzero(from, n, first, positions, words);
}
