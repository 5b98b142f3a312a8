// Writes a file that exists under its name only when it is complete.
#pragma once

#include <cstdint>
#include <string>

#include "e2eio/base/bytes.hpp"
#include "e2eio/io/file_descriptor.hpp"
#include "e2eio/io/sink.hpp"

namespace e2eio {

// Writes to "<path>.e2eio-tmp-<pid>-<random>" in the same directory; commit() makes it <path>.
// Thread rule: one thread at a time. Destroyed without commit(): the temporary file is removed.
class FileSink final : public Sink {
 public:
  // Throws: Error(kIo) if the target exists and `overwrite` is false, or the file cannot be made.
  FileSink(std::string path, bool overwrite);
  FileSink(const FileSink&) = delete;
  FileSink& operator=(const FileSink&) = delete;
  ~FileSink() override;

  // Throws: Error(kIo), a full disk among the reasons.
  void write(ByteView bytes) override;

  // Hands all that was written to the system: temporary_path() has it. Throws: Error(kIo).
  void flush() override;

  // fsync, rename, fsync of the directory. Throws: Error(kIo); then nothing is under the name.
  void commit() override;

  // Removes the temporary file; idempotent.
  void abort() noexcept;

  [[nodiscard]] std::uint64_t n_bytes() const noexcept { return n_bytes_; }
  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  // Requires: neither commit() nor abort() was called.
  [[nodiscard]] const std::string& temporary_path() const noexcept override { return temporary_; }

 private:
  std::string path_;
  std::string temporary_;
  bool overwrite_;
  FileDescriptor file_;
  Bytes pending_;
  std::uint64_t n_bytes_ = 0;
};

}  // namespace e2eio
