#include "e2eio/io/open_source.hpp"

#include <cstdlib>

#include "e2eio/base/error.hpp"
#include "e2eio/io/file_source.hpp"
#include "e2eio/io/uring_source.hpp"

namespace e2eio {
namespace {

std::string_view checked(std::string_view io, std::string_view origin) {
  if (io != "auto" && io != "pread" && io != "uring") {
    throw Error(ErrorKind::kInvalidArgument,
                cat(origin, ": unknown way of reading '", io, "', expected auto, pread or uring"));
  }
  return io;
}

std::string_view chosen(std::string_view io) {
  if (checked(io, "io") != "auto") {
    return io;
  }
  const char* const forced = std::getenv("E2EIO_IO");
  return forced == nullptr || *forced == '\0' ? "auto" : checked(forced, "E2EIO_IO");
}

}  // namespace

std::unique_ptr<Source> open_source(const std::string& path, std::string_view io,
                                    const std::optional<Throttle>& throttle) {
  const bool uring = chosen(io) == "uring" && uring_refusal().empty();
  std::unique_ptr<Source> source;
  if (uring) {
    source = std::make_unique<UringSource>(path);
  } else {
    source = std::make_unique<FileSource>(path);
  }
  if (throttle) {
    return std::make_unique<ThrottledSource>(std::move(source), *throttle);
  }
  return source;
}

Advice advice_named(std::string_view name) {
  if (name == "will_need") {
    return Advice::kWillNeed;
  }
  if (name == "random") {
    return Advice::kRandom;
  }
  if (name == "dont_need") {
    return Advice::kDontNeed;
  }
  throw Error(ErrorKind::kInvalidArgument,
              cat("advice '", name, "', expected will_need, random or dont_need"));
}

}  // namespace e2eio
