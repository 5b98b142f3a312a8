// Runs of equal pixels, one after another.

template <typename T>
inline void fill_run(T* run, T value, std::uint32_t n) noexcept {
  for (std::uint32_t i = 0; i < n; ++i) {
    run[i] = value;
  }
}
