#include "e2eio/io/file_source.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <utility>

#include "e2eio/base/error.hpp"

namespace e2eio {

FileSource::FileSource(std::string path)
    : path_(std::move(path)), file_(::open(path_.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC)) {
  if (file_.get() < 0) {
    const int reason = errno;
    if (reason == EMFILE || reason == ENFILE) {
      throw Error(ErrorKind::kIo,
                  cat("cannot open: ", path_, ": too many open files; raise the limit (ulimit -n) ",
                      "or convert with fewer, larger shards"),
                  Where{.path = path_, .error_number = reason});
    }
    throw_io("cannot open", path_, reason);
  }
  struct stat status{};
  if (::fstat(file_.get(), &status) != 0) {
    throw_io("cannot stat", path_, errno);
  }
  if (!S_ISREG(status.st_mode)) {
    const int reason = S_ISDIR(status.st_mode) ? EISDIR : EINVAL;
    throw Error(ErrorKind::kIo,
                cat("cannot open: ", path_, ": ",
                    S_ISDIR(status.st_mode) ? "is a directory" : "is not a regular file",
                    ", expected a shard (*.e2e)"),
                Where{.path = path_, .error_number = reason});
  }
  n_bytes_ = static_cast<std::uint64_t>(status.st_size);
}

void FileSource::read(std::uint64_t offset_bytes, std::span<std::byte> to) const {
  std::size_t done = 0;
  while (done < to.size()) {
    const ssize_t got = ::pread(file_.get(), to.data() + done, to.size() - done,
                                static_cast<off_t>(offset_bytes + done));
    if (got < 0) {
      if (errno == EINTR || errno == EAGAIN) {
        continue;
      }
      throw_io(cat("cannot read ", to.size(), " bytes at byte ", offset_bytes), path_, errno);
    }
    if (got == 0) {
      throw Error(
          ErrorKind::kCorrupt,
          cat("truncated shard: ", path_, ": ends at byte ", offset_bytes + done, ", expected ",
              to.size() - done, " more; the file changed since it was opened"),
          Where{.path = path_, .offset_bytes = offset_bytes + done});
    }
    done += static_cast<std::size_t>(got);
  }
}

}  // namespace e2eio
