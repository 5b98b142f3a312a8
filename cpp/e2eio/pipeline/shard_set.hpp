// Several shards as one sequence of samples.
#pragma once

#include <memory>
#include <vector>

#include "e2eio/format/shard_reader.hpp"

namespace e2eio {

// Thread rule: immutable; any thread.
class ShardSet {
 public:
  struct Place {
    const ShardReader* shard = nullptr;
    std::uint64_t sample = 0;  // within the shard
  };

  // Throws: Error(kInvalidArgument) if there is no shard or the schemas differ.
  explicit ShardSet(std::vector<std::shared_ptr<const ShardReader>> shards);

  [[nodiscard]] const Schema& schema() const noexcept { return shards_.front()->schema(); }
  [[nodiscard]] std::uint64_t n_samples() const noexcept { return ends_.back(); }
  [[nodiscard]] std::uint64_t n_bytes() const noexcept;  // of all files

  // Requires: id < n_samples().
  [[nodiscard]] Place locate(std::uint64_t id) const noexcept;

 private:
  std::vector<std::shared_ptr<const ShardReader>> shards_;
  std::vector<std::uint64_t> ends_;
};

}  // namespace e2eio
