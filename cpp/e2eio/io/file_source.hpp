// A regular file, read by pread. Never by mmap: a file truncated under a mapping kills the process.
// docs/design/0004-reading.md has the measurements behind read_many().
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

  // Asks the page cache first (preadv2 with RWF_NOWAIT); what is not there is announced together,
  // so that the device works on all of it, and then read in turn.
  ReadReport read_many(std::span<const ReadRequest> requests,
                       const std::stop_token& stop) const override;
  void advise(std::uint64_t offset_bytes, std::uint64_t n_bytes,
              Advice advice) const noexcept override;
  [[nodiscard]] std::uint64_t n_bytes() const noexcept override { return n_bytes_; }
  [[nodiscard]] const std::string& path() const noexcept override { return path_; }
  [[nodiscard]] std::string kind() const override { return "pread"; }

  [[nodiscard]] int descriptor() const noexcept { return file_.get(); }

  // The errors of a read, for every way of reading files: `error_number` from the system, or the
  // end of the file after `n_done` bytes of it.
  [[noreturn]] void throw_refused(const ReadRequest& request, int error_number) const;
  [[noreturn]] void throw_ended(const ReadRequest& request, std::size_t n_done) const;

 private:
  // Reads what is left of the request after `n_done` bytes.
  void read_rest(const ReadRequest& request, std::size_t n_done) const;

  std::string path_;
  FileDescriptor file_;
  std::uint64_t n_bytes_ = 0;
};

}  // namespace e2eio
