// Errors of the core: one class, nine kinds.
#pragma once

#include <cstdint>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>

namespace e2eio {

// What went wrong, by what the caller can do about it. Numbers have gaps and are never reused.
enum class ErrorKind : std::uint8_t {
  kInvalidArgument = 10,  // mend an argument
  kIo = 20,               // the system refused; `Where::error_number` says why
  kCorrupt = 30,          // bytes disagree with the format or a checksum
  kImport = 35,           // a file in a foreign format cannot be imported
  kUnsupported = 40,      // valid, but of another version
  kDecode = 50,           // the content of a verified record breaks the format
  kStale = 60,            // a lent batch was written into
  kForked = 70,           // a forked child used what belongs to threads of its parent
  kInterrupted = 80,      // a wait was given up because the caller was told to (Ctrl-C)
  kInternal = 90,         // a bug in e2eio
};

// The place an error belongs to; what is unknown stays empty.
struct Where {
  std::string path = {};
  std::optional<std::uint64_t> sample = {};
  std::optional<std::uint64_t> offset_bytes = {};
  int error_number = 0;
};

// Thread rule: immutable after construction.
class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& message, Where where = {});
  [[nodiscard]] ErrorKind kind() const noexcept { return kind_; }
  [[nodiscard]] const Where& where() const noexcept { return where_; }

 private:
  ErrorKind kind_;
  Where where_;
};

// Joins its arguments into one string by operator<<.
template <typename... Parts>
[[nodiscard]] std::string cat(const Parts&... parts) {
  std::ostringstream stream;
  (stream << ... << parts);
  return stream.str();
}

// "0x" and eight hex digits.
[[nodiscard]] std::string hex32(std::uint32_t value);

// Throws an Io error: what, path, and the system's words for `error_number`.
[[noreturn]] void throw_io(const std::string& what, const std::string& path, int error_number);

}  // namespace e2eio
