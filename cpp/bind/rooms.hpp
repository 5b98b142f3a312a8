// One function per room of the core; module.cpp is the table of contents.
#pragma once

#include "pybind.hpp"

namespace e2eio::bind {

void register_errors();
void register_base(py::module_& module);
void register_plan(py::module_& module);
void register_format(py::module_& module);
void register_pipeline(py::module_& module);

}  // namespace e2eio::bind
