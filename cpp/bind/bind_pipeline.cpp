#include "arrays.hpp"
#include "e2eio/pipeline/batch_pipeline.hpp"
#include "gil.hpp"
#include "rooms.hpp"
#include "shard_parts.hpp"
#include "transform_specs.hpp"

namespace e2eio::bind {
namespace {

using Pipeline = BatchPipeline;
// Negative numbers become larger than any dataset.
using IdArray = py::array_t<std::int64_t, py::array::c_style | py::array::forcecast>;
using PipelineHolder = std::unique_ptr<Pipeline, WithoutGilDelete<Pipeline>>;

BatchForm form_named(const std::string& name) {
  if (name == "dense") {
    return BatchForm::kDense;
  }
  if (name == "coo") {
    return BatchForm::kCoo;
  }
  if (name == "wire") {
    return BatchForm::kWire;
  }
  throw Error(ErrorKind::kInvalidArgument, cat("form '", name, "', expected dense, coo or wire"));
}

// PageLock's lock, unlock, flags, enter, leave and context: functions by their addresses; 0: none.
using LockAddresses = std::tuple<std::uintptr_t, std::uintptr_t, unsigned, std::uintptr_t,
                                 std::uintptr_t, std::uintptr_t>;

PageLock page_lock_at(const LockAddresses& addresses) {
  const auto [lock, unlock, flags, enter, leave, context] = addresses;
  return {.lock = reinterpret_cast<decltype(PageLock::lock)>(lock),
          .unlock = reinterpret_cast<decltype(PageLock::unlock)>(unlock),
          .flags = flags,
          .enter = reinterpret_cast<decltype(PageLock::enter)>(enter),
          .leave = reinterpret_cast<decltype(PageLock::leave)>(leave),
          .context = reinterpret_cast<void*>(context)};
}

PipelineHolder make_pipeline(const std::vector<ShardPart>& readers, const PlanConfig& plan,
                             bool fed, const std::vector<std::uint32_t>& channels,
                             const SpecTuples& transforms, std::uint64_t transform_key,
                             const std::string& dtype, const std::string& layout,
                             const std::string& form, bool writable, bool verify, int threads,
                             int prefetch, bool auto_threads, bool auto_prefetch,
                             std::uint64_t memory_limit_bytes, const LockAddresses& page_lock) {
  if (layout != "NCHW" && layout != "NHWC") {
    throw Error(ErrorKind::kInvalidArgument, cat("layout '", layout, "', expected NCHW or NHWC"));
  }
  const auto shards = shard_set_of(readers);
  const Schema& schema = shards->schema();
  const auto program = compile_transforms(transform_specs(transforms),
                                          {schema.height, schema.width}, channels, transform_key);
  return PipelineHolder(new Pipeline(shards, {.plan = plan,
                                              .fed = fed,
                                              .channels = channels,
                                              .transforms = program,
                                              .dtype = dtype_named(dtype),
                                              .channels_last = layout == "NHWC",
                                              .form = form_named(form),
                                              .writable = writable,
                                              .verify = verify,
                                              .threads = threads,
                                              .prefetch = prefetch,
                                              .auto_threads = auto_threads,
                                              .auto_prefetch = auto_prefetch,
                                              .memory_limit_bytes = memory_limit_bytes,
                                              .page_lock = page_lock_at(page_lock)}));
}

py::dict reads_dict(const ReadStats& reads) {
  py::dict result;
  result["kind"] = reads.kind;
  result["reads"] = reads.reads;
  result["bytes"] = reads.bytes;
  result["records"] = reads.records;
  result["records_per_read"] = reads.records_per_read();
  result["records_ahead"] = reads.records_ahead;
  result["waits"] = reads.waits;
  result["retries"] = reads.retries;
  result["wait_s"] = reads.wait_s;
  result["readers"] = reads.readers;
  result["ahead_bytes"] = reads.ahead_bytes;
  result["ahead_limit_bytes"] = reads.ahead_limit_bytes;
  return result;
}

py::dict stats_dict(const Pipeline& pipeline) {
  const PipelineStats stats = pipeline.stats();
  py::dict result;
  result["batches"] = stats.batches;
  result["samples"] = stats.samples;
  result["record_bytes"] = stats.record_bytes;
  result["stall_s"] = stats.stall_s;
  result["slots"] = stats.slots;
  result["slots_lent"] = stats.slots_lent;
  result["slots_made"] = stats.slots_made;
  result["slot_bytes"] = stats.slot_bytes;
  result["threads"] = stats.threads;
  result["prefetch"] = stats.prefetch;
  result["threads_limit"] = stats.threads_limit;
  result["prefetch_limit"] = stats.prefetch_limit;
  result["setting_changes"] = stats.setting_changes;
  result["kernels"] = stats.kernels;
  result["io"] = reads_dict(stats.reads);
  return result;
}

py::tuple shape_of(std::size_t n, const BatchGeometry& geometry) {
  return geometry.channels_last
             ? py::make_tuple(n, geometry.height, geometry.width, geometry.n_channels)
             : py::make_tuple(n, geometry.n_channels, geometry.height, geometry.width);
}

py::tuple last_shape_of(const Pipeline& pipeline) {
  return shape_of(pipeline.last_batch_size(), pipeline.geometry());
}

py::object wire_of(const Batch& batch) {
  if (batch.sparse() == nullptr) {
    return py::none();
  }
  const std::span<const std::byte> wire = batch.sparse()->wire();
  return py::make_tuple(reinterpret_cast<std::uintptr_t>(wire.data()), wire.size());
}

py::object coo_of(const Batch& batch) {
  const SparseBatch* const sparse = batch.sparse();
  if (sparse == nullptr || !sparse->with_coordinates()) {
    return py::none();
  }
  return py::make_tuple(reinterpret_cast<std::uintptr_t>(sparse->coordinates()),
                        reinterpret_cast<std::uintptr_t>(sparse->values()), sparse->n_pixels());
}

py::array_t<std::int64_t> ids_of(const Batch& batch) {
  return copy_to_array(std::vector<std::int64_t>(batch.ids().begin(), batch.ids().end()));
}

void feed(Pipeline& pipeline, const IdArray& ids) {
  pipeline.feed(std::vector<std::uint64_t>(ids.data(), ids.data() + ids.size()));
}

void register_batch(py::module_& module) {
  py::class_<Batch>(module, "Batch")
      .def_property_readonly("ids", &ids_of)
      .def_property_readonly(
          "address",
          [](const Batch& batch) { return reinterpret_cast<std::uintptr_t>(batch.data()); })
      .def_property_readonly(
          "shape",
          [](const Batch& batch) { return shape_of(batch.ids().size(), batch.geometry()); })
      .def_property_readonly(
          "n_bytes",
          [](const Batch& batch) { return batch.ids().size() * batch.geometry().sample_bytes(); })
      .def_property_readonly("page_locked", &Batch::page_locked)
      .def_property_readonly("wire", &wire_of)
      .def_property_readonly("coo", &coo_of)
      .def("release", &Batch::release, py::arg("dirty"));
}

}  // namespace

void register_pipeline(py::module_& module) {
  py::class_<Pipeline, PipelineHolder>(module, "Pipeline")
      .def(
          py::init([](const std::vector<ShardPart>& readers, std::uint64_t batch_size, bool shuffle,
                      std::uint64_t key, bool drop_last, const std::vector<std::uint32_t>& channels,
                      const SpecTuples& transforms, std::uint64_t transform_key,
                      const std::string& dtype, const std::string& layout, const std::string& form,
                      bool writable, bool verify, int threads, int prefetch, bool auto_threads,
                      bool auto_prefetch, std::uint64_t memory_limit_bytes, std::uint64_t rank,
                      std::uint64_t world_size, bool fed, const std::shared_ptr<const Order>& order,
                      const LockAddresses& page_lock) {
            const PlanConfig plan{.order = order,
                                  .n_samples = 0,
                                  .batch_size = batch_size,
                                  .rank = rank,
                                  .world_size = world_size,
                                  .shuffle = shuffle,
                                  .drop_last = drop_last,
                                  .key = key};
            return make_pipeline(readers, plan, fed, channels, transforms, transform_key, dtype,
                                 layout, form, writable, verify, threads, prefetch, auto_threads,
                                 auto_prefetch, memory_limit_bytes, page_lock);
          }),
          py::arg("readers"), py::kw_only(), py::arg("batch_size"), py::arg("shuffle") = false,
          py::arg("key") = 0, py::arg("drop_last"), py::arg("channels"),
          py::arg("transforms") = SpecTuples{}, py::arg("transform_key") = 0, py::arg("dtype"),
          py::arg("layout"), py::arg("form") = "dense", py::arg("writable"), py::arg("verify"),
          py::arg("threads"), py::arg("prefetch"), py::arg("auto_threads"),
          py::arg("auto_prefetch"), py::arg("memory_limit_bytes"), py::arg("rank"),
          py::arg("world_size"), py::arg("fed") = false,
          py::arg("order") = std::shared_ptr<const Order>(), py::arg("page_lock") = LockAddresses{})
      .def_property_readonly("n_batches", &Pipeline::n_batches)
      .def_property_readonly("last_batch_shape", &last_shape_of)
      .def(
          "start",
          [](Pipeline& pipeline, std::uint64_t epoch, std::uint64_t begin) {
            without_gil([&] { pipeline.start(epoch, begin); });
          },
          py::arg("epoch"), py::arg("begin"))
      .def(
          "start_fed",
          [](Pipeline& pipeline, std::uint64_t epoch) {
            without_gil([&] { pipeline.start_fed(epoch); });
          },
          py::arg("epoch"))
      .def("feed", &feed, py::arg("ids"))
      .def("end_feed", &Pipeline::end_feed)
      .def(
          "next",
          [](Pipeline& pipeline, double timeout_s) {
            return without_gil(
                [&] { return pipeline.next(std::chrono::duration<double>(timeout_s)); });
          },
          py::arg("timeout_s"))
      .def_property_readonly("exhausted", &Pipeline::exhausted)
      .def_property_readonly("ready", &Pipeline::ready)
      .def("stats", &stats_dict)
      .def("close", [](Pipeline& pipeline) { without_gil([&] { pipeline.close(); }); });
  register_batch(module);
}

}  // namespace e2eio::bind
