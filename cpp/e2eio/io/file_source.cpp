#include "e2eio/io/file_source.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include <cerrno>
#include <utility>
#include <vector>

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

void FileSource::throw_refused(const ReadRequest& request, int error_number) const {
  throw_io(cat("cannot read ", request.to.size(), " bytes at byte ", request.offset_bytes), path_,
           error_number);
}

void FileSource::throw_ended(const ReadRequest& request, std::size_t n_done) const {
  const std::uint64_t end = request.offset_bytes + n_done;
  throw Error(ErrorKind::kCorrupt,
              cat("truncated shard: ", path_, ": ends at byte ", end, ", expected ",
                  request.to.size() - n_done, " more; the file changed since it was opened"),
              Where{.path = path_, .offset_bytes = end});
}

void FileSource::read_rest(const ReadRequest& request, std::size_t n_done) const {
  while (n_done < request.to.size()) {
    const ssize_t got = ::pread(file_.get(), request.to.data() + n_done, request.to.size() - n_done,
                                static_cast<off_t>(request.offset_bytes + n_done));
    if (got < 0) {
      if (errno == EINTR || errno == EAGAIN) {
        continue;
      }
      throw_refused(request, errno);
    }
    if (got == 0) {
      throw_ended(request, n_done);
    }
    n_done += static_cast<std::size_t>(got);
  }
}

void FileSource::read(std::uint64_t offset_bytes, std::span<std::byte> to) const {
  read_rest({offset_bytes, to}, 0);
}

ReadReport FileSource::read_many(std::span<const ReadRequest> requests,
                                 const std::stop_token& stop) const {
  struct Missed {
    std::size_t request;
    std::size_t n_done;
  };
  std::vector<Missed> missed;  // takes no memory while the page cache has everything
  for (std::size_t i = 0; i < requests.size(); ++i) {
    const std::span<std::byte> to = requests[i].to;
    iovec vector{to.data(), to.size()};
    const ssize_t got = ::preadv2(file_.get(), &vector, 1,
                                  static_cast<off_t>(requests[i].offset_bytes), RWF_NOWAIT);
    // Any trouble is met again below, where there is time for it. So is a file system that does
    // not know RWF_NOWAIT (network mounts as a rule): all its reads count as waits.
    const std::size_t n_done = got > 0 ? static_cast<std::size_t>(got) : 0;
    if (n_done < to.size()) {
      missed.push_back({i, n_done});
    }
  }
  if (missed.size() > 1) {
    for (const Missed& miss : missed) {
      advise(requests[miss.request].offset_bytes, requests[miss.request].to.size(),
             Advice::kWillNeed);
    }
  }
  for (const Missed& miss : missed) {
    if (stop.stop_requested()) {
      return {.n_waited = missed.size(), .stopped = true};
    }
    read_rest(requests[miss.request], miss.n_done);
  }
  return {.n_waited = missed.size()};
}

void FileSource::advise(std::uint64_t offset_bytes, std::uint64_t n_bytes,
                        Advice advice) const noexcept {
  const int number = advice == Advice::kWillNeed ? POSIX_FADV_WILLNEED
                     : advice == Advice::kRandom ? POSIX_FADV_RANDOM
                                                 : POSIX_FADV_DONTNEED;
  (void)::posix_fadvise(file_.get(), static_cast<off_t>(offset_bytes), static_cast<off_t>(n_bytes),
                        number);
}

}  // namespace e2eio
