#include "e2eio/base/error.hpp"

#include <iomanip>
#include <system_error>
#include <utility>

namespace e2eio {

Error::Error(ErrorKind kind, const std::string& message, Where where)
    : std::runtime_error(message), kind_(kind), where_(std::move(where)) {}

std::string hex32(std::uint32_t value) {
  std::ostringstream stream;
  stream << "0x" << std::hex << std::setw(8) << std::setfill('0') << value;
  return stream.str();
}

void throw_io(const std::string& what, const std::string& path, int error_number) {
  const std::string reason = std::generic_category().message(error_number);
  throw Error(ErrorKind::kIo, cat(what, ": ", path, ": ", reason),
              Where{.path = path, .error_number = error_number});
}

}  // namespace e2eio
