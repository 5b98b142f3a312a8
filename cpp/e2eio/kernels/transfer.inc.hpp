// Whole cache lines out of a staged sample, in terms of the lines of the set.

// Lines that are looked through before they are moved: their numbers stay in the first cache.
constexpr std::size_t kWordsAtOnce = 32;

// Lines that held something and do not now are moved like the others: what is staged there is zero.
template <void (*kMove)(std::byte*, std::byte*)>
void transfer_lines(const LineTransfer& transfer) noexcept {
  std::array<std::uint16_t, 64 * kWordsAtOnce + 64> lines;  // NOLINT(*-member-init): written first
  for (std::size_t first = 0; first < transfer.n_words; first += kWordsAtOnce) {
    const std::size_t n = std::min(kWordsAtOnce, transfer.n_words - first);
    std::size_t n_lines = 0;
    for (std::size_t w = 0; w < n; ++w) {
      const std::uint64_t now = take_flags(transfer.touched + 64 * (first + w));
      std::uint64_t& written = transfer.written[first + w];
      const std::uint64_t either = now | written;
      if (either == 0) {
        continue;
      }
      written = now;
      n_lines += list_bits(either, static_cast<std::uint16_t>(64 * w), lines.data() + n_lines);
    }
    std::byte* const out = transfer.out + std::size_t{64} * 64 * first;
    std::byte* const staged = transfer.staged + std::size_t{64} * 64 * first;
    for (std::size_t i = 0; i < n_lines; ++i) {
      kMove(staged + 64 * std::size_t{lines[i]}, out + 64 * std::size_t{lines[i]});
    }
  }
}

void stream_lines(const LineTransfer& transfer) noexcept { transfer_lines<&stream_line>(transfer); }

void store_lines(const LineTransfer& transfer) noexcept { transfer_lines<&store_line>(transfer); }
