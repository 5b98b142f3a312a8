// Bytes out, one after the other.
#pragma once

#include <string>

#include "e2eio/base/bytes.hpp"

namespace e2eio {

// Thread rule: one thread at a time. Destroyed without commit(): nothing is left behind.
class Sink {
 public:
  Sink() = default;
  Sink(const Sink&) = delete;
  Sink& operator=(const Sink&) = delete;
  virtual ~Sink() = default;

  // Throws: Error(kIo).
  virtual void write(ByteView bytes) = 0;

  // Hands all that was written to where it goes: temporary_path() has it. Throws: Error(kIo).
  virtual void flush() = 0;

  // Where it can be read before commit(); empty: nowhere. Requires: commit() was not called.
  [[nodiscard]] virtual const std::string& temporary_path() const noexcept = 0;

  // Makes what was written visible, whole. Throws: Error(kIo).
  virtual void commit() = 0;
};

}  // namespace e2eio
