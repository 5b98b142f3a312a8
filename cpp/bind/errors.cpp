// The one translation of core errors to Python's.
#include <cerrno>

#include "e2eio/base/error.hpp"
#include "rooms.hpp"

namespace e2eio::bind {
namespace {

const char* class_name(const Error& error) {
  switch (error.kind()) {
    case ErrorKind::kInvalidArgument:
      return "ConfigError";
    case ErrorKind::kIo:
      return error.where().error_number == ENOENT   ? "ShardNotFoundError"
             : error.where().error_number == EEXIST ? "ShardExistsError"
                                                    : "ShardIOError";
    case ErrorKind::kCorrupt:
      return "CorruptShardError";
    case ErrorKind::kUnsupported:
      return "UnsupportedFormatError";
    case ErrorKind::kDecode:
      return "DecodeError";
    case ErrorKind::kStale:
      return "StaleBatchError";
    case ErrorKind::kForked:
      return "ForkError";
    case ErrorKind::kInternal:
      break;
  }
  return "InternalError";
}

py::object path_object(const std::string& path) {
  if (path.empty()) {
    return py::none();
  }
  return py::reinterpret_steal<py::object>(
      PyUnicode_DecodeFSDefaultAndSize(path.data(), static_cast<py::ssize_t>(path.size())));
}

py::object message_object(const std::string& message) {
  return py::reinterpret_steal<py::object>(
      PyUnicode_DecodeFSDefaultAndSize(message.data(), static_cast<py::ssize_t>(message.size())));
}

void raise(const Error& error) {
  const py::object type = py::module_::import("e2eio.errors").attr(class_name(error));
  const Where& where = error.where();
  const py::object number =
      where.error_number == 0 ? py::object(py::none()) : py::int_(where.error_number);
  const py::object exception = type(message_object(error.what()), path_object(where.path),
                                    where.sample, where.offset_bytes, number);
  PyErr_SetObject(type.ptr(), exception.ptr());
}

}  // namespace

void register_errors() {
  // NOLINTNEXTLINE(performance-unnecessary-value-param): the signature is pybind11's
  py::register_exception_translator([](std::exception_ptr pointer) {
    try {
      if (pointer) {
        std::rethrow_exception(pointer);
      }
    } catch (const Error& error) {
      raise(error);
    }
  });
}

}  // namespace e2eio::bind
