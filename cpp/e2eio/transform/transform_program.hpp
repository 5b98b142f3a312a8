// Operations on images, checked and compiled once per pipeline.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "e2eio/transform/pixel_channel.hpp"
#include "e2eio/transform/random_stream.hpp"
#include "e2eio/transform/transform_spec.hpp"
#include "e2eio/transform/value_steps.hpp"

namespace e2eio {

// Memory of one thread, kept from sample to sample.
struct TransformScratch {
  std::vector<PixelChannel> channels;
  PixelScratch pixels;
  DecodedImage image;
};

// Applies operations to a decoded image, in order. Values that keep an empty pixel at zero touch
// stored pixels only. An operation that does not gives the empty pixels of a channel one common
// value, which goes through the operations as the stored ones do; if it is not zero at the end, the
// channel is delivered as a dense one, filled in one pass. Thread rule: immutable; any thread, each
// with its own scratch.
class TransformProgram {
 public:
  // `channels` are the delivered ones, as numbers of the schema; `key` comes from the seed.
  // Throws: Error(kInvalidArgument) for a spec that is malformed or does not fit the image.
  TransformProgram(const std::vector<TransformSpec>& specs, PixelExtent extent,
                   const std::vector<std::uint32_t>& channels, std::uint64_t key);

  // Of the images that come in, and of those that go out.
  [[nodiscard]] PixelExtent input_extent() const noexcept { return input_; }
  [[nodiscard]] PixelExtent output_extent() const noexcept { return output_; }
  [[nodiscard]] std::size_t n_channels() const noexcept { return channels_.size(); }

  // Requires: `image` has n_channels() channels of the input extent.
  void apply(DecodedImage& image, const SampleKey& sample, TransformScratch& scratch) const;

 private:
  enum class Kind : std::uint8_t {
    kValue,
    kOverMax,
    kOverSum,
    kFlip,
    kRoll,
    kRotate,
    kCut,
    kDrop,
    kSmear,
    kDeadCells,
    kDeadList,
    kRefine,
    kCoarsen,
  };
  struct Step {
    Kind kind = Kind::kValue;
    ValueOp value = ValueOp::kScale;
    std::uint64_t number = 0;
    double p = 1;
    std::vector<ChannelArguments> channels = {};
    std::array<std::int64_t, 3> integers = {};
    std::vector<std::uint64_t> cells = {};  // dead ones, ascending
    PixelExtent from = {};
    PixelExtent to = {};
  };

  static Kind kind_named(const std::string& op);
  void check_channels(const TransformSpec& spec) const;
  void compile(const TransformSpec& spec, Step& step);
  void compile_roll(const TransformSpec& spec, Step& step);
  void compile_rotation(Step& step);
  void compile_cut(const TransformSpec& spec, Step& step);
  void compile_cells(const TransformSpec& spec, Step& step) const;

  void run(const Step& step, const SampleKey& sample, TransformScratch& scratch) const;
  void run_channel(const Step& step, const ChannelArguments& arguments, PixelChannel& channel,
                   const RandomStream& stream, std::uint32_t number, PixelScratch& scratch) const;
  static void run_geometry(const Step& step, const RandomStream& stream, TransformScratch& scratch);

  const KernelSet* kernels_ = &selected_kernels();
  PixelExtent input_;
  PixelExtent output_;
  std::vector<std::uint32_t> channels_;
  std::uint64_t key_;
  std::uint64_t alignment_ = 0;  // of pixels with the detector's cells; 0: as in the input
  std::vector<Step> steps_;
};

// The program of these specs; null if there are none. Throws: as the constructor.
[[nodiscard]] std::shared_ptr<const TransformProgram> compile_transforms(
    const std::vector<TransformSpec>& specs, PixelExtent extent,
    const std::vector<std::uint32_t>& channels, std::uint64_t key);

}  // namespace e2eio
