// Opens a file for reading in the way that was asked for.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "e2eio/io/source.hpp"
#include "e2eio/io/throttled_source.hpp"

namespace e2eio {

// `io`: "pread"; "uring", which is pread where the kernel refuses io_uring (Source::kind() says
// so); or "auto": what E2EIO_IO in the environment says, and pread if that is "auto" or not set.
// pread is the faster of the two on a warm page cache and as fast on a cold one
// (docs/design/0004-reading.md).
// Throws: Error(kInvalidArgument) for other words; as FileSource.
[[nodiscard]] std::unique_ptr<Source> open_source(
    const std::string& path, std::string_view io = "auto",
    const std::optional<Throttle>& throttle = std::nullopt);

// "will_need", "random" or "dont_need". Throws: Error(kInvalidArgument).
[[nodiscard]] Advice advice_named(std::string_view name);

}  // namespace e2eio
