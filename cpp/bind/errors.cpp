// The one translation of core errors to Python's.
#include <cerrno>
#include <optional>
#include <utility>

#include "arrays.hpp"
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
    case ErrorKind::kImport:
      return "ImporterError";
    case ErrorKind::kUnsupported:
      return "UnsupportedFormatError";
    case ErrorKind::kDecode:
      return "DecodeError";
    case ErrorKind::kStale:
      return "StaleBatchError";
    case ErrorKind::kForked:
      return "ForkError";
    case ErrorKind::kInterrupted:
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
  if (PyErr_Occurred() != nullptr) {
    return;  // a signal has raised, and this error comes of it
  }
  const py::object type = py::module_::import("e2eio.errors").attr(class_name(error));
  const Where& where = error.where();
  const py::object number =
      where.error_number == 0 ? py::object(py::none()) : py::int_(where.error_number);
  const py::object exception = type(message_object(error.what()), path_object(where.path),
                                    where.sample, where.offset_bytes, number);
  PyErr_SetObject(type.ptr(), exception.ptr());
}

bool is_a(const py::object& exception, const char* name) {
  return py::isinstance(exception, py::module_::import("e2eio.errors").attr(name));
}

}  // namespace

Error error_of(const py::object& exception) {
  const std::pair<const char*, ErrorKind> kinds[] = {
      {"ConfigError", ErrorKind::kInvalidArgument},
      {"ShardIOError", ErrorKind::kIo},
      {"DecodeError", ErrorKind::kDecode},
      {"CorruptShardError", ErrorKind::kCorrupt},
      {"ImporterError", ErrorKind::kImport},
      {"UnsupportedFormatError", ErrorKind::kUnsupported}};
  ErrorKind kind = ErrorKind::kInternal;
  for (const auto& [name, of] : kinds) {
    if (is_a(exception, name)) {
      kind = of;
      break;
    }
  }
  Where where;
  if (is_a(exception, "E2eioError")) {
    const py::object path = exception.attr("path");
    const py::object sample = exception.attr("sample");
    const py::object number = exception.attr("errno");
    where.path = path.is_none() ? "" : file_path(path);
    where.sample = sample.is_none() ? std::nullopt : std::optional(sample.cast<std::uint64_t>());
    where.error_number = number.is_none() ? 0 : number.cast<int>();
  }
  return {kind, file_path(py::str(exception)), where};
}

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
