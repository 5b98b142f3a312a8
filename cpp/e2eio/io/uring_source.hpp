// A regular file, read through io_uring: all reads of a batch are handed to the kernel at once.
#pragma once

#include <atomic>

#include "e2eio/io/file_source.hpp"

namespace e2eio {

// Why io_uring cannot be used by this process: empty if it can. Tried once per process, since
// containers refuse it by seccomp, systems by a setting, and small limits by memory.
[[nodiscard]] const std::string& uring_refusal();

// Each thread that reads has a ring of its own, made at its first read_many() and gone with the
// thread; a forked child makes its own. A thread that is refused a ring reads as FileSource does.
// Thread rule: as Source.
class UringSource final : public Source {
 public:
  // Throws: as FileSource.
  explicit UringSource(std::string path) : file_(std::move(path)) {}

  void read(std::uint64_t offset_bytes, std::span<std::byte> to) const override {
    file_.read(offset_bytes, to);
  }
  // A stop is not looked at: reads that the kernel has cannot be taken back quickly.
  ReadReport read_many(std::span<const ReadRequest> requests,
                       const std::stop_token& stop) const override;
  void advise(std::uint64_t offset_bytes, std::uint64_t n_bytes,
              Advice advice) const noexcept override {
    file_.advise(offset_bytes, n_bytes, advice);
  }
  [[nodiscard]] std::uint64_t n_bytes() const noexcept override { return file_.n_bytes(); }
  [[nodiscard]] const std::string& path() const noexcept override { return file_.path(); }
  [[nodiscard]] std::string kind() const override;

 private:
  FileSource file_;
  mutable std::atomic<bool> refused_ = false;  // to one thread at least
};

}  // namespace e2eio
