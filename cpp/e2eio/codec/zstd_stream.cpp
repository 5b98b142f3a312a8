#include "e2eio/codec/zstd_stream.hpp"

#include <zdict.h>
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

void InflateDictionary::Free::operator()(ZSTD_DDict_s* dictionary) const noexcept {
  (void)ZSTD_freeDDict(dictionary);
}
void Inflater::Free::operator()(ZSTD_DCtx_s* context) const noexcept {
  (void)ZSTD_freeDCtx(context);
}
void Deflater::Free::operator()(ZSTD_CCtx_s* context) const noexcept {
  (void)ZSTD_freeCCtx(context);
}
void Deflater::Free::operator()(ZSTD_CDict_s* dictionary) const noexcept {
  (void)ZSTD_freeCDict(dictionary);
}

InflateDictionary::InflateDictionary(ByteView bytes) {
  if (!bytes.empty()) {
    dictionary_.reset(ZSTD_createDDict(bytes.data(), bytes.size()));
    if (dictionary_ == nullptr) {
      throw Error(ErrorKind::kCorrupt, "zstd refuses the dictionary");
    }
  }
}

Inflater::Inflater() : context_(require(ZSTD_createDCtx())) {}

void Inflater::inflate(ByteView frame, const InflateDictionary& dictionary,
                       std::span<std::byte> to) {
  if (ZSTD_findFrameCompressedSize(frame.data(), frame.size()) != frame.size()) {
    throw Error(ErrorKind::kCorrupt, "is not one complete zstd frame");
  }
  const std::size_t got =
      dictionary.get() == nullptr
          ? ZSTD_decompressDCtx(context_.get(), to.data(), to.size(), frame.data(), frame.size())
          : ZSTD_decompress_usingDDict(context_.get(), to.data(), to.size(), frame.data(),
                                       frame.size(), dictionary.get());
  if (ZSTD_isError(got) != 0U) {
    throw Error(ErrorKind::kCorrupt, cat("zstd: ", ZSTD_getErrorName(got)));
  }
  if (got != to.size()) {
    throw Error(ErrorKind::kCorrupt, cat("inflates to ", got, " bytes, expected ", to.size()));
  }
}

Deflater::Deflater(int level) : level_(level), context_(require(ZSTD_createCCtx())) {
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

void Deflater::use_dictionary(ByteView dictionary) {
  (void)ZSTD_CCtx_refCDict(context_.get(), nullptr);
  dictionary_.reset();
  if (!dictionary.empty()) {
    dictionary_.reset(require(ZSTD_createCDict(dictionary.data(), dictionary.size(), level_)));
    (void)ZSTD_CCtx_refCDict(context_.get(), dictionary_.get());
  }
}

Bytes Deflater::deflate(ByteView bytes) {
  Bytes frame(ZSTD_compressBound(bytes.size()));
  const std::size_t got =
      ZSTD_compress2(context_.get(), frame.data(), frame.size(), bytes.data(), bytes.size());
  if (ZSTD_isError(got) != 0U) {
    throw Error(ErrorKind::kInternal, cat("zstd: ", ZSTD_getErrorName(got)));
  }
  frame.resize(got < bytes.size() ? got : 0);
  return frame;
}

Bytes train_dictionary(const std::vector<Bytes>& samples, int level) {
  Bytes joined;
  std::vector<std::size_t> sizes;
  for (const Bytes& sample : samples) {
    append_bytes(joined, sample);
    sizes.push_back(sample.size());
  }
  // The least content that zdict takes; bytes that seldom stand together, so nothing matches it.
  Bytes content;
  for (unsigned i = 0; i < 16; ++i) {
    content.push_back(static_cast<std::byte>(i * 17 + 3));
  }
  constexpr std::size_t kCapacity = 4096;
  Bytes dictionary(kCapacity);
  const ZDICT_params_t parameters{.compressionLevel = level, .notificationLevel = 0, .dictID = 1};
  const std::size_t got = ZDICT_finalizeDictionary(
      dictionary.data(), dictionary.size(), content.data(), content.size(), joined.data(),
      sizes.data(), static_cast<unsigned>(sizes.size()), parameters);
  dictionary.resize(ZDICT_isError(got) != 0U ? 0 : got);
  return dictionary;
}

}  // namespace e2eio
