#include "e2eio/io/file_sink.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdio>
#include <random>
#include <utility>

#include "e2eio/base/error.hpp"

namespace e2eio {
namespace {

constexpr std::size_t kBufferBytes = std::size_t{1} << 20U;

std::string directory_of(const std::string& path) {
  const std::size_t slash = path.find_last_of('/');
  if (slash == std::string::npos) {
    return ".";
  }
  return slash == 0 ? "/" : path.substr(0, slash);
}

[[noreturn]] void throw_exists(const std::string& path) {
  throw Error(ErrorKind::kIo,
              cat("target exists: ", path, ": will not replace it; remove it or pass overwrite"),
              Where{.path = path, .error_number = EEXIST});
}

}  // namespace

FileSink::FileSink(std::string path, bool overwrite)
    : path_(std::move(path)), overwrite_(overwrite) {
  struct stat status{};
  if (!overwrite_ && ::lstat(path_.c_str(), &status) == 0) {
    throw_exists(path_);
  }
  std::random_device random;
  const std::string temporary =
      cat(path_, ".e2eio-tmp-", ::getpid(), "-", hex32(random()).substr(2));
  file_ = FileDescriptor(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
  if (file_.get() < 0) {
    throw_io("cannot create", temporary, errno);
  }
  temporary_ = temporary;
  pending_.reserve(kBufferBytes);
}

FileSink::~FileSink() { abort(); }

void FileSink::write(ByteView bytes) {
  append_bytes(pending_, bytes);
  n_bytes_ += bytes.size();
  if (pending_.size() >= kBufferBytes) {
    flush();
  }
}

void FileSink::flush() {
  std::size_t done = 0;
  while (done < pending_.size()) {
    const ssize_t put = ::write(file_.get(), pending_.data() + done, pending_.size() - done);
    if (put < 0 && (errno == EINTR || errno == EAGAIN)) {
      continue;
    }
    if (put <= 0) {  // 0 would spin for ever
      throw_io("cannot write", path_, put < 0 ? errno : ENOSPC);
    }
    done += static_cast<std::size_t>(put);
  }
  pending_.clear();
}

void FileSink::commit() {
  flush();
  if (::fsync(file_.get()) != 0) {
    throw_io("cannot fsync", path_, errno);
  }
  if (file_.close() != 0) {
    throw_io("cannot close", path_, errno);
  }
  // link() refuses an existing target atomically; rename() replaces it atomically.
  if (overwrite_) {
    if (::rename(temporary_.c_str(), path_.c_str()) != 0) {
      throw_io("cannot rename to", path_, errno);
    }
  } else {
    if (::link(temporary_.c_str(), path_.c_str()) != 0) {
      const int reason = errno;
      if (reason == EEXIST) {
        throw_exists(path_);
      }
      // File systems without hard links (some network mounts).
      if (::access(path_.c_str(), F_OK) == 0 || ::rename(temporary_.c_str(), path_.c_str()) != 0) {
        throw_io("cannot rename to", path_, reason);
      }
    } else {
      (void)::unlink(temporary_.c_str());
    }
  }
  temporary_.clear();
  const FileDescriptor directory(
      ::open(directory_of(path_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (directory.get() >= 0) {
    (void)::fsync(directory.get());
  }
}

void FileSink::abort() noexcept {
  if (!temporary_.empty()) {
    (void)::unlink(temporary_.c_str());
    temporary_.clear();
  }
  file_ = FileDescriptor();
}

}  // namespace e2eio
