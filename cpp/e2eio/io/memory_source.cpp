#include "e2eio/io/memory_source.hpp"

#include <algorithm>
#include <utility>

namespace e2eio {

MemorySource::MemorySource(Bytes bytes, std::string name)
    : bytes_(std::move(bytes)), name_(std::move(name)) {}

void MemorySource::read(std::uint64_t offset_bytes, std::span<std::byte> to) const {
  if (offset_bytes > bytes_.size() || to.size() > bytes_.size() - offset_bytes) {
    throw Error(ErrorKind::kCorrupt,
                cat("truncated shard: ", name_, ": ends at byte ", bytes_.size()),
                Where{.path = name_, .offset_bytes = bytes_.size()});
  }
  const ByteView from = ByteView(bytes_).subspan(offset_bytes, to.size());
  std::copy(from.begin(), from.end(), to.begin());
}

}  // namespace e2eio
