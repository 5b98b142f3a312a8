// A file that a server outside the core reads: bytes come through a ReadQueue.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "e2eio/base/bytes.hpp"
#include "e2eio/io/file_source.hpp"
#include "e2eio/io/read_queue.hpp"
#include "e2eio/io/source.hpp"

namespace e2eio {

// Thread rule: as Source. Once it is told of a local copy, it reads that.
class ServedSource final : public Source {
 public:
  struct Description {
    std::uint64_t number = 0;  // of ReadQueue::add_source(), which the source then owns
    std::string path;          // for messages
    std::string kind;
    std::uint64_t n_bytes = 0;
    std::uint64_t merge_gap_bytes = 0;
  };
  // Bytes that are known already. Requires: within the file.
  struct Part {
    std::uint64_t begin = 0;
    Bytes bytes;
  };

  // Until settle(), `parts` are read from memory, and a read of what is not in them asks for more
  // than it was asked for, and keeps it: opening a shard makes few requests.
  ServedSource(std::shared_ptr<ReadQueue> queue, Description description, std::vector<Part> parts);
  ~ServedSource() override;
  ServedSource(const ServedSource&) = delete;
  ServedSource& operator=(const ServedSource&) = delete;

  void read(std::uint64_t offset_bytes, std::span<std::byte> to) const override;
  ReadReport read_many(std::span<const ReadRequest> requests,
                       const std::stop_token& stop) const override;
  [[nodiscard]] bool read_again(std::uint64_t offset_bytes, std::span<std::byte> to) const override;
  [[nodiscard]] bool always_waits() const noexcept override { return local_.load() == nullptr; }
  [[nodiscard]] std::uint64_t merge_gap_bytes() const noexcept override;
  [[nodiscard]] std::uint64_t n_bytes() const noexcept override { return about_.n_bytes; }
  [[nodiscard]] const std::string& path() const noexcept override { return about_.path; }
  [[nodiscard]] std::string kind() const override;

  // The shard is open: what was kept for that is dropped.
  void settle() const;
  // Reads the file at `path` from now on. Only the first call does anything.
  // Throws: as FileSource; Error(kCorrupt) if it has another size.
  void adopt(const std::string& path) const;

 private:
  [[nodiscard]] bool read_part(std::uint64_t offset_bytes, std::span<std::byte> to) const;
  void check(std::uint64_t offset_bytes, std::size_t n_bytes) const;

  std::shared_ptr<ReadQueue> queue_;
  const Description about_;
  mutable std::mutex mutex_;  // guards the two below; held while the shard is opened
  mutable std::vector<Part> parts_;
  mutable std::unique_ptr<const FileSource> owned_;
  mutable std::atomic<bool> settled_ = false;
  mutable std::atomic<const FileSource*> local_ = nullptr;
};

}  // namespace e2eio
