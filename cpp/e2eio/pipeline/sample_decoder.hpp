// One thread's way from sample ids to filled samples of a slot.
#pragma once

#include <span>
#include <vector>

#include "e2eio/pipeline/shard_set.hpp"
#include "e2eio/pipeline/slot.hpp"
#include "e2eio/pipeline/sparse_batch.hpp"

namespace e2eio {

// Thread rule: one thread at a time; make one per thread.
class SampleDecoder {
 public:
  SampleDecoder(const ShardSet& shards, std::vector<std::uint32_t> channels,
                const BatchGeometry& geometry, bool verify, const KernelSet& kernels);

  // Fills samples [first, first + ids.size()) of the slot. Returns the record bytes read.
  // Throws: Error(kCorrupt), Error(kIo), Error(kStale); the slot stays usable after distrust().
  std::uint64_t fill(Slot& slot, std::size_t first, std::span<const std::uint64_t> ids,
                     std::uint64_t canary_key);

  // The same for a sparse batch. Throws: Error(kCorrupt), Error(kIo), Error(kInvalidArgument).
  std::uint64_t fill(SparseBatch& batch, std::size_t first, std::span<const std::uint64_t> ids);

  // Writes one sample into memory that holds zeros, aligned to the dtype.
  void fill_zeroed(std::byte* sample, std::uint64_t id);

 private:
  void decode(const ShardSet::Place& place, ByteView record);

  // Calls prepare(i) before, and put(i) once image_ holds the sample ids[i]. Returns the record
  // bytes read.
  template <typename Prepare, typename Put>
  std::uint64_t decode_each(std::span<const std::uint64_t> ids, Prepare prepare, Put put);

  const ShardSet* shards_;
  std::vector<std::uint32_t> channels_;
  bool verify_;
  const KernelSet* kernels_;
  ImageDecoder decoder_;
  Staging staging_;
  DecodedImage image_;
  Bytes buffer_;
  std::vector<std::uint64_t> blank_;  // masks of memory that holds zeros
};

// Throws: Error(kInvalidArgument) unless each channel is below the schema's number of channels.
[[nodiscard]] BatchGeometry batch_geometry(const Schema& schema,
                                           const std::vector<std::uint32_t>& channels, DType dtype,
                                           bool channels_last);

}  // namespace e2eio
