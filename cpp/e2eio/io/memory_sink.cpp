#include "e2eio/io/memory_sink.hpp"

#include <utility>

namespace e2eio {

MemorySink::MemorySink(std::shared_ptr<Bytes> to) : to_(std::move(to)) {}

void MemorySink::write(ByteView bytes) { append_bytes(written_, bytes); }

void MemorySink::commit() { *to_ = std::move(written_); }

}  // namespace e2eio
