#include <chrono>

#include "arrays.hpp"
#include "e2eio/pipeline/late_shards.hpp"
#include "gil.hpp"
#include "rooms.hpp"

namespace e2eio::bind {
namespace {

using SharedShards = std::shared_ptr<LateShards>;

std::size_t checked(const LateShards& shards, std::size_t index) {
  if (index >= shards.n_shards()) {
    throw Error(ErrorKind::kInvalidArgument,
                cat("shard ", index, ", expected less than ", shards.n_shards()));
  }
  return index;
}

py::object next_wanted(LateShards& shards) {
  const auto wanted = without_gil([&] { return shards.next_wanted(); });
  return wanted ? py::object(py::make_tuple(wanted->index, wanted->awaited)) : py::none();
}

bool wait(LateShards& shards, const std::vector<std::size_t>& indices, double timeout_s) {
  for (const std::size_t index : indices) {
    checked(shards, index);
  }
  return without_gil([&] {
    return shards.await(std::span<const std::size_t>(indices),
                        std::chrono::duration<double>(timeout_s));
  });
}

// The reader is Python's too, which does not know const.
std::shared_ptr<ShardReader> reader_of(const LateShards& shards, std::size_t index) {
  return std::const_pointer_cast<ShardReader>(shards.reader(checked(shards, index)));
}

}  // namespace

void register_late(py::module_& module) {
  py::class_<LateShard>(module, "LateShard")
      .def(py::init<SharedShards, std::size_t>(), py::arg("of"), py::arg("index"))
      .def_property_readonly("index", &LateShard::index)
      .def_property_readonly("n_samples", &LateShard::n_samples)
      .def_property_readonly("n_bytes", &LateShard::n_bytes);
  py::class_<LateShards, SharedShards>(module, "LateShards")
      .def(py::init(
               [](const Schema& schema, std::vector<std::uint64_t> n_samples, std::size_t ahead) {
                 return std::make_shared<LateShards>(schema, std::move(n_samples), ahead);
               }),
           py::arg("schema"), py::arg("n_samples"), py::arg("ahead"))
      .def_property_readonly("n_missing", &LateShards::n_missing)
      .def("next_wanted", &next_wanted)
      .def(
          "attach",
          [](LateShards& shards, std::size_t index, const std::shared_ptr<ShardReader>& shard) {
            shards.attach(checked(shards, index), shard);
          },
          py::arg("index"), py::arg("shard"))
      .def(
          "fail",
          [](LateShards& shards, std::size_t index, const py::object& error) {
            shards.fail(checked(shards, index), error_of(error));
          },
          py::arg("index"), py::arg("error"))
      .def(
          "put_off",
          [](LateShards& shards, std::size_t index) { shards.put_off(checked(shards, index)); },
          py::arg("index"))
      .def("wait", &wait, py::arg("indices"), py::arg("timeout_s"))
      .def("reader", &reader_of, py::arg("index"))
      .def("close", &LateShards::close);
}

}  // namespace e2eio::bind
