// What Python hands over as the shards of a dataset: readers, and shards that come later.
#pragma once

#include <memory>
#include <variant>
#include <vector>

#include "e2eio/pipeline/shard_set.hpp"
#include "pybind.hpp"

namespace e2eio::bind {

using ShardPart = std::variant<std::shared_ptr<ShardReader>, LateShard>;

inline std::shared_ptr<const ShardSet> shard_set_of(const std::vector<ShardPart>& parts) {
  std::vector<ShardSet::Part> shards;
  shards.reserve(parts.size());
  for (const ShardPart& part : parts) {
    if (const auto* const late = std::get_if<LateShard>(&part)) {
      shards.emplace_back(*late);
    } else {
      shards.emplace_back(std::shared_ptr<const ShardReader>(*std::get_if<0>(&part)));
    }
  }
  return std::make_shared<const ShardSet>(std::move(shards));
}

}  // namespace e2eio::bind
