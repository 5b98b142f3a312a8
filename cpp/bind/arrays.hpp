// Conversions between the core's values and numpy arrays.
#pragma once

#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "e2eio/base/bytes.hpp"
#include "e2eio/base/dtype.hpp"
#include "pybind.hpp"

namespace e2eio::bind {

template <typename T>
py::array_t<T> copy_to_array(const std::vector<T>& values) {
  return py::array_t<T>(static_cast<py::ssize_t>(values.size()), values.data());
}

inline py::array column_array(const Bytes& bytes, DType dtype) {
  const py::dtype type{std::string(name_of(dtype))};
  py::array array(type, static_cast<py::ssize_t>(bytes.size() / size_of(dtype)));
  std::memcpy(array.mutable_data(), bytes.data(), bytes.size());
  return array;
}

// A path as the system wants it: str, bytes or os.PathLike.
inline std::string file_path(const py::object& path) {
  const py::object encoded = py::module_::import("os").attr("fsencode")(path);
  const auto name = encoded.cast<std::string>();
  if (name.find('\0') != std::string::npos) {
    throw Error(ErrorKind::kInvalidArgument, "a path holds a NUL character; expected a file name");
  }
  return name;
}

inline py::str path_text(const std::string& path) {
  return py::reinterpret_steal<py::str>(
      PyUnicode_DecodeFSDefaultAndSize(path.data(), static_cast<py::ssize_t>(path.size())));
}

}  // namespace e2eio::bind
