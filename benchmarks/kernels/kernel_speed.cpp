// Each kernel of each set on what jets give it. benchmarks/kernel_speed.py runs it.
//
// Names are kernel/input/set. An item is what the kernel makes one of: a symbol, a gap, a word, a
// pixel or square, a cache line.
#include <benchmark/benchmark.h>

#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "e2eio/base/memory.hpp"
#include "e2eio/kernels/clear.hpp"
#include "e2eio/kernels/kernel_set.hpp"
#include "jets.hpp"

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

namespace e2eio::bench {
namespace {

constexpr std::size_t kJets = 32;  // different ones in turn: branches are not learnt by heart

// Of constant rate, whatever the clock of the core does.
std::uint64_t reference_cycles() noexcept {
#if defined(__x86_64__)
  return __rdtsc();
#elif defined(__aarch64__)
  std::uint64_t ticks = 0;
  __asm__ volatile("mrs %0, cntvct_el0" : "=r"(ticks));
  return ticks;
#else
  return 0;
#endif
}

constexpr std::size_t kFirstCache = 12U << 10U;  // two of these in 32 KiB
constexpr std::size_t kSecondCache = 256U << 10U;
constexpr std::size_t kMemory = 64U << 20U;  // beyond the caches

// The first write to a page costs more than all that follow.
void touch_pages(const ZeroedMemory& memory) {
  clear_nontemporal({memory.data(), memory.n_bytes()});
}

struct Touched {
  std::size_t items = 0;
  std::size_t bytes = 0;  // read and written
};

// Does the work of one channel of a jet and says what it touched.
using Once = std::function<Touched(std::size_t jet)>;

// `make` runs before the clock does, each time anew: what it holds is gone afterwards.
void add_made(const std::string& name, std::function<Once()> make) {
  benchmark::RegisterBenchmark(name.c_str(), [make = std::move(make)](benchmark::State& state) {
    const Once once = make();
    Touched all;
    std::size_t jet = 0;
    const std::uint64_t begin = reference_cycles();
    for (auto _ : state) {
      const Touched touched = once(jet);
      benchmark::ClobberMemory();
      all.items += touched.items;
      all.bytes += touched.bytes;
      jet = (jet + 1) % kJets;
    }
    const auto cycles = static_cast<double>(reference_cycles() - begin);
    const auto items = static_cast<double>(all.items);
    state.SetItemsProcessed(static_cast<std::int64_t>(all.items));
    state.SetBytesProcessed(static_cast<std::int64_t>(all.bytes));
    state.counters["cycles_per_item"] = cycles / items;
    state.counters["cycles_per_byte"] = cycles / static_cast<double>(all.bytes);
    state.counters["bytes_per_item"] = static_cast<double>(all.bytes) / items;
    state.counters["items_per_call"] = items / static_cast<double>(state.iterations());
  });
}

void add(const std::string& name, Once once) {
  add_made(name, [once = std::move(once)] { return once; });
}

// One channel of the jets at one resolution. Thread rule: constant once made.
struct Channel {
  std::string name;
  std::uint32_t side = 0;
  std::vector<EncodedChannel> jets;
  [[nodiscard]] const Bytes* plane(std::size_t jet, PlaneRole role) const {
    for (const EncodedPlane& plane : jets[jet].planes) {
      if (plane.role == role) {
        return &plane.bytes;
      }
    }
    return nullptr;
  }
};

const std::uint8_t* bytes_of(const Bytes* bytes) {
  return bytes == nullptr ? nullptr : reinterpret_cast<const std::uint8_t*>(bytes->data());
}

void add_symbols(const KernelSet& set, const Channel& channel, PlaneRole role,
                 const std::string& input) {
  SymbolCounts counts{};
  for (std::size_t jet = 0; jet < kJets; ++jet) {
    for (const std::byte byte : *channel.plane(jet, role)) {
      ++counts[static_cast<std::uint8_t>(byte)];
    }
  }
  struct Coded {
    Bytes record;
    LaneSet lanes;
    std::size_t n = 0;
  };
  const CodeBook::Code code(fit_lengths(counts, kMaxCodeBits));
  std::vector<Coded> jets(kJets);
  for (std::size_t jet = 0; jet < kJets; ++jet) {
    LaneWriter writer;
    writer.write(*channel.plane(jet, role), code.lengths, code.codes);
    Coded& coded = jets[jet];
    const std::array<Bytes, kLanes> lanes = writer.finish();
    for (std::size_t k = 0; k < kLanes; ++k) {
      coded.lanes.at_bits[k] = 8 * coded.record.size();
      append_bytes(coded.record, lanes[k]);
    }
    coded.n = channel.plane(jet, role)->size();
    coded.lanes.record_bytes = coded.record.size();
    coded.record.resize(coded.record.size() + 8);  // other bytes of the record follow
    coded.lanes.record_bytes += 8;
  }
  add("decode_symbols/" + input + "/" + std::string(set.name),
      [&set, code, jets, symbols = std::vector<std::uint8_t>(1U << 16U)](std::size_t jet) mutable {
        const Coded& coded = jets[jet];
        LaneSet lanes = coded.lanes;
        lanes.record = bytes_of(&coded.record);
        set.decode_symbols(lanes, code.table.entries(), code.table.bits(), coded.n, symbols.data());
        return Touched{coded.n, coded.record.size() + coded.n};
      });
}

void add_gaps(const KernelSet& set, const Channel& channel) {
  add("decode_gaps/" + channel.name + "/" + std::string(set.name),
      [&set, &channel, positions = std::vector<std::uint32_t>(1U << 17U)](std::size_t jet) mutable {
        const EncodedChannel& c = channel.jets[jet];
        const std::uint32_t n = c.n + c.escapes;
        set.decode_gaps(bytes_of(channel.plane(jet, PlaneRole::kGapLow)),
                        c.wide ? bytes_of(channel.plane(jet, PlaneRole::kGapHigh)) : nullptr, n,
                        positions.data());
        return Touched{c.n, n * (c.wide ? 2U : 1U) + 4 * c.n};
      });
}

std::vector<std::uint32_t> words_of(std::size_t n) {
  Random random(n);
  std::vector<std::uint32_t> words(n);
  std::generate(words.begin(), words.end(), [&] { return energy_word(random); });
  return words;
}

void add_words(const KernelSet& set, std::size_t n, const std::string& input) {
  const std::string suffix = "/" + input + "/" + std::string(set.name);
  std::vector<std::uint8_t> bytes(4 * n);
  Random random(n);
  std::generate(bytes.begin(), bytes.end(),
                [&] { return static_cast<std::uint8_t>(random.next()); });
  add("merge_float32" + suffix, [&set, n, bytes, words = words_of(n)](std::size_t) mutable {
    const std::uint8_t* const p = bytes.data();
    set.merge_float32({p, p + n, p + 2 * n, p + 3 * n}, n, words.data());
    return Touched{n, 8 * n};
  });
  add("merge_float16" + suffix, [&set, n, bytes, words = words_of(n)](std::size_t) mutable {
    set.merge_float16({bytes.data(), bytes.data() + n}, n, words.data());
    return Touched{n, 6 * n};
  });
  for (const auto& [name, cast] : {std::pair{"cast_float16", set.cast_float16},
                                   std::pair{"cast_bfloat16", set.cast_bfloat16}}) {
    add(name + suffix, [cast = cast, n, words = words_of(n),
                        out = std::vector<std::uint16_t>(n)](std::size_t) mutable {
      cast(words.data(), n, out.data());
      return Touched{n, 6 * n};
    });
  }
  for (const auto& [name, change] :
       {std::pair{"affine", set.affine}, std::pair{"clip", set.clip}}) {
    add(name + suffix, [change = change, n, words = words_of(n)](std::size_t) mutable {
      change(words.data(), n, 0.5F, 1.0F);
      return Touched{n, 8 * n};
    });
  }
  add("asinh" + suffix, [&set, n, words = words_of(n)](std::size_t) mutable {
    set.asinh(words.data(), n, 0.3F);
    return Touched{n, 8 * n};
  });
  add("log1p" + suffix, [&set, n, words = words_of(n)](std::size_t) mutable {
    set.log1p(words.data(), n);
    return Touched{n, 8 * n};
  });
  add("replace_small" + suffix, [&set, n, words = words_of(n)](std::size_t) mutable {
    set.replace_small(words.data(), n, 0.01F, 0.0F);
    return Touched{n, 8 * n};
  });
}

std::vector<std::uint32_t> image_positions(const Channel& channel, std::size_t jet) {
  const EncodedChannel& c = channel.jets[jet];
  std::vector<std::uint32_t> positions(c.n + c.escapes + kPositionSlack);
  scalar_kernels()->decode_gaps(
      bytes_of(channel.plane(jet, PlaneRole::kGapLow)),
      c.wide ? bytes_of(channel.plane(jet, PlaneRole::kGapHigh)) : nullptr, c.n + c.escapes,
      positions.data());
  positions.resize(c.n);
  return positions;
}

// The dense planes of all jets, one after the other. As much as an importer reads at a time.
std::vector<std::uint32_t> dense_planes(const KernelSet& set, const Channel& channel) {
  const std::size_t n_pixels = std::size_t{channel.side} * channel.side;
  std::vector<std::uint32_t> planes(kJets * n_pixels);
  std::vector<std::uint8_t> touched(n_pixels * 4 / 64 + 1);
  for (std::size_t jet = 0; jet < kJets; ++jet) {
    const std::uint32_t block = channel.jets[jet].block;
    std::vector<std::uint32_t> positions = image_positions(channel, jet);
    set.place_blocks(positions.data(), positions.size(), channel.side / block, channel.side, block);
    auto* const plane = reinterpret_cast<std::byte*>(planes.data() + jet * n_pixels);
    set.scatter32({.plane = plane,
                   .stride = 1,
                   .width = channel.side,
                   .block = block,
                   .origin = plane,
                   .touched = touched.data()},
                  positions.data(), words_of(positions.size()).data(), positions.size());
  }
  return planes;
}

void add_nonzero(const KernelSet& set, const Channel& channel) {
  const std::size_t n_pixels = std::size_t{channel.side} * channel.side;
  add_made("list_nonzero32/" + channel.name + "/" + std::string(set.name),
           [&set, &channel, n_pixels]() -> Once {
             return [&set, n_pixels, planes = dense_planes(set, channel),
                     positions = std::vector<std::uint32_t>(n_pixels + kPositionSlack),
                     words = std::vector<std::uint32_t>(n_pixels + kPositionSlack)](
                        std::size_t jet) mutable {
               const auto* const plane = planes.data() + jet * n_pixels;
               const std::size_t n =
                   set.list_nonzero32(reinterpret_cast<const std::byte*>(plane), n_pixels, 0,
                                      positions.data(), words.data());
               return Touched{n_pixels, 4 * n_pixels + 8 * n};
             };
           });
}

// A channel of a jet as it is staged, with flags, and a ring of memory that it goes to.
// Thread rule: one thread.
class Stage {
 public:
  Stage(const KernelSet& set, const Channel& channel, std::size_t n_places)
      : set_(&set),
        channel_(&channel),
        n_places_(n_places),
        n_words_((std::size_t{4} * channel.side * channel.side + 64 * 64 - 1) / (64 * 64)),
        staged_(n_words_ * 64 * 64),
        out_(n_places * n_words_ * 64 * 64),
        touched_(n_words_ * 64),
        written_(n_places * n_words_) {
    touch_pages(out_);
    for (std::size_t jet = 0; jet < kJets; ++jet) {
      const std::uint32_t block = channel.jets[jet].block;
      positions_.push_back(image_positions(channel, jet));
      if (block > 1) {
        set.place_blocks(positions_[jet].data(), positions_[jet].size(), channel.side / block,
                         channel.side, block);
      }
      words_.push_back(words_of(positions_[jet].size()));
      (void)scatter(jet);
      flags_.push_back(touched_);
      std::fill(touched_.begin(), touched_.end(), std::uint8_t{0});
    }
  }

