// One recycled buffer of the ring: a dense batch, and the memory of which lines are not zero.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "e2eio/base/memory.hpp"
#include "e2eio/pipeline/staging.hpp"

namespace e2eio {

// Thread rule: different samples may be worked on by different threads at once; the rest by one.
class Slot {
 public:
  Slot(const BatchGeometry& geometry, std::size_t n_samples, const PageLock& page_lock = {});

  [[nodiscard]] std::byte* sample(std::size_t i) const noexcept {
    return memory_.data() + i * geometry_.sample_bytes();
  }
  [[nodiscard]] std::byte* data() const noexcept { return memory_.data(); }
  [[nodiscard]] std::size_t n_bytes() const noexcept { return memory_.n_bytes(); }
  [[nodiscard]] bool page_locked() const noexcept { return memory_.page_locked(); }

  // Makes sample i hold `image`; Staging::finish() after the last one of a run.
  void put(std::size_t i, const DecodedImage& image, Staging& staging);

  // A cache line that belongs to one part alone, and its bit in the masks of the sample.
  struct Line {
    const std::byte* bytes = nullptr;
    std::size_t bit = 0;
  };
  // Pseudo-random lines of sample i; asks for them, so that they are there when they are looked at.
  using Canaries = std::array<Line, 32>;
  void choose_canaries(std::size_t i, std::uint64_t key, Canaries& canaries) const noexcept;

  // Returns false if one of these lines was not written and is not zero: somebody wrote into the
  // sample behind our back.
  [[nodiscard]] bool alive(std::size_t i, const Canaries& canaries) const noexcept;

  // The holder may have written anywhere: all lines are written the next time.
  void distrust() noexcept;

 private:
  [[nodiscard]] std::byte* part(std::size_t i, std::size_t part) const noexcept {
    return sample(i) + part * geometry_.part_bytes();
  }
  [[nodiscard]] std::span<std::uint64_t> written(std::size_t i) noexcept {
    return std::span(written_).subspan(i * geometry_.sample_words(), geometry_.sample_words());
  }

  BatchGeometry geometry_;
  ZeroedMemory memory_;
  LinePath path_;
  std::size_t n_samples_;
  std::vector<std::uint64_t> written_;  // [sample][part][word]: lines that are not all zero
};

}  // namespace e2eio
