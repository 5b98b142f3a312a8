// Whole cache lines out of a staged sample, in terms of the lines of the set.

// Lines that are looked through before they are moved: their numbers stay in the first cache.
constexpr std::size_t kWordsAtOnce = 32;

template <void (*kCopy)(std::byte*, std::byte*), void (*kClear)(std::byte*)>
void transfer_lines(const LineTransfer& transfer) noexcept {
  std::array<std::uint16_t, 64 * kWordsAtOnce + 64> fresh;  // NOLINT(*-member-init): written first
  std::array<std::uint16_t, 64 * kWordsAtOnce + 64> stale;  // NOLINT(*-member-init): written first
  for (std::size_t first = 0; first < transfer.n_words; first += kWordsAtOnce) {
    const std::size_t n = std::min(kWordsAtOnce, transfer.n_words - first);
    std::size_t n_fresh = 0;
    std::size_t n_stale = 0;
    for (std::size_t w = 0; w < n; ++w) {
      const std::uint64_t now = take_flags(transfer.touched + 64 * (first + w));
      std::uint64_t& written = transfer.written[first + w];
      const std::uint64_t gone = written & ~now;
      if ((now | gone) == 0) {
        continue;
      }
      written = now;
      const auto base = static_cast<std::uint16_t>(64 * w);
      n_fresh += list_bits(now, base, fresh.data() + n_fresh);
      n_stale += list_bits(gone, base, stale.data() + n_stale);
    }
    std::byte* const out = transfer.out + std::size_t{64} * 64 * first;
    std::byte* const staged = transfer.staged + std::size_t{64} * 64 * first;
    for (std::size_t i = 0; i < n_fresh; ++i) {
      kCopy(staged + 64 * std::size_t{fresh[i]}, out + 64 * std::size_t{fresh[i]});
    }
    for (std::size_t i = 0; i < n_stale; ++i) {
      kClear(out + 64 * std::size_t{stale[i]});
    }
  }
}

void stream_lines(const LineTransfer& transfer) noexcept {
  transfer_lines<&stream_line, &stream_zeros>(transfer);
}

void store_lines(const LineTransfer& transfer) noexcept {
  transfer_lines<&store_line, &store_zeros>(transfer);
}
