// One function per room of the core; module.cpp is the table of contents.
#pragma once

#include "e2eio/base/error.hpp"
#include "pybind.hpp"

namespace e2eio::bind {

void register_errors();
// The core's error for one of Python's.
[[nodiscard]] Error error_of(const py::object& exception);
void register_base(py::module_& module);
void register_plan(py::module_& module);
void register_format(py::module_& module);
void register_late(py::module_& module);
void register_remote(py::module_& module);
void register_pipeline(py::module_& module);

}  // namespace e2eio::bind
