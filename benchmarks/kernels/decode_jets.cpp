// Decodes the same jets every time, for benchmarks/instructions.py to count.
#include <iostream>
#include <numeric>

#include "e2eio/base/error.hpp"
#include "e2eio/pipeline/staging.hpp"
#include "jets.hpp"

namespace {

constexpr std::size_t kJets = 32;
constexpr std::size_t kPasses = 4;

struct Work {
  e2eio::ImageDecoder* decoder;
  e2eio::Staging* staging;
  e2eio::DecodedImage* image;
  const e2eio::bench::Records* jets;
  std::byte* out;
  std::size_t sample_bytes;
  std::vector<std::uint64_t>* written;
};

}  // namespace

// By this name, what happens inside is told from what comes before.
extern "C" __attribute__((noinline)) void e2eio_decode_counted(const Work* work) {
  std::vector<std::uint32_t> wanted(e2eio::bench::kChannels);
  std::iota(wanted.begin(), wanted.end(), 0U);
  const std::size_t n_words = work->written->size() / kJets;
  for (std::size_t i = 0; i < kJets * kPasses; ++i) {
    // Another jet for each place than in the last pass: stale lines are part of the work.
    const std::size_t jet = (i + i / kJets) % kJets;
    const std::size_t place = i % kJets;
    work->decoder->decode(work->jets->records[jet], &work->jets->book, wanted, *work->image);
    work->staging->put(*work->image, work->out + place * work->sample_bytes,
                       std::span(*work->written).subspan(place * n_words, n_words),
                       e2eio::LinePath::kStream);
  }
  e2eio::Staging::finish();
}

int main() {
  try {
    const e2eio::bench::Grid grid{1};
    const e2eio::KernelSet& kernels = e2eio::selected_kernels();
    const e2eio::bench::Records jets = e2eio::bench::make_records(kJets, grid);
    const e2eio::BatchGeometry geometry{e2eio::bench::kChannels, grid.side(), grid.side(),
                                        e2eio::DType::kFloat32, false};
    e2eio::ImageDecoder decoder(grid.shape(), e2eio::Precision::kFloat32, kernels);
    e2eio::Staging staging(geometry, kernels);
    e2eio::DecodedImage image;
    const e2eio::ZeroedMemory out(kJets * geometry.sample_bytes());
    std::vector<std::uint64_t> written(kJets * geometry.sample_words(), 0);
    const Work work{&decoder, &staging, &image, &jets, out.data(), geometry.sample_bytes(),
                    &written};
    e2eio_decode_counted(&work);
    std::uint64_t sum = 0;  // tells whether two sets have written the same
    for (std::size_t i = 0; i < out.n_bytes(); i += 4) {
      std::uint32_t word = 0;
      std::memcpy(&word, out.data() + i, 4);
      sum = sum * 31 + word;
    }
    std::cout << "{\"kernels\": \"" << kernels.name << "\", \"jets\": " << kJets * kPasses
              << ", \"sum\": \"" << sum << "\"}\n";
    return 0;
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
}
