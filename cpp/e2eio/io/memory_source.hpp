// Bytes in memory, for tests and fuzzing.
#pragma once

#include "e2eio/base/bytes.hpp"
#include "e2eio/io/source.hpp"

namespace e2eio {

// Thread rule: as Source. Owns the bytes.
class MemorySource final : public Source {
 public:
  explicit MemorySource(Bytes bytes, std::string name = "<memory>");

  void read(std::uint64_t offset_bytes, std::span<std::byte> to) const override;
  [[nodiscard]] std::uint64_t n_bytes() const noexcept override { return bytes_.size(); }
  [[nodiscard]] const std::string& path() const noexcept override { return name_; }
  [[nodiscard]] std::string kind() const override { return "memory"; }

 private:
  Bytes bytes_;
  std::string name_;
};

}  // namespace e2eio
