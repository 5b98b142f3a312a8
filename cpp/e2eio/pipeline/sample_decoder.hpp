// One thread's way from sample ids to filled samples of a slot.
#pragma once

#include <span>
#include <vector>

#include "e2eio/pipeline/record_fetcher.hpp"
#include "e2eio/pipeline/shard_set.hpp"
#include "e2eio/pipeline/slot.hpp"
#include "e2eio/pipeline/sparse_batch.hpp"
#include "e2eio/transform/transform_program.hpp"

namespace e2eio {

// Samples of a batch that one thread fills: [first, first + ids.size()) of it.
struct SampleRun {
  std::size_t first = 0;
  std::span<const std::uint64_t> ids;
  std::span<const Record> records;  // of these samples, in this order
  std::uint64_t epoch = 0;          // that random transforms draw for
};

// Thread rule: one thread at a time; make one per thread.
class SampleDecoder {
 public:
  // `transforms` (null: none) are those that `geometry` was made for; they outlive the decoder.
  SampleDecoder(const ShardSet& shards, std::vector<std::uint32_t> channels,
                const BatchGeometry& geometry, bool verify, const KernelSet& kernels,
                const TransformProgram* transforms = nullptr);

  // Fills the samples of the run. Returns the bytes of its records.
  // Throws: Error(kCorrupt), Error(kStale); the slot stays usable after distrust().
  std::uint64_t fill(Slot& slot, const SampleRun& run, std::uint64_t canary_key);

  // The same for a sparse batch. Throws: Error(kCorrupt), Error(kInvalidArgument).
  std::uint64_t fill(SparseBatch& batch, const SampleRun& run);

  // Writes one sample into memory that holds zeros, aligned to the dtype.
  void fill_zeroed(std::byte* sample, const Record& record);

 private:
  void decode(const ShardSet::Place& place, ByteView record);

  void decode(const SampleRun& run, std::size_t i);

  const ShardSet* shards_;
  std::vector<std::uint32_t> channels_;
  bool verify_;
  const KernelSet* kernels_;
  ImageDecoder decoder_;
  Staging staging_;
  const TransformProgram* transforms_;
  TransformScratch transform_scratch_;
  DecodedImage image_;
  std::vector<std::uint64_t> blank_;  // masks of memory that holds zeros
};

// Throws: Error(kInvalidArgument) unless each channel is below the schema's number of channels, and
// `transforms` (null: none) were made for such images.
[[nodiscard]] BatchGeometry batch_geometry(const Schema& schema,
                                           const std::vector<std::uint32_t>& channels, DType dtype,
                                           bool channels_last,
                                           const TransformProgram* transforms = nullptr);

}  // namespace e2eio
