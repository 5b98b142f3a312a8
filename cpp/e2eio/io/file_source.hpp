// A regular file, read by pread. Never by mmap: a file truncated under a mapping kills the process.
#pragma once

#include "e2eio/io/file_descriptor.hpp"
#include "e2eio/io/source.hpp"

namespace e2eio {

// Thread rule: as Source. Keeps the file open; a file replaced meanwhile is still the old one here.
class FileSource final : public Source {
 public:
  // Throws: Error(kIo) if it cannot be opened, or is not a regular file (a FIFO never blocks).
  explicit FileSource(std::string path);

  void read(std::uint64_t offset_bytes, std::span<std::byte> to) const override;
  [[nodiscard]] std::uint64_t n_bytes() const noexcept override { return n_bytes_; }
  [[nodiscard]] const std::string& path() const noexcept override { return path_; }

 private:
  std::string path_;
  FileDescriptor file_;
  std::uint64_t n_bytes_ = 0;
};

}  // namespace e2eio
