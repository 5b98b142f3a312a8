#include "e2eio/pipeline/record_fetcher.hpp"

#include <algorithm>
#include <functional>
#include <numeric>

namespace e2eio {
namespace {

// Reads are merged up to this size: large enough for the rate of a disk, small enough that several
// are under way at once.
constexpr std::uint64_t kMaxReadBytes = std::uint64_t{4} << 20U;

std::uint64_t begin_of(const ShardSet::Place& place) noexcept {
  return place.shard->record_begin(place.sample);
}

std::uint64_t end_of(const ShardSet::Place& place) noexcept {
  return place.shard->record_end(place.sample);
}

}  // namespace

std::uint64_t RecordFetcher::plan(std::span<const std::uint64_t> ids) {
  places_.clear();
  for (const std::uint64_t id : ids) {
    places_.push_back(shards_->locate(id));
  }
  const auto before = [this](std::uint32_t a, std::uint32_t b) {
    const ShardSet::Place& first = places_[a];
    const ShardSet::Place& second = places_[b];
    return first.shard == second.shard ? first.sample < second.sample
                                       : std::less<>()(first.shard, second.shard);
  };
  order_.resize(places_.size());
  std::iota(order_.begin(), order_.end(), 0U);
  if (!std::is_sorted(order_.begin(), order_.end(), before)) {
    std::sort(order_.begin(), order_.end(), before);
  }
  extent_.resize(places_.size());
  extents_.clear();
  n_bytes_ = 0;
  for (const std::uint32_t i : order_) {
    const Source* const source = &places_[i].shard->source();
    const std::uint64_t begin = begin_of(places_[i]);
    const std::uint64_t end = end_of(places_[i]);
    Extent* const last = extents_.empty() ? nullptr : &extents_.back();
    if (last != nullptr && last->source == source &&
        begin <= last->end + std::max(gap_bytes_, source->merge_gap_bytes()) &&
        end - last->begin <= kMaxReadBytes) {
      n_bytes_ += std::max(end, last->end) - last->end;
      last->end = std::max(end, last->end);
    } else {
      extents_.push_back({source, begin, end, n_bytes_});
      n_bytes_ += end - begin;
    }
    extent_[i] = static_cast<std::uint32_t>(extents_.size() - 1);
  }
  return n_bytes_;
}

void RecordFetcher::read_extents(Bytes& buffer, const std::stop_token& stop, Report& report) {
  for (std::size_t next = 0; next < extents_.size() && !report.stopped;) {
    const Source* const source = extents_[next].source;
    requests_.clear();
    for (; next < extents_.size() && extents_[next].source == source; ++next) {
      const Extent& extent = extents_[next];
      requests_.push_back(
          {extent.begin, std::span(buffer).subspan(extent.at, extent.end - extent.begin)});
    }
    const ReadReport done = source->read_many(requests_, stop);
    report.n_waited += done.n_waited;
    report.n_retries += done.n_retries;
    report.stopped = done.stopped;
  }
}

RecordFetcher::Report RecordFetcher::read(FetchedRecords& to, const std::stop_token& stop) {
  if (to.buffer_.size() < n_bytes_) {
    to.buffer_ = Bytes(n_bytes_);
  }
  to.records_.clear();
  for (std::size_t i = 0; i < places_.size(); ++i) {
    const Extent& extent = extents_[extent_[i]];
    const std::uint64_t begin = begin_of(places_[i]);
    to.records_.push_back(
        {places_[i], ByteView(to.buffer_)
                         .subspan(extent.at + (begin - extent.begin), end_of(places_[i]) - begin)});
  }
  Report report{.n_records = places_.size(), .n_reads = extents_.size(), .n_bytes = n_bytes_};
  read_extents(to.buffer_, stop, report);
  return report;
}

}  // namespace e2eio
