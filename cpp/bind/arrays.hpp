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

// The bytes of any object with the buffer protocol, lent for as long as this lives. Thread rule:
// made and destroyed with the GIL held; the bytes may be read without it.
class LentBytes {
 public:
  explicit LentBytes(const py::object& owner) {
    if (PyObject_GetBuffer(owner.ptr(), &view_, PyBUF_SIMPLE) != 0) {
      throw py::error_already_set();
    }
  }
  LentBytes(const LentBytes&) = delete;
  LentBytes& operator=(const LentBytes&) = delete;
  ~LentBytes() { PyBuffer_Release(&view_); }

  [[nodiscard]] ByteView view() const {
    return {static_cast<const std::byte*>(view_.buf), static_cast<std::size_t>(view_.len)};
  }

 private:
  Py_buffer view_{};
};

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
