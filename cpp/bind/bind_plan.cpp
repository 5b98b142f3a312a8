#include "arrays.hpp"
#include "e2eio/plan/epoch_plan.hpp"
#include "e2eio/plan/mixed_order.hpp"
#include "e2eio/plan/weighted_order.hpp"
#include "e2eio/plan/window_order.hpp"
#include "gil.hpp"
#include "rooms.hpp"

namespace e2eio::bind {
namespace {

using OrderPointer = std::shared_ptr<const Order>;
using IdArray = py::array_t<std::int64_t, py::array::c_style | py::array::forcecast>;
using WeightArray = py::array_t<std::uint64_t, py::array::c_style | py::array::forcecast>;

py::array_t<std::int64_t> ids_array(const std::vector<std::uint64_t>& ids) {
  return copy_to_array(std::vector<std::int64_t>(ids.begin(), ids.end()));
}

OrderPointer weighted(const WeightArray& weights, std::uint64_t key, std::uint64_t n_places) {
  const std::span<const std::uint64_t> values(weights.data(),
                                              static_cast<std::size_t>(weights.size()));
  return without_gil(
      [&]() -> OrderPointer { return std::make_shared<WeightedOrder>(values, key, n_places); });
}

OrderPointer selected(const OrderPointer& order, const IdArray& ids) {
  // Negative numbers become larger than any dataset.
  const auto chosen =
      std::make_shared<const SelectedOrder::Ids>(ids.data(), ids.data() + ids.size());
  return std::make_shared<SelectedOrder>(order, chosen);
}

py::array_t<std::int64_t> ids_of(const Order& order, std::uint64_t epoch, std::uint64_t first,
                                 std::uint64_t n) {
  if (first > order.n_places() || n > order.n_places() - first) {
    throw Error(ErrorKind::kInvalidArgument, cat("places ", first, " to ", first, " + ", n,
                                                 " of an epoch of ", order.n_places()));
  }
  std::vector<std::uint64_t> ids(n);
  without_gil([&] { order.fill(epoch, first, ids); });
  return ids_array(ids);
}

void register_orders(py::module_& module) {
  py::class_<Order, std::shared_ptr<Order>>(module, "Order")
      .def_static(
          "in_file_order",
          [](std::uint64_t n) -> OrderPointer { return std::make_shared<FileOrder>(n); },
          py::arg("n"))
      .def_static(
          "shuffled",
          [](std::uint64_t n, std::uint64_t key) -> OrderPointer {
            return std::make_shared<ShuffledOrder>(n, key);
          },
          py::arg("n"), py::arg("key"))
      .def_static(
          "windowed",
          [](std::uint64_t n, std::uint64_t key, std::uint64_t extent) -> OrderPointer {
            return std::make_shared<WindowOrder>(n, key, extent);
          },
          py::arg("n"), py::arg("key"), py::arg("extent"))
      .def_static("weighted", &weighted, py::arg("weights"), py::arg("key"), py::arg("n_places"))
      .def_static(
          "mixed",
          [](const MixedOrder::Parts& parts, const std::vector<std::uint64_t>& shares,
             std::uint64_t n_places) -> OrderPointer {
            return std::make_shared<MixedOrder>(parts, shares, n_places);
          },
          py::arg("parts"), py::arg("shares"), py::arg("n_places"))
      .def("selected", &selected, py::arg("ids"))
      .def_property_readonly("n_places", &Order::n_places)
      .def("ids", &ids_of, py::arg("epoch"), py::arg("first"), py::arg("n"));
}

}  // namespace

void register_plan(py::module_& module) {
  register_orders(module);
  py::class_<EpochPlan>(module, "EpochPlan")
      .def(py::init([](const OrderPointer& order, std::uint64_t batch_size, std::uint64_t rank,
                       std::uint64_t world_size, bool drop_last) {
             return std::make_unique<EpochPlan>(PlanConfig{.order = order,
                                                           .batch_size = batch_size,
                                                           .rank = rank,
                                                           .world_size = world_size,
                                                           .drop_last = drop_last});
           }),
           py::arg("order"), py::kw_only(), py::arg("batch_size"), py::arg("rank"),
           py::arg("world_size"), py::arg("drop_last"))
      .def("n_batches", &EpochPlan::n_batches, py::arg("begin") = 0)
      .def(
          "batch_ids",
          [](const EpochPlan& plan, std::uint64_t epoch, std::uint64_t batch, std::uint64_t begin) {
            if (batch >= plan.n_batches(begin)) {
              throw Error(ErrorKind::kInvalidArgument,
                          cat("batch ", batch, " of ", plan.n_batches(begin)));
            }
            return ids_array(plan.batch_ids(epoch, batch, begin));
          },
          py::arg("epoch"), py::arg("batch"), py::arg("begin") = 0)
      .def("place_after", &EpochPlan::place_after, py::arg("batches"), py::arg("begin") = 0);
}

}  // namespace e2eio::bind
