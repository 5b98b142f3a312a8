// zstd frames. The only place that knows zstd.
#pragma once

#include <memory>
#include <vector>

#include "e2eio/base/bytes.hpp"

struct ZSTD_CCtx_s;
struct ZSTD_DCtx_s;

namespace e2eio {

// Thread rule: one thread at a time; make one per thread.
class Inflater {
 public:
  Inflater();

  // One complete frame that must fill `to` exactly. Throws: Error(kCorrupt) without a place.
  void inflate(ByteView frame, std::span<std::byte> to);

 private:
  struct Free {
    void operator()(ZSTD_DCtx_s* context) const noexcept;
  };
  std::unique_ptr<ZSTD_DCtx_s, Free> context_;
};

// Thread rule: one thread at a time.
class Deflater {
 public:
  // level: 1 to 19. Throws: Error(kInvalidArgument) otherwise.
  explicit Deflater(int level);

  // The frame, or nothing if it would not be smaller than `bytes`.
  [[nodiscard]] Bytes deflate(ByteView bytes);

 private:
  struct Free {
    void operator()(ZSTD_CCtx_s* context) const noexcept;
  };
  std::unique_ptr<ZSTD_CCtx_s, Free> context_;
};

}  // namespace e2eio
