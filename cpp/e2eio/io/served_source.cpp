#include "e2eio/io/served_source.hpp"

#include <algorithm>
#include <utility>

#include "e2eio/base/error.hpp"

namespace e2eio {
namespace {

// What a read asks for at least while a shard is opened: schema, sizes and codes follow each other.
constexpr std::uint64_t kOpeningBytes = std::uint64_t{256} << 10U;

}  // namespace

ServedSource::ServedSource(std::shared_ptr<ReadQueue> queue, Description description,
                           std::vector<Part> parts)
    : queue_(std::move(queue)), about_(std::move(description)), parts_(std::move(parts)) {}

ServedSource::~ServedSource() { queue_->remove_source(about_.number); }

void ServedSource::check(std::uint64_t offset_bytes, std::size_t n_bytes) const {
  if (offset_bytes > about_.n_bytes || n_bytes > about_.n_bytes - offset_bytes) {
    throw Error(ErrorKind::kCorrupt,
                cat("truncated shard: ", path(), ": ends at byte ", about_.n_bytes),
                Where{.path = path(), .offset_bytes = about_.n_bytes});
  }
}

bool ServedSource::read_part(std::uint64_t offset_bytes, std::span<std::byte> to) const {
  for (const Part& part : parts_) {
    if (offset_bytes >= part.begin && offset_bytes - part.begin <= part.bytes.size() &&
        to.size() <= part.bytes.size() - (offset_bytes - part.begin)) {
      const ByteView from = ByteView(part.bytes).subspan(offset_bytes - part.begin, to.size());
      std::copy(from.begin(), from.end(), to.begin());
      return true;
    }
  }
  return false;
}

void ServedSource::read(std::uint64_t offset_bytes, std::span<std::byte> to) const {
  if (const FileSource* const local = local_.load()) {
    local->read(offset_bytes, to);
    return;
  }
  check(offset_bytes, to.size());
  if (!settled_) {
    const std::lock_guard lock(mutex_);
    if (read_part(offset_bytes, to)) {
      return;
    }
    std::uint64_t end = std::min(about_.n_bytes, offset_bytes + kOpeningBytes);
    for (const Part& part : parts_) {  // not again what is there
      if (part.begin > offset_bytes) {
        end = std::min(end, part.begin);
      }
    }
    Part more{offset_bytes, Bytes(std::max<std::uint64_t>(to.size(), end - offset_bytes))};
    const ReadRequest request{offset_bytes, more.bytes};
    (void)queue_->read(about_.number, {&request, 1}, false, {});
    std::copy_n(more.bytes.begin(), to.size(), to.begin());
    parts_.push_back(std::move(more));
    return;
  }
  const ReadRequest request{offset_bytes, to};
  (void)queue_->read(about_.number, {&request, 1}, false, {});
}

ReadReport ServedSource::read_many(std::span<const ReadRequest> requests,
                                   const std::stop_token& stop) const {
  if (const FileSource* const local = local_.load()) {
    return local->read_many(requests, stop);
  }
  for (const ReadRequest& request : requests) {
    check(request.offset_bytes, request.to.size());
  }
  return queue_->read(about_.number, requests, false, stop);
}

bool ServedSource::read_again(std::uint64_t offset_bytes, std::span<std::byte> to) const {
  check(offset_bytes, to.size());
  const ReadRequest request{offset_bytes, to};
  (void)queue_->read(about_.number, {&request, 1}, true, {});
  return true;
}

std::uint64_t ServedSource::merge_gap_bytes() const noexcept {
  return always_waits() ? about_.merge_gap_bytes : 0;
}

std::string ServedSource::kind() const {
  const FileSource* const local = local_.load();
  return local == nullptr ? about_.kind : "cached " + about_.kind;
}

void ServedSource::settle() const {
  const std::lock_guard lock(mutex_);
  parts_ = {};
  settled_ = true;
}

void ServedSource::adopt(const std::string& path) const {
  auto file = std::make_unique<const FileSource>(path);
  if (file->n_bytes() != about_.n_bytes) {
    throw Error(ErrorKind::kCorrupt,
                cat("damaged cache: ", path, ": has ", file->n_bytes(), " bytes, expected ",
                    about_.n_bytes, "; remove it"),
                Where{.path = path});
  }
  const std::lock_guard lock(mutex_);
  if (owned_ == nullptr) {
    owned_ = std::move(file);
    local_ = owned_.get();
  }
}

}  // namespace e2eio
