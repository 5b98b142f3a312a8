// Writes into memory.
#pragma once

#include <memory>
#include <string>

#include "e2eio/base/bytes.hpp"
#include "e2eio/io/sink.hpp"

namespace e2eio {

// commit() puts what was written into `to`, which is left alone before. Thread rule: as Sink.
class MemorySink final : public Sink {
 public:
  explicit MemorySink(std::shared_ptr<Bytes> to);

  void write(ByteView bytes) override;
  void flush() override {}
  [[nodiscard]] const std::string& temporary_path() const noexcept override { return no_path_; }
  void commit() override;

 private:
  std::string no_path_;
  std::shared_ptr<Bytes> to_;
  Bytes written_;
};

}  // namespace e2eio
