// Samples on request, without a pipeline: read in merged reads, decoded by several threads.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "e2eio/pipeline/shard_set.hpp"
#include "e2eio/pipeline/slot.hpp"

namespace e2eio {

// Thread rule: immutable; any thread. Threads live as long as a call, and work in a forked child.
class SampleReader {
 public:
  explicit SampleReader(std::shared_ptr<const ShardSet> shards) : shards_(std::move(shards)) {}

  [[nodiscard]] const ShardSet& shards() const noexcept { return *shards_; }

  // float32 images [n, channels.size(), H, W] of samples in any order, repetitions allowed, into
  // memory that holds zeros. The error thrown is that of the first bad record in the files.
  // Requires: n_threads >= 1. Throws: Error(kInvalidArgument), Error(kIo), Error(kCorrupt).
  void read(std::span<const std::uint64_t> ids, const std::vector<std::uint32_t>& channels,
            int n_threads, std::byte* zeroed) const;

 private:
  std::shared_ptr<const ShardSet> shards_;
};

}  // namespace e2eio
