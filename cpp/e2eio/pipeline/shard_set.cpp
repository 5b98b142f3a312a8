#include "e2eio/pipeline/shard_set.hpp"

#include <algorithm>
#include <map>
#include <utility>

namespace e2eio {
namespace {

using Reader = std::shared_ptr<const ShardReader>;

const Schema& schema_of(const ShardSet::Part& part) noexcept {
  const auto* const late = std::get_if<LateShard>(&part);
  return late != nullptr ? late->schema() : (*std::get_if<Reader>(&part))->schema();
}

std::uint64_t samples_of(const ShardSet::Part& part) noexcept {
  const auto* const late = std::get_if<LateShard>(&part);
  return late != nullptr ? late->n_samples() : (*std::get_if<Reader>(&part))->n_samples();
}

std::uint64_t bytes_of(const ShardSet::Part& part) noexcept {
  const auto* const late = std::get_if<LateShard>(&part);
  return late != nullptr ? late->n_bytes() : (*std::get_if<Reader>(&part))->n_bytes();
}

std::string name_of(const ShardSet::Part& part) {
  const auto* const reader = std::get_if<Reader>(&part);
  return reader != nullptr ? (*reader)->path() : "a shard that is not made yet";
}

}  // namespace

ShardSet::ShardSet(const std::vector<Reader>& shards)
    : ShardSet(std::vector<Part>(shards.begin(), shards.end())) {}

ShardSet::ShardSet(std::vector<Part> shards) : shards_(std::move(shards)) {
  if (shards_.empty()) {
    throw Error(ErrorKind::kInvalidArgument, "no shards, expected at least one");
  }
  std::uint64_t end = 0;
  for (const Part& shard : shards_) {
    if (schema_of(shard) != schema()) {
      throw Error(ErrorKind::kInvalidArgument,
                  cat("schemas differ: ", name_of(shards_.front()), " and ", name_of(shard)),
                  Where{.path = name_of(shard)});
    }
    const auto* const reader = std::get_if<Reader>(&shard);
    readers_.push_back(reader == nullptr ? nullptr : reader->get());
    any_late_ |= reader == nullptr;
    end += samples_of(shard);
    ends_.push_back(end);
  }
}

const Schema& ShardSet::schema() const noexcept { return schema_of(shards_.front()); }

std::uint64_t ShardSet::n_bytes() const noexcept {
  std::uint64_t total = 0;
  for (const Part& shard : shards_) {
    total += bytes_of(shard);
  }
  return total;
}

std::size_t ShardSet::index_of(std::uint64_t id) const noexcept {
  const auto found = std::upper_bound(ends_.begin(), ends_.end(), id);
  return static_cast<std::size_t>(found - ends_.begin());
}

ShardSet::Place ShardSet::locate(std::uint64_t id) const noexcept {
  const std::size_t index = index_of(id);
  const std::uint64_t begin = index == 0 ? 0 : ends_[index - 1];
  const ShardReader* const reader = readers_[index];
  return {reader != nullptr ? reader : std::get_if<LateShard>(&shards_[index])->find(), id - begin};
}

bool ShardSet::has_all(std::span<const std::uint64_t> ids) const noexcept {
  return !any_late_ || std::all_of(ids.begin(), ids.end(), [this](std::uint64_t id) {
    return locate(id).shard != nullptr;
  });
}

bool ShardSet::await(std::span<const std::uint64_t> ids, const std::stop_token& stop) const {
  if (!any_late_) {
    return true;
  }
  std::map<LateShards*, std::vector<std::size_t>> asked;  // several, where datasets were joined
  for (const std::uint64_t id : ids) {
    if (const auto* const late = std::get_if<LateShard>(&shards_[index_of(id)])) {
      asked[&late->of()].push_back(late->index());
    }
  }
  return std::all_of(asked.begin(), asked.end(), [&stop](const auto& shards) {
    return shards.first->await(std::span<const std::size_t>(shards.second), stop);
  });
}

}  // namespace e2eio
