#include "e2eio/pipeline/slot.hpp"

#include <algorithm>

#include "e2eio/base/bytes.hpp"
#include "e2eio/plan/permutation.hpp"

namespace e2eio {
namespace {

// Batches below this size go through the caches: their consumer finds them there
// (docs/design/0006-lines.md).
constexpr std::size_t kStreamedBatchBytes = std::size_t{4} << 20U;

}  // namespace

Slot::Slot(const BatchGeometry& geometry, std::size_t n_samples, const PageLock& page_lock)
    : geometry_(geometry),
      memory_(n_samples * geometry.sample_bytes(), page_lock),
      path_(memory_.n_bytes() < kStreamedBatchBytes ? LinePath::kStore : LinePath::kStream),
      n_samples_(n_samples),
      written_(n_samples * geometry.sample_words(), 0) {}

void Slot::put(std::size_t i, const DecodedImage& image, Staging& staging) {
  staging.put(image, sample(i), written(i), path_);
}

void Slot::choose_canaries(std::size_t i, std::uint64_t key, Canaries& canaries) const noexcept {
  const std::size_t part_bytes = geometry_.part_bytes();
  const std::size_t n_parts = geometry_.n_parts();
  const std::size_t part_words = geometry_.part_words();
  // Steps of the golden ratio from a pseudo-random start: they spread evenly over the sample
  // (D. Knuth, The Art of Computer Programming 3, section 6.4).
  constexpr std::uint64_t kGolden = 0x9E3779B97F4A7C15U;
  std::uint64_t at = mix64(key);
  for (Line& canary : canaries) {
    at += kGolden;
    // The upper bits choose the part, what they leave over the line in it.
    const std::uint64_t scaled = (at >> 32U) * n_parts;
    const std::size_t number = scaled >> 32U;
    const std::byte* const begin = part(i, number);
    const auto shift = static_cast<std::size_t>(begin - data()) % kLineBytes;
    const std::size_t first = shift == 0 ? 0 : 1;
    const std::size_t end = (shift + part_bytes) / kLineBytes;
    // A part of less than two lines may have none of its own: then there is nothing to look at.
    const bool any = end > first;
    const std::size_t line = first + ((scaled & 0xFFFFFFFFU) * (any ? end - first : 0) >> 32U);
    canary = {.bytes = any ? begin - shift + line * kLineBytes : nullptr,
              .bit = number * part_words * 64 + line};
    __builtin_prefetch(canary.bytes, 0, 0);
  }
}

bool Slot::alive(std::size_t i, const Canaries& canaries) const noexcept {
  const std::uint64_t* const written = written_.data() + i * geometry_.sample_words();
  std::uint64_t any = 0;
  for (const Line& line : canaries) {
    if (line.bytes == nullptr) {
      continue;
    }
    std::uint64_t bits = 0;
    for (std::size_t at = 0; at < kLineBytes; at += sizeof(std::uint64_t)) {
      bits |= load<std::uint64_t>(line.bytes + at);
    }
    const bool blank = (written[line.bit / 64] >> line.bit % 64 & 1U) == 0;
    any |= blank ? bits : 0;
  }
  return any == 0;
}

void Slot::distrust() noexcept {
  const std::size_t n_words = geometry_.part_words();
  for (std::size_t i = 0; i < n_samples_; ++i) {
    for (std::size_t p = 0; p < geometry_.n_parts(); ++p) {
      const auto shift = static_cast<std::size_t>(part(i, p) - data()) % kLineBytes;
      const std::size_t lines = (shift + geometry_.part_bytes() + kLineBytes - 1) / kLineBytes;
      const std::span<std::uint64_t> words = written(i).subspan(p * n_words, n_words);
      std::fill_n(words.begin(), lines / 64, ~std::uint64_t{0});
      if (lines % 64 != 0) {
        words[lines / 64] |= (std::uint64_t{1} << lines % 64) - 1;
      }
    }
  }
}

}  // namespace e2eio
