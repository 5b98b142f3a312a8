// CRC-32C (Castagnoli), RFC 3720 appendix B.4. Uses the instructions of SSE4.2 and PCLMUL
// where the CPU has them.
#pragma once

#include <cstdint>

#include "e2eio/base/bytes.hpp"

namespace e2eio {

// The CRC of some bytes `a` followed by `bytes`, where `value` is the CRC of `a` (0 for no bytes).
// crc32c("123456789") == 0xE3069283. Any thread.
[[nodiscard]] std::uint32_t crc32c(ByteView bytes, std::uint32_t value = 0) noexcept;

// The same by table, on any CPU; what the tests compare with.
[[nodiscard]] std::uint32_t crc32c_table(ByteView bytes, std::uint32_t value = 0) noexcept;

}  // namespace e2eio
