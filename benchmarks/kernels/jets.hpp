// Jets made of integers: the same bits with every compiler, library and machine.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <vector>

#include "e2eio/codec/image_encoder.hpp"
#include "e2eio/codec/record_packer.hpp"

namespace e2eio::bench {

// Sebastiano Vigna's splitmix64. Thread rule: one thread at a time.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next() noexcept {
    state_ += 0x9E3779B97F4A7C15U;
    std::uint64_t z = state_;
    z = (z ^ z >> 30U) * 0xBF58476D1CE4E5B9U;
    z = (z ^ z >> 27U) * 0x94D049BB133111EBU;
    return z ^ z >> 31U;
  }
  std::uint32_t below(std::uint32_t n) noexcept {
    return static_cast<std::uint32_t>((next() >> 32U) * n >> 32U);
  }
  // A sum of four draws: towards the middle, as jets are.
  std::uint32_t towards_middle(std::uint32_t n) noexcept {
    std::uint32_t sum = 0;
    for (int i = 0; i < 4; ++i) {
      sum += below(n);
    }
    return sum / 4;
  }

 private:
  std::uint64_t state_;
};

// What a jet of the published x1 images holds on average (pixels, towers, hits).
inline constexpr std::uint32_t kTracks = 54;
inline constexpr std::uint32_t kCrystals = 495;
inline constexpr std::uint32_t kTowers = 48;
inline constexpr std::uint32_t kHits = 126;
inline constexpr std::uint32_t kChannels = 8;

// x1: 125 pixels a side; x3: 375.
struct Grid {
  std::uint32_t scale = 1;
  [[nodiscard]] std::uint32_t side() const noexcept { return 125 * scale; }
  [[nodiscard]] ImageShape shape() const noexcept { return {kChannels, side(), side()}; }
};

// n different pixels of a grid of native edge `side / block`, ascending, as image pixels.
inline std::vector<std::uint32_t> native_pixels(Random& random, std::uint32_t n,
                                                std::uint32_t edge) {
  std::vector<std::uint32_t> pixels;
  while (pixels.size() < n) {
    pixels.push_back(random.towards_middle(edge) * edge + random.towards_middle(edge));
    std::sort(pixels.begin(), pixels.end());
    pixels.erase(std::unique(pixels.begin(), pixels.end()), pixels.end());
  }
  return pixels;
}

// Bits of a float32 between 2^-7 and 2^5, small ones being frequent.
inline std::uint32_t energy_word(Random& random) {
  return 0x3C000000U + std::min(random.below(0x06000000U), random.below(0x06000000U));
}

inline ChannelScan filled(const Grid& grid, std::uint32_t block,
                          const std::vector<std::uint32_t>& native,
                          const std::vector<std::uint32_t>& words) {
  const std::uint32_t edge = grid.side() / block;
  std::vector<std::array<std::uint32_t, 2>> pixels;
  for (std::size_t i = 0; i < native.size(); ++i) {
    const std::uint32_t first = (native[i] / edge * grid.side() + native[i] % edge) * block;
    for (std::uint32_t k = 0; k < block * block; ++k) {
      pixels.push_back({first + k / block * grid.side() + k % block, words[i]});
    }
  }
  std::sort(pixels.begin(), pixels.end());
  ChannelScan scan;
  for (const auto& [position, word] : pixels) {
    scan.positions.push_back(position);
    scan.words.push_back(word);
  }
  return scan;
}

// Track pt, d0 and dz; ECAL; HCAL; three layers of hits.
inline std::vector<ChannelScan> make_jet(Random& random, const Grid& grid) {
  const auto words_of = [&](std::size_t n, auto draw) {
    std::vector<std::uint32_t> words(n);
    std::generate(words.begin(), words.end(), draw);
    return words;
  };
  const auto energies = [&](std::size_t n) {
    return words_of(n, [&] { return energy_word(random); });
  };
  const auto distances = [&](std::size_t n) {
    return words_of(n, [&] {
      return energy_word(random) | static_cast<std::uint32_t>(random.next() >> 63U) << 31U;
    });
  };
  std::vector<ChannelScan> jet;
  const auto tracks = native_pixels(random, kTracks, grid.side());
  jet.push_back(filled(grid, 1, tracks, energies(tracks.size())));
  jet.push_back(filled(grid, 1, tracks, distances(tracks.size())));
  jet.push_back(filled(grid, 1, tracks, distances(tracks.size())));
  const auto crystals = native_pixels(random, kCrystals, 125);
  jet.push_back(filled(grid, grid.scale, crystals, energies(crystals.size())));
  const auto towers = native_pixels(random, kTowers, 25);
  jet.push_back(filled(grid, 5 * grid.scale, towers, energies(towers.size())));
  for (int layer = 0; layer < 3; ++layer) {
    const auto hits = native_pixels(random, kHits / 3, grid.side());
    jet.push_back(filled(grid, 1, hits, words_of(hits.size(), [&] {
                           return random.below(12) == 0 ? 0x40000000U
                                                        : 0x3F800000U;  // 2 hits, or 1
                         })));
  }
  return jet;
}

// Thread rule: immutable once made.
struct Records {
  CodeBook book;
  std::vector<Bytes> records;  // without checksums
};

inline Records make_records(std::size_t n_jets, const Grid& grid) {
  Random random(1);
  std::vector<EncodedImage> images;
  for (std::size_t i = 0; i < n_jets; ++i) {
    images.push_back(encode_image(make_jet(random, grid), grid.shape(), Precision::kFloat32));
  }
  Records made{fit_code_book(images, kChannels), {}};
  RecordPacker packer(3);
  for (const EncodedImage& image : images) {
    made.records.push_back(packer.pack(image, made.book));
  }
  return made;
}

}  // namespace e2eio::bench
