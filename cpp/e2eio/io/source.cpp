#include "e2eio/io/source.hpp"

namespace e2eio {

ReadReport Source::read_many(std::span<const ReadRequest> requests,
                             const std::stop_token& stop) const {
  for (const ReadRequest& request : requests) {
    if (stop.stop_requested()) {
      return {.stopped = true};
    }
    read(request.offset_bytes, request.to);
  }
  return {.n_waited = always_waits() ? requests.size() : 0};
}

bool Source::read_again(std::uint64_t /*offset_bytes*/, std::span<std::byte> /*to*/) const {
  return false;
}

void Source::advise(std::uint64_t /*offset_bytes*/, std::uint64_t /*n_bytes*/,
                    Advice /*advice*/) const noexcept {}

}  // namespace e2eio
