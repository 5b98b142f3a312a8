#include "e2eio/codec/zstd_stream.hpp"

#include <zstd.h>

#include <new>

namespace e2eio {
namespace {

template <typename T>
T* require(T* made) {
  if (made == nullptr) {
    throw std::bad_alloc();
  }
  return made;
}

}  // namespace

void Inflater::Free::operator()(ZSTD_DCtx_s* context) const noexcept {
  (void)ZSTD_freeDCtx(context);
}
void Deflater::Free::operator()(ZSTD_CCtx_s* context) const noexcept {
  (void)ZSTD_freeCCtx(context);
}
Inflater::Inflater() : context_(require(ZSTD_createDCtx())) {}

void Inflater::inflate(ByteView frame, std::span<std::byte> to) {
  if (ZSTD_findFrameCompressedSize(frame.data(), frame.size()) != frame.size()) {
    throw Error(ErrorKind::kCorrupt, "is not one complete zstd frame");
  }
  const std::size_t got =
      ZSTD_decompressDCtx(context_.get(), to.data(), to.size(), frame.data(), frame.size());
  if (ZSTD_isError(got) != 0U) {
    throw Error(ErrorKind::kCorrupt, cat("zstd: ", ZSTD_getErrorName(got)));
  }
  if (got != to.size()) {
    throw Error(ErrorKind::kCorrupt, cat("inflates to ", got, " bytes, expected ", to.size()));
  }
}

Deflater::Deflater(int level) : context_(require(ZSTD_createCCtx())) {
  if (level < 1 || level > 19) {
    throw Error(ErrorKind::kInvalidArgument,
                cat("compression_level is ", level, ", expected 1 to 19"));
  }
  // Sizes stand in the record, checksums too: the frame need not repeat them.
  (void)ZSTD_CCtx_setParameter(context_.get(), ZSTD_c_compressionLevel, level);
  (void)ZSTD_CCtx_setParameter(context_.get(), ZSTD_c_contentSizeFlag, 0);
  (void)ZSTD_CCtx_setParameter(context_.get(), ZSTD_c_checksumFlag, 0);
  (void)ZSTD_CCtx_setParameter(context_.get(), ZSTD_c_dictIDFlag, 0);
}

Bytes Deflater::deflate(ByteView bytes) {
  if (bytes.empty()) {
    return {};
  }
  Bytes frame(ZSTD_compressBound(bytes.size()));
  const std::size_t got =
      ZSTD_compress2(context_.get(), frame.data(), frame.size(), bytes.data(), bytes.size());
  if (ZSTD_isError(got) != 0U) {
    throw Error(ErrorKind::kInternal, cat("zstd: ", ZSTD_getErrorName(got)));
  }
  frame.resize(got < bytes.size() ? got : 0);
  return frame;
}

}  // namespace e2eio
