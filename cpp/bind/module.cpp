#include "rooms.hpp"

PYBIND11_MODULE(_core, module) {
  module.doc() = "The compiled core of e2eio; use the Python modules instead.";
  e2eio::bind::register_errors();
  e2eio::bind::register_base(module);
  e2eio::bind::register_plan(module);
  e2eio::bind::register_format(module);
  e2eio::bind::register_late(module);
  e2eio::bind::register_remote(module);
  e2eio::bind::register_pipeline(module);
}
