// Owns a file descriptor.
#pragma once

#include <unistd.h>

#include <utility>

namespace e2eio {

// Thread rule: as an int. Closed by the destructor, whose failure is ignored: who must know calls
// close().
class FileDescriptor {
 public:
  explicit FileDescriptor(int descriptor = -1) noexcept : descriptor_(descriptor) {}
  FileDescriptor(FileDescriptor&& other) noexcept
      : descriptor_(std::exchange(other.descriptor_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept {
    std::swap(descriptor_, other.descriptor_);
    return *this;
  }
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;
  ~FileDescriptor() {
    if (descriptor_ >= 0) {
      (void)::close(descriptor_);
    }
  }

  [[nodiscard]] int get() const noexcept { return descriptor_; }

  // The result of close(2); the descriptor is gone in any case.
  [[nodiscard]] int close() noexcept { return ::close(std::exchange(descriptor_, -1)); }

 private:
  int descriptor_;
};

}  // namespace e2eio
