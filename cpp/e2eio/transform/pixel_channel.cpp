#include "e2eio/transform/pixel_channel.hpp"

#include <algorithm>
#include <utility>

namespace e2eio {
namespace {

// One stable counting pass: the order of `digit` in [0, n_digits), ties as they were.
template <typename Digit>
void counting_pass(std::vector<std::uint32_t>& positions, std::vector<std::uint32_t>& words,
                   std::uint32_t n_digits, Digit digit, PixelScratch& scratch) {
  scratch.counts.assign(std::size_t{n_digits} + 1, 0);
  for (const std::uint32_t position : positions) {
    ++scratch.counts[digit(position) + 1];
  }
  for (std::size_t i = 1; i <= n_digits; ++i) {
    scratch.counts[i] += scratch.counts[i - 1];
  }
  scratch.positions.resize(positions.size());
  scratch.words.resize(words.size());
  for (std::size_t i = 0; i < positions.size(); ++i) {
    const std::uint32_t to = scratch.counts[digit(positions[i])]++;
    scratch.positions[to] = positions[i];
    scratch.words[to] = words[i];
  }
  std::swap(positions, scratch.positions);
  std::swap(words, scratch.words);
}

}  // namespace

void PixelChannel::load(const DecodedImage& image, const ChannelPixels& channel,
                        PixelExtent extent) {
  extent_ = extent;
  block_ = channel.block;
  dense_ = channel.dense && channel.n > 0;
  background_ = 0;
  const auto first_word = image.words.begin() + static_cast<std::ptrdiff_t>(channel.first_word);
  words_.assign(first_word, first_word + channel.n);
  positions_.clear();
  if (!dense_ && channel.n > 0) {
    const auto first =
        image.positions.begin() + static_cast<std::ptrdiff_t>(channel.first_position);
    positions_.assign(first, first + channel.n);
  }
}

void PixelChannel::store(DecodedImage& image, PixelScratch& scratch) {
  if (!dense_ && background_ != 0) {
    make_dense(scratch);
  }
  ChannelPixels channel{.dense = dense_,
                        .block = block_,
                        .n = static_cast<std::uint32_t>(words_.size()),
                        .first_position = image.positions.size(),
                        .first_word = image.words.size()};
  if (dense_) {
    image.words.insert(image.words.end(), words_.begin(), words_.end());
    image.channels.push_back(channel);
    return;
  }
  sort(scratch);
  image.positions.resize(channel.first_position + words_.size());
  image.words.resize(channel.first_word + words_.size());
  std::uint32_t kept = 0;
  for (std::size_t i = 0; i < words_.size(); ++i) {
    image.positions[channel.first_position + kept] = positions_[i];
    image.words[channel.first_word + kept] = words_[i];
    kept += words_[i] != 0 ? 1U : 0U;
  }
  channel.n = kept;
  image.positions.resize(channel.first_position + kept);
  image.words.resize(channel.first_word + kept);
  image.channels.push_back(channel);
}

void PixelChannel::clear() noexcept {
  dense_ = false;
  background_ = 0;
  positions_.clear();
  words_.clear();
}

void PixelChannel::split(std::uint32_t edge, PixelScratch& scratch) {
  if (edge == block_) {
    return;
  }
  const std::uint32_t n = block_ / edge;
  scratch.positions.clear();
  scratch.words.clear();
  for (std::size_t i = 0; i < words_.size(); ++i) {
    const std::uint32_t first = position(i);
    for (std::uint32_t y = 0; y < n; ++y) {
      for (std::uint32_t x = 0; x < n; ++x) {
        scratch.positions.push_back(first + (y * extent_.width + x) * edge);
        scratch.words.push_back(words_[i]);
      }
    }
  }
  const bool was_dense = std::exchange(dense_, false);
  std::swap(positions_, scratch.positions);
  std::swap(words_, scratch.words);
  block_ = edge;
  if (was_dense) {
    make_dense(scratch);
  }
}

void PixelChannel::make_list() {
  if (!dense_) {
    return;
  }
  positions_.clear();
  std::size_t kept = 0;
  for (std::size_t i = 0; i < words_.size(); ++i) {
    const std::uint32_t word = words_[i];
    if (word != 0) {
      positions_.push_back(position(i));
      words_[kept++] = word;
    }
  }
  words_.resize(kept);
  dense_ = false;
}

void PixelChannel::make_dense(PixelScratch& scratch) {
  if (dense_) {
    return;
  }
  const std::uint32_t columns = extent_.width / block_;
  scratch.words.assign(std::size_t{extent_.height / block_} * columns, background_);
  for (std::size_t i = 0; i < words_.size(); ++i) {
    const std::uint32_t y = positions_[i] / extent_.width;
    const std::uint32_t x = positions_[i] - y * extent_.width;
    scratch.words[y / block_ * columns + x / block_] = words_[i];
  }
  std::swap(words_, scratch.words);
  positions_.clear();
  dense_ = true;
  background_ = 0;
}

void PixelChannel::sort(PixelScratch& scratch) {
  if (std::is_sorted(positions_.begin(), positions_.end())) {
    return;
  }
  const std::uint32_t width = extent_.width;
  counting_pass(
      positions_, words_, width, [width](std::uint32_t at) { return at % width; }, scratch);
  counting_pass(
      positions_, words_, extent_.height, [width](std::uint32_t at) { return at / width; },
      scratch);
}

}  // namespace e2eio
