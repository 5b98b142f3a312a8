// Several shards as one sequence of samples.
#pragma once

#include <memory>
#include <span>
#include <stop_token>
#include <variant>
#include <vector>

#include "e2eio/format/shard_reader.hpp"
#include "e2eio/pipeline/late_shards.hpp"

namespace e2eio {

// Thread rule: immutable, but for late shards, which come; any thread.
class ShardSet {
 public:
  using Part = std::variant<std::shared_ptr<const ShardReader>, LateShard>;
  struct Place {
    const ShardReader* shard = nullptr;  // null: late, and not there
    std::uint64_t sample = 0;            // within the shard
  };

  // Throws: Error(kInvalidArgument) if there is no shard or the schemas differ.
  explicit ShardSet(const std::vector<std::shared_ptr<const ShardReader>>& shards);
  explicit ShardSet(std::vector<Part> shards);

  [[nodiscard]] const Schema& schema() const noexcept;
  [[nodiscard]] std::uint64_t n_samples() const noexcept { return ends_.back(); }
  [[nodiscard]] std::uint64_t n_bytes() const noexcept;  // of all files; about, of late ones

  // Returns once the shards of these samples are there; false: the stop was asked for.
  // Throws: the error that making one of them gave.
  [[nodiscard]] bool await(std::span<const std::uint64_t> ids, const std::stop_token& stop) const;
  [[nodiscard]] bool has_all(std::span<const std::uint64_t> ids) const noexcept;

  // Requires: id < n_samples().
  [[nodiscard]] Place locate(std::uint64_t id) const noexcept;

 private:
  [[nodiscard]] std::size_t index_of(std::uint64_t id) const noexcept;

  std::vector<Part> shards_;
  std::vector<const ShardReader*> readers_;  // null: late
  std::vector<std::uint64_t> ends_;
  bool any_late_ = false;
};

}  // namespace e2eio