  Touched scatter(std::size_t jet) {
    const std::uint32_t block = channel_->jets[jet].block;
    const std::size_t n = positions_[jet].size();
    set_->scatter32({.plane = staged_.data(),
                     .stride = 1,
                     .width = channel_->side,
                     .block = block,
                     .origin = staged_.data(),
                     .touched = touched_.data()},
                    positions_[jet].data(), words_[jet].data(), n);
    return {n, n * (8 + (4 + 1) * std::size_t{block} * block)};
  }

  // Flags are set by a copy, which counts: a kilobyte at x1.
  Touched transfer(std::size_t jet, bool stream) {
    place_ = (place_ + 1) % n_places_;
    std::uint64_t* const written = written_.data() + place_ * n_words_;
    std::size_t lines = 0;
    std::memcpy(touched_.data(), flags_[jet].data(), touched_.size());
    const LineTransfer transfer{.staged = staged_.data(),
                                .out = out_.data() + place_ * n_words_ * 64 * 64,
                                .touched = touched_.data(),
                                .written = written,
                                .n_words = n_words_};
    lines += count(written);
    (stream ? set_->stream_lines : set_->store_lines)(transfer);
    lines += count(written);
    return {lines / 2, lines / 2 * 3 * 64 + 2 * touched_.size()};
  }

