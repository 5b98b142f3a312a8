#include "e2eio/pipeline/slot.hpp"

#include <algorithm>

#include "e2eio/base/bytes.hpp"
#include "e2eio/plan/permutation.hpp"

namespace e2eio {
namespace {

// Batches below this size go through the caches: their consumer finds them there
// (docs/design/0006-lines.md).
constexpr std::size_t kStreamedBatchBytes = std::size_t{4} << 20U;

// A number below n, by the upper bits of a random one.
std::size_t below(std::uint32_t random, std::size_t n) noexcept {
  return static_cast<std::size_t>(std::uint64_t{random} * n >> 32U);
}

}  // namespace

Slot::Slot(const BatchGeometry& geometry, std::size_t n_samples)
    : geometry_(geometry),
      memory_(n_samples * geometry.sample_bytes()),
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
  for (std::size_t k = 0; k < canaries.size(); ++k) {
    const std::uint64_t random = mix64(key + k);
    const std::size_t number = below(static_cast<std::uint32_t>(random), n_parts);
    const std::byte* const begin = part(i, number);
    const auto shift = static_cast<std::size_t>(begin - data()) % kLineBytes;
    const std::size_t first = shift == 0 ? 0 : 1;
    const std::size_t end = (shift + part_bytes) / kLineBytes;
    const std::size_t line =
        first + below(static_cast<std::uint32_t>(random >> 32U), end > first ? end - first : 0);
    // A part of less than two lines may have none of its own: then there is nothing to look at.
    canaries[k] = {.bytes = end > first ? begin - shift + line * kLineBytes : nullptr,
                   .bit = number * part_words * 64 + line};
    __builtin_prefetch(canaries[k].bytes, 0, 0);
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
