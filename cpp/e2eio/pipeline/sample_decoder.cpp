#include "e2eio/pipeline/sample_decoder.hpp"

#include <algorithm>
#include <utility>

namespace e2eio {
namespace {

// Neighbouring records are read together up to this many bytes.
constexpr std::uint64_t kMaxReadBytes = std::uint64_t{4} << 20U;

}  // namespace

BatchGeometry batch_geometry(const Schema& schema, const std::vector<std::uint32_t>& channels,
                             DType dtype, bool channels_last, const TransformProgram* transforms) {
  for (const std::uint32_t channel : channels) {
    if (channel >= schema.channels.size()) {
      throw Error(ErrorKind::kInvalidArgument,
                  cat("channel ", channel, ", expected less than ", schema.channels.size()));
    }
  }
  if (channels.empty()) {
    throw Error(ErrorKind::kInvalidArgument, "no channels, expected at least one");
  }
  if (dtype != DType::kFloat32 && dtype != DType::kFloat16 && dtype != DType::kBFloat16) {
    throw Error(ErrorKind::kInvalidArgument,
                cat("dtype '", name_of(dtype), "', expected float32, float16 or bfloat16"));
  }
  PixelExtent extent{schema.height, schema.width};
  if (transforms != nullptr) {
    if (transforms->input_extent() != extent || transforms->n_channels() != channels.size()) {
      throw Error(ErrorKind::kInvalidArgument, "transforms were made for other images");
    }
    extent = transforms->output_extent();
  }
  return {static_cast<std::uint32_t>(channels.size()), extent.height, extent.width, dtype,
          channels_last};
}

SampleDecoder::SampleDecoder(const ShardSet& shards, std::vector<std::uint32_t> channels,
                             const BatchGeometry& geometry, bool verify, const KernelSet& kernels,
                             const TransformProgram* transforms)
    : shards_(&shards),
      channels_(std::move(channels)),
      verify_(verify),
      kernels_(&kernels),
      decoder_(shards.schema().shape(), shards.schema().precision, kernels),
      staging_(geometry, kernels),
      transforms_(transforms),
      blank_(geometry.sample_words(), 0) {}

void SampleDecoder::decode(const ShardSet::Place& place, ByteView record) {
  place.shard->decode(place.sample, record, channels_, verify_, decoder_, image_);
}

template <typename Prepare, typename Put>
std::uint64_t SampleDecoder::decode_each(std::span<const std::uint64_t> ids, std::uint64_t epoch,
                                         Prepare prepare, Put put) {
  std::uint64_t n_bytes = 0;
  for (std::size_t begin = 0; begin < ids.size();) {
    const ShardSet::Place place = shards_->locate(ids[begin]);
    std::size_t run = 1;
    const std::uint64_t offset = place.shard->record_begin(place.sample);
    while (begin + run < ids.size() && ids[begin + run] == ids[begin] + run &&
           place.sample + run < place.shard->n_samples() &&
           place.shard->record_end(place.sample + run) - offset <= kMaxReadBytes) {
      ++run;
    }
    const ByteView records = place.shard->read_records(place.sample, place.sample + run, buffer_);
    n_bytes += records.size();
    for (std::size_t i = 0; i < run; ++i) {
      const std::uint64_t sample = place.sample + i;
      const std::uint64_t record = place.shard->record_begin(sample);
      prepare(begin + i);
      decode({place.shard, sample},
             records.subspan(record - offset, place.shard->record_end(sample) - record));
      if (transforms_ != nullptr) {
        transforms_->apply(image_, {epoch, ids[begin + i]}, transform_scratch_);
      }
      put(begin + i);
    }
    begin += run;
  }
  return n_bytes;
}

std::uint64_t SampleDecoder::fill(Slot& slot, std::size_t first, std::span<const std::uint64_t> ids,
                                  std::uint64_t canary_key, std::uint64_t epoch) {
  Slot::Canaries canaries;
  const auto prepare = [&](std::size_t i) {
    slot.choose_canaries(first + i, canary_key + (first + i) * 4096, canaries);
  };
  const auto put = [&](std::size_t i) {
    if (!slot.alive(first + i, canaries)) {
      throw Error(ErrorKind::kStale,
                  "a batch was written into after it was delivered; pass writable=True to the "
                  "Loader, or copy the batch before you change it");
    }
    slot.put(first + i, image_, staging_);
  };
  const std::uint64_t n_bytes = decode_each(ids, epoch, prepare, put);
  Staging::finish();
  return n_bytes;
}

std::uint64_t SampleDecoder::fill(SparseBatch& batch, std::size_t first,
                                  std::span<const std::uint64_t> ids, std::uint64_t epoch) {
  return decode_each(
      ids, epoch, [](std::size_t) {}, [&](std::size_t i) { batch.put(first + i, image_, *kernels_); });
}

void SampleDecoder::fill_zeroed(std::byte* sample, std::uint64_t id) {
  const ShardSet::Place place = shards_->locate(id);
  decode(place, place.shard->read_records(place.sample, place.sample + 1, buffer_));
  std::fill(blank_.begin(), blank_.end(), 0);
  staging_.put(image_, sample, blank_, LinePath::kStore);
}

}  // namespace e2eio