 private:
  [[nodiscard]] std::size_t count(const std::uint64_t* written) const {
    std::size_t lines = 0;
    for (std::size_t w = 0; w < n_words_; ++w) {
      lines += static_cast<std::size_t>(std::popcount(written[w]));
    }
    return lines;
  }

  const KernelSet* set_;
  const Channel* channel_;
  std::size_t n_places_;
  std::size_t n_words_;
  ZeroedMemory staged_;
  ZeroedMemory out_;
  std::vector<std::uint8_t> touched_;
  std::vector<std::uint64_t> written_;
  std::vector<std::vector<std::uint32_t>> positions_;
  std::vector<std::vector<std::uint32_t>> words_;
  std::vector<std::vector<std::uint8_t>> flags_;
  std::size_t place_ = 0;
};

void add_stage(const KernelSet& set, const Channel& channel) {
  const std::string suffix = "/" + channel.name + "/" + std::string(set.name);
  add_made("scatter32" + suffix, [&set, &channel]() -> Once {
    return [stage = std::make_shared<Stage>(set, channel, 1)](std::size_t jet) {
      return stage->scatter(jet);
    };
  });
  for (const bool stream : {true, false}) {
    add_made(
        (stream ? "stream_lines" : "store_lines") + suffix, [&set, &channel, stream]() -> Once {
          // Batches lie far beyond the caches, or within them.
          const std::size_t n_bytes = stream ? kMemory : kSecondCache;
          const std::size_t n_places = 1 + n_bytes / (std::size_t{4} * channel.side * channel.side);
          return [stage = std::make_shared<Stage>(set, channel, n_places),
                  stream](std::size_t jet) { return stage->transfer(jet, stream); };
        });
  }
  if (channel.jets[0].block > 1) {
    std::vector<std::vector<std::uint32_t>> positions;
    for (std::size_t jet = 0; jet < kJets; ++jet) {
      positions.push_back(image_positions(channel, jet));
    }
    add("place_blocks" + suffix,
        [&set, &channel, positions,
         some = std::vector<std::uint32_t>(1U << 12U)](std::size_t jet) mutable {
          const std::uint32_t block = channel.jets[jet].block;
          std::copy(positions[jet].begin(), positions[jet].end(), some.begin());
          set.place_blocks(some.data(), positions[jet].size(), channel.side / block, channel.side,
                           block);
          return Touched{positions[jet].size(), 8 * positions[jet].size()};
        });
  }
}

// What memory does at best: an item is a cache line.
void add_memory() {
  const auto made = [](std::size_t n_bytes) {
    auto memory = std::make_shared<ZeroedMemory>(n_bytes);
    touch_pages(*memory);
    return memory;
  };
  for (const auto& [name, n_bytes] :
       {std::pair{"copy/first cache", kFirstCache}, std::pair{"copy/memory", kMemory}}) {
    add_made(std::string(name) + "/memory", [made, n_bytes = n_bytes]() -> Once {
      return [from = made(n_bytes), to = made(n_bytes)](std::size_t) {
        std::memcpy(to->data(), from->data(), from->n_bytes());
        return Touched{from->n_bytes() / 64, 2 * from->n_bytes()};
      };
    });
  }
  for (const auto& [name, clear] : {std::pair{"clear_nontemporal/memory", &clear_nontemporal},
                                    std::pair{"clear_memset/memory", &clear_memset}}) {
    add_made(std::string(name) + "/memory", [made, clear = clear]() -> Once {
      return [memory = made(kMemory), clear](std::size_t) {
        clear({memory->data(), memory->n_bytes()});
        return Touched{memory->n_bytes() / 64, memory->n_bytes()};
      };
    });
  }
}

std::vector<Channel> make_channels() {
  std::vector<Channel> channels;
  for (const std::uint32_t scale : {1U, 3U}) {
    const Grid grid{scale};
    const std::string at = " x" + std::to_string(scale);
    for (const char* const name : {"tracks", "", "", "ecal", "hcal", "hits", "", ""}) {
      channels.push_back({name + (*name == '\0' ? "" : at), grid.side(), {}});
    }
    Random random(2);
    for (std::size_t jet = 0; jet < kJets; ++jet) {
      const EncodedImage image =
          encode_image(make_jet(random, grid), grid.shape(), Precision::kFloat32);
      for (std::size_t c = 0; c < kChannels; ++c) {
        channels[channels.size() - kChannels + c].jets.push_back(image[c]);
      }
    }
  }
  std::erase_if(channels, [](const Channel& channel) { return channel.name.empty(); });
  return channels;
}

}  // namespace
}  // namespace e2eio::bench

int main(int argc, char** argv) {
  using namespace e2eio;
  using namespace e2eio::bench;
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) {
    return 1;
  }
  const std::vector<Channel> channels = make_channels();
  for (const KernelSet* const set : available_kernels()) {
    for (const Channel& channel : channels) {
      if (channel.name.starts_with("ecal")) {
        add_symbols(*set, channel, value_role(3), channel.name + " values");
      }
      if (channel.name.starts_with("tracks") || channel.name.starts_with("ecal")) {
        add_symbols(*set, channel, PlaneRole::kGapLow, channel.name + " gaps");
      }
      add_gaps(*set, channel);
      add_stage(*set, channel);
      add_nonzero(*set, channel);
    }
    add_words(*set, kTracks, "tracks");
    add_words(*set, kCrystals, "ecal");
  }
  add_memory();
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
