// Bytes in, by position.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace e2eio {

// Thread rule: read() may be called by many threads at once.
class Source {
 public:
  Source() = default;
  Source(const Source&) = delete;
  Source& operator=(const Source&) = delete;
  virtual ~Source() = default;

  // Fills `to` with the bytes at `offset_bytes`.
  // Throws: Error(kIo) if the system refuses; Error(kCorrupt) if the source ends before `to` is
  // full.
  virtual void read(std::uint64_t offset_bytes, std::span<std::byte> to) const = 0;

  [[nodiscard]] virtual std::uint64_t n_bytes() const noexcept = 0;

  // For messages.
  [[nodiscard]] virtual const std::string& path() const noexcept = 0;
};

}  // namespace e2eio
