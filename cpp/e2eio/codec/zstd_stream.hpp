// zstd frames, with optional dictionaries. The only place that knows zstd.
#pragma once

#include <memory>
#include <vector>

#include "e2eio/base/bytes.hpp"

struct ZSTD_CCtx_s;
struct ZSTD_CDict_s;
struct ZSTD_DCtx_s;
struct ZSTD_DDict_s;

namespace e2eio {

// A digested dictionary for inflating; no bytes mean none.
// Thread rule: immutable; any thread.
class InflateDictionary {
 public:
  explicit InflateDictionary(ByteView bytes = {});
  [[nodiscard]] const ZSTD_DDict_s* get() const noexcept { return dictionary_.get(); }

 private:
  struct Free {
    void operator()(ZSTD_DDict_s* dictionary) const noexcept;
  };
  std::unique_ptr<ZSTD_DDict_s, Free> dictionary_;
};

// Thread rule: one thread at a time; make one per thread.
class Inflater {
 public:
  Inflater();

  // One complete frame that must fill `to` exactly. Throws: Error(kCorrupt) without a place.
  void inflate(ByteView frame, const InflateDictionary& dictionary, std::span<std::byte> to);

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

  void use_dictionary(ByteView dictionary);  // empty: none

  // The frame, or nothing if it would not be smaller than `bytes`.
  [[nodiscard]] Bytes deflate(ByteView bytes);

 private:
  struct Free {
    void operator()(ZSTD_CCtx_s* context) const noexcept;
    void operator()(ZSTD_CDict_s* dictionary) const noexcept;
  };
  int level_;
  std::unique_ptr<ZSTD_CCtx_s, Free> context_;
  std::unique_ptr<ZSTD_CDict_s, Free> dictionary_;
};

// A dictionary of hardly more than the entropy tables that fit these samples: the streams of a jet
// hold next to no repeated strings, but their byte statistics are alike. Empty where zstd declines.
[[nodiscard]] Bytes train_dictionary(const std::vector<Bytes>& samples, int level);

}  // namespace e2eio
