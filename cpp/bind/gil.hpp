// The one place that releases the GIL: around calls that read, write, wait or join.
#pragma once

#include <utility>

#include "pybind.hpp"

namespace e2eio::bind {

// Arguments are converted before, results after: `call` touches no Python object.
template <typename Call>
decltype(auto) without_gil(Call&& call) {
  const py::gil_scoped_release released;
  return std::forward<Call>(call)();
}

// Destroys what owns threads without the GIL, so that a thread that wants it cannot block the join.
template <typename T>
struct WithoutGilDelete {
  void operator()(T* object) const {
    const py::gil_scoped_release released;
    delete object;
  }
};

}  // namespace e2eio::bind
