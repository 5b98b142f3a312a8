#include "e2eio/pipeline/shard_set.hpp"

#include <algorithm>
#include <utility>

namespace e2eio {

ShardSet::ShardSet(std::vector<std::shared_ptr<const ShardReader>> shards)
    : shards_(std::move(shards)) {
  if (shards_.empty()) {
    throw Error(ErrorKind::kInvalidArgument, "no shards, expected at least one");
  }
  std::uint64_t end = 0;
  for (const auto& shard : shards_) {
    if (shard->schema() != schema()) {
      throw Error(ErrorKind::kInvalidArgument,
                  cat("schemas differ: ", shards_.front()->path(), " and ", shard->path()),
                  Where{.path = shard->path()});
    }
    end += shard->n_samples();
    ends_.push_back(end);
  }
}

std::uint64_t ShardSet::n_bytes() const noexcept {
  std::uint64_t total = 0;
  for (const auto& shard : shards_) {
    total += shard->n_bytes();
  }
  return total;
}

ShardSet::Place ShardSet::locate(std::uint64_t id) const noexcept {
  const auto found = std::upper_bound(ends_.begin(), ends_.end(), id);
  const auto index = static_cast<std::size_t>(found - ends_.begin());
  const std::uint64_t begin = index == 0 ? 0 : ends_[index - 1];
  return {shards_[index].get(), id - begin};
}

}  // namespace e2eio
