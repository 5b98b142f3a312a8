#include "e2eio/transform/transform_program.hpp"

#include <algorithm>
#include <numeric>
#include <string_view>
#include <utility>

#include "e2eio/base/error.hpp"
#include "e2eio/transform/detector_steps.hpp"
#include "e2eio/transform/geometry_steps.hpp"
#include "e2eio/transform/granularity_steps.hpp"

namespace e2eio {
namespace {

constexpr std::uint64_t kMaxSampleBytes = std::uint64_t{1} << 30U;  // docs/format.md section 6

template <typename... Parts>
[[noreturn]] void refuse(const Parts&... parts) {
  throw Error(ErrorKind::kInvalidArgument, cat(parts...));
}

std::string text_of(PixelExtent extent) { return cat(extent.height, " x ", extent.width); }

// -0.0 becomes +0.0, so that no constant makes an empty pixel -0.0.
float as_float(double value) { return static_cast<float>(value) + 0.0F; }

}  // namespace

TransformProgram::TransformProgram(const std::vector<TransformSpec>& specs, PixelExtent extent,
                                   const std::vector<std::uint32_t>& channels, std::uint64_t key)
    : input_(extent), output_(extent), channels_(channels), key_(key) {
  for (const TransformSpec& spec : specs) {
    check_channels(spec);
    if (!(spec.p >= 0 && spec.p <= 1)) {
      refuse("transform ", spec.op, ": p is ", spec.p, ", expected 0 to 1");
    }
    Step step{.kind = kind_named(spec.op),
              .number = spec.number,
              .p = spec.p,
              .channels = spec.channels,
              .from = output_,
              .to = output_};
    compile(spec, step);
    if (4 * std::uint64_t{channels_.size()} * step.to.pixels() > kMaxSampleBytes) {
      refuse("transform ", spec.op, ": makes images of ", text_of(step.to), ", more than ",
             kMaxSampleBytes, " bytes; crop first");
    }
    output_ = step.to;
    steps_.push_back(std::move(step));
  }
}

TransformProgram::Kind TransformProgram::kind_named(const std::string& op) {
  static constexpr std::array<std::pair<std::string_view, Kind>, 13> kKinds{{
      {"over_max", Kind::kOverMax},
      {"over_sum", Kind::kOverSum},
      {"flip_eta", Kind::kFlip},
      {"roll_phi", Kind::kRoll},
      {"rot90", Kind::kRotate},
      {"crop", Kind::kCut},
      {"pad", Kind::kCut},
      {"drop_channel", Kind::kDrop},
      {"smear", Kind::kSmear},
      {"dead_cells", Kind::kDeadCells},
      {"dead_list", Kind::kDeadList},
      {"refine", Kind::kRefine},
      {"coarsen", Kind::kCoarsen},
  }};
  for (const auto& [name, kind] : kKinds) {
    if (name == op) {
      return kind;
    }
  }
  if (!value_op_named(op)) {
    refuse("transform '", op, "', expected one that this version knows");
  }
  return Kind::kValue;
}

void TransformProgram::check_channels(const TransformSpec& spec) const {
  for (const ChannelArguments& arguments : spec.channels) {
    if (arguments.channel >= channels_.size() || arguments.cell < 1) {
      refuse("transform ", spec.op, ": channel ", arguments.channel, " with cells of ",
             arguments.cell, " pixels, expected less than ", channels_.size(), " and at least 1");
    }
  }
}

void TransformProgram::compile(const TransformSpec& spec, Step& step) {
  std::copy_n(spec.integers.begin(), std::min(spec.integers.size(), step.integers.size()),
              step.integers.begin());
  switch (step.kind) {
    case Kind::kValue:
      step.value = value_op_named(spec.op).value_or(step.value);  // kind_named() knows it
      break;
    case Kind::kFlip:
      alignment_ = std::gcd(alignment_, step.from.height);
      break;
    case Kind::kRoll:
      compile_roll(spec, step);
      break;
    case Kind::kRotate:
      compile_rotation(step);
      break;
    case Kind::kCut:
      compile_cut(spec, step);
      break;
    case Kind::kSmear:
    case Kind::kDeadCells:
    case Kind::kDeadList:
      compile_cells(spec, step);
      break;
    case Kind::kRefine:
    case Kind::kCoarsen:
      if (step.channels.size() != channels_.size()) {
        refuse("transform ", spec.op, ": roles of ", step.channels.size(), " channels, expected ",
               channels_.size());
      }
      if (step.kind == Kind::kRefine) {
        step.to = {step.from.height * 3, step.from.width * 3};
      } else if (step.from.height % 3 == 0 && step.from.width % 3 == 0) {
        step.to = {step.from.height / 3, step.from.width / 3};
      } else {
        refuse("images of ", text_of(step.from), " have no coarser granularity: 3 does not divide ",
               "both edges");
      }
      break;
    default:
      break;
  }
}

void TransformProgram::compile_roll(const TransformSpec& spec, Step& step) {
  auto& [least, most, size] = step.integers;
  const std::int64_t width = step.from.width;
  if (spec.integers.size() == 1) {  // only the step: as far as the image goes
    size = spec.integers.front();
    most = size < 1 ? 0 : width / 2 / size;
    least = -most;
  }
  if (least > most || size < 1 || least * size < -width || most * size > width) {
    refuse("roll_phi: shifts of ", least * size, " to ", most * size, " in steps of ", size,
           " pixels, expected at most the image's ", width, " columns");
  }
  const std::int64_t moves = least == most ? least * size : size;
  alignment_ = std::gcd(alignment_, static_cast<std::uint64_t>(moves < 0 ? -moves : moves));
  alignment_ = moves == 0 ? alignment_ : std::gcd(alignment_, step.from.width);
}

void TransformProgram::compile_rotation(Step& step) {
  const auto& [least, most, unused] = step.integers;
  if (least > most || least < 0 || most > 3) {
    refuse("rot90: ", least, " to ", most, " quarter turns, expected 0 to 3");
  }
  const bool may_turn = least != most || least % 2 == 1;
  if (step.from.height != step.from.width && may_turn && (least != most || step.p < 1)) {
    refuse("rot90: random quarter turns of images of ", text_of(step.from),
           " would give batches of two shapes; crop or pad to a square first");
  }
  if (may_turn && least == most) {
    step.to = {step.from.width, step.from.height};
  }
  alignment_ = std::gcd(std::gcd(alignment_, step.from.height), step.from.width);
}

void TransformProgram::compile_cut(const TransformSpec& spec, Step& step) {
  const auto& [height, width, random] = step.integers;
  const bool smaller = height <= step.from.height && width <= step.from.width;
  const bool larger = height >= step.from.height && width >= step.from.width;
  if (height < 1 || width < 1 || height > 65'535 || width > 65'535 ||
      !(spec.op == "crop" ? smaller : larger)) {
    refuse(spec.op, ": from ", text_of(step.from), " to ", height, " x ", width, ", expected ",
           spec.op == "crop" ? "at most" : "at least", " the image's size",
           spec.op == "crop" ? "" : " and at most 65535");
  }
  step.to = {static_cast<std::uint32_t>(height), static_cast<std::uint32_t>(width)};
  if (step.to == step.from) {
    return;
  }
  const auto half = [](std::int64_t a, std::int64_t b) {
    return static_cast<std::uint64_t>((a > b ? a - b : b - a) / 2);
  };
  const std::uint64_t moves =
      random != 0 ? 1U : std::gcd(half(step.from.height, height), half(step.from.width, width));
  alignment_ = std::gcd(alignment_, moves);
}

void TransformProgram::compile_cells(const TransformSpec& spec, Step& step) const {
  for (const ChannelArguments& arguments : step.channels) {
    const std::uint32_t cell = arguments.cell;
    if (step.from.height % cell != 0 || step.from.width % cell != 0 || alignment_ % cell != 0) {
      refuse(spec.op, ": cells of ", cell, " x ", cell, " pixels do not tile the image of ",
             text_of(step.from), " here; put it before crops, pads and rolls, or give other cells");
    }
  }
  if (step.kind != Kind::kDeadList) {
    return;
  }
  if (step.channels.size() != 1 || spec.integers.size() % 2 != 0) {
    refuse("dead_list: ", step.channels.size(), " channels and ", spec.integers.size(),
           " coordinates, expected one channel and pairs");
  }
  const std::int64_t rows = step.from.height / step.channels[0].cell;
  const std::int64_t columns = step.from.width / step.channels[0].cell;
  for (std::size_t i = 0; i < spec.integers.size(); i += 2) {
    const std::int64_t y = spec.integers[i];
    const std::int64_t x = spec.integers[i + 1];
    if (y < 0 || x < 0 || y >= rows || x >= columns) {
      refuse("dead cell (", y, ", ", x, ") is outside the grid of ", rows, " x ", columns,
             " cells");
    }
    step.cells.push_back(static_cast<std::uint64_t>(y * columns + x));
  }
  std::sort(step.cells.begin(), step.cells.end());
}

void TransformProgram::apply(DecodedImage& image, const SampleKey& sample,
                             TransformScratch& scratch) const {
  scratch.channels.resize(channels_.size());
  for (std::size_t c = 0; c < channels_.size(); ++c) {
    scratch.channels[c].load(image, image.channels[c], input_);
  }
  for (const Step& step : steps_) {
    run(step, sample, scratch);
  }
  DecodedImage& out = scratch.image;
  out.channels.clear();
  out.positions.clear();
  out.words.clear();
  for (PixelChannel& channel : scratch.channels) {
    channel.store(out, scratch.pixels);
  }
  std::swap(image, out);
}

void TransformProgram::run(const Step& step, const SampleKey& sample,
                           TransformScratch& scratch) const {
  const RandomStream stream(key_, sample, step.number);
  switch (step.kind) {
    case Kind::kFlip:
    case Kind::kRoll:
    case Kind::kRotate:
    case Kind::kCut:
      run_geometry(step, stream, scratch);
      break;
    default:
      for (const ChannelArguments& arguments : step.channels) {
        run_channel(step, arguments, scratch.channels[arguments.channel], stream,
                    channels_[arguments.channel], scratch.pixels);
      }
  }
}

void TransformProgram::run_channel(const Step& step, const ChannelArguments& arguments,
                                   PixelChannel& channel, const RandomStream& stream,
                                   std::uint32_t number, PixelScratch& scratch) const {
  const CellDraws draws{.stream = &stream, .channel = number, .cell = arguments.cell};
  const auto role = static_cast<ChannelRole>(arguments.a);
  switch (step.kind) {
    case Kind::kValue: {
      const ValueStep value{step.value, as_float(arguments.a), as_float(arguments.b)};
      e2eio::apply(value, *kernels_, channel.words());
      std::uint32_t background = channel.background();
      e2eio::apply(value, *kernels_, {&background, 1});
      channel.set_background(background);
      break;
    }
    case Kind::kOverMax:
      divide_by_largest(channel, as_float(arguments.a));
      break;
    case Kind::kOverSum:
      divide_by_sum(channel, as_float(arguments.a));
      break;
    case Kind::kDrop:
      if (stream.uniform(number) < step.p) {
        channel.clear();
      }
      break;
    case Kind::kSmear:
      smear(channel,
            {.stochastic = arguments.a,
             .constant = arguments.b,
             .noise = arguments.c,
             .clip_at_zero = step.integers[0] != 0},
            draws, scratch);
      break;
    case Kind::kDeadCells:
      kill_cells(channel, step.p, draws, scratch);
      break;
    case Kind::kDeadList:
      kill_listed(channel, step.cells, arguments.cell, scratch);
      break;
    case Kind::kRefine:
      refine(channel, role, scratch);
      break;
    case Kind::kCoarsen:
      coarsen(channel, role, scratch);
      break;
    default:
      break;
  }
}

void TransformProgram::run_geometry(const Step& step, const RandomStream& stream,
                                    TransformScratch& scratch) {
  // Draw 0 says whether, the next ones how far.
  const bool happens = stream.uniform(0) < step.p;
  const auto& [first, second, third] = step.integers;
  if (!happens && step.kind != Kind::kCut) {
    return;
  }
  PixelWindow window{.to = step.to};
  std::uint32_t amount = 0;
  if (step.kind == Kind::kRoll) {
    const std::int64_t width = step.from.width;
    const std::int64_t shift = stream.integer(1, first, second) * third;
    amount = static_cast<std::uint32_t>((shift % width + width) % width);
  } else if (step.kind == Kind::kRotate) {
    amount = static_cast<std::uint32_t>(stream.integer(1, first, second));
  } else if (step.kind == Kind::kCut) {
    const std::int64_t y = std::int64_t{step.from.height} - step.to.height;
    const std::int64_t x = std::int64_t{step.from.width} - step.to.width;
    const auto place = [&](std::uint64_t counter, std::int64_t room) {
      const std::int64_t most = room < 0 ? -room : room;
      const std::int64_t at = third != 0 ? stream.integer(counter, 0, most) : most / 2;
      return room < 0 ? -at : at;
    };
    window.y = place(1, y);
    window.x = place(2, x);
  }
  for (PixelChannel& channel : scratch.channels) {
    switch (step.kind) {
      case Kind::kFlip:
        flip_rows(channel);
        break;
      case Kind::kRoll:
        roll_columns(channel, amount, scratch.pixels);
        break;
      case Kind::kRotate:
        rotate(channel, amount);
        break;
      default:
        cut(channel, window, scratch.pixels);
    }
  }
  if (step.kind == Kind::kFlip) {
    for (const ChannelArguments& arguments : step.channels) {
      negate(scratch.channels[arguments.channel]);
    }
  }
}

std::shared_ptr<const TransformProgram> compile_transforms(
    const std::vector<TransformSpec>& specs, PixelExtent extent,
    const std::vector<std::uint32_t>& channels, std::uint64_t key) {
  return specs.empty() ? nullptr
                       : std::make_shared<const TransformProgram>(specs, extent, channels, key);
}

}  // namespace e2eio
