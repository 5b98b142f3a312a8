#include "e2eio/pipeline/sample_decoder.hpp"

#include <algorithm>
#include <utility>

namespace e2eio {

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

void SampleDecoder::decode(const SampleRun& run, std::size_t i) {
  decode(run.records[i].place, run.records[i].bytes);
  if (transforms_ != nullptr) {
    transforms_->apply(image_, {run.epoch, run.ids[i]}, transform_scratch_);
  }
}

std::uint64_t SampleDecoder::fill(Slot& slot, const SampleRun& run, std::uint64_t canary_key) {
  std::uint64_t n_bytes = 0;
  Slot::Canaries canaries;
  for (std::size_t i = 0; i < run.records.size(); ++i) {
    const std::size_t to = run.first + i;
    slot.choose_canaries(to, canary_key + to * 4096, canaries);
    decode(run, i);
    n_bytes += run.records[i].bytes.size();
    if (!slot.alive(to, canaries)) {
      throw Error(ErrorKind::kStale,
                  "a batch was written into after it was delivered; pass writable=True to the "
                  "Loader, or copy the batch before you change it");
    }
    slot.put(to, image_, staging_);
  }
  Staging::finish();
  return n_bytes;
}

std::uint64_t SampleDecoder::fill(SparseBatch& batch, const SampleRun& run) {
  std::uint64_t n_bytes = 0;
  for (std::size_t i = 0; i < run.records.size(); ++i) {
    decode(run, i);
    n_bytes += run.records[i].bytes.size();
    batch.put(run.first + i, image_, *kernels_);
  }
  return n_bytes;
}

void SampleDecoder::fill_zeroed(std::byte* sample, const Record& record) {
  decode(record.place, record.bytes);
  std::fill(blank_.begin(), blank_.end(), 0);
  staging_.put(image_, sample, blank_, LinePath::kStore);
}

}  // namespace e2eio
