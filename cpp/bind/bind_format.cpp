#include <algorithm>

#include "arrays.hpp"
#include "e2eio/format/shard_reader.hpp"
#include "e2eio/format/shard_writer.hpp"
#include "e2eio/io/memory_sink.hpp"
#include "e2eio/io/memory_source.hpp"
#include "e2eio/io/open_source.hpp"
#include "e2eio/pipeline/sample_reader.hpp"
#include "gil.hpp"
#include "rooms.hpp"
#include "shard_parts.hpp"

namespace e2eio::bind {
namespace {

[[noreturn]] void refuse(const std::string& message) {
  throw Error(ErrorKind::kInvalidArgument, message);
}

Precision precision_named(const std::string& name) {
  if (name != "float32" && name != "float16") {
    refuse(cat("precision '", name, "', expected float32 or float16"));
  }
  return name == "float16" ? Precision::kFloat16 : Precision::kFloat32;
}

Schema make_schema(std::string image_name, std::uint32_t height, std::uint32_t width,
                   const std::vector<std::string>& channel_names,
                   const std::vector<std::string>& channel_units,
                   const std::vector<std::string>& scalar_names,
                   const std::vector<std::string>& scalar_dtypes,
                   const std::vector<std::string>& scalar_units, const std::string& precision) {
  if (channel_names.size() != channel_units.size() || scalar_names.size() != scalar_dtypes.size() ||
      scalar_names.size() != scalar_units.size()) {
    refuse("schema: names, dtypes and units differ in number");
  }
  Schema schema;
  schema.image_name = std::move(image_name);
  schema.height = height;
  schema.width = width;
  for (std::size_t c = 0; c < channel_names.size(); ++c) {
    schema.channels.push_back({channel_names[c], channel_units[c]});
  }
  for (std::size_t s = 0; s < scalar_names.size(); ++s) {
    const DType dtype = dtype_named(scalar_dtypes[s]);
    if (static_cast<std::uint8_t>(dtype) > kLastStoredDType) {
      refuse(cat("scalar '", scalar_names[s], "': dtype '", scalar_dtypes[s], "' is not stored"));
    }
    schema.scalars.push_back({scalar_names[s], dtype, scalar_units[s]});
  }
  schema.precision = precision_named(precision);
  validate(schema);
  return schema;
}

template <typename Items, typename Member>
py::list list_of(const Items& items, Member member) {
  py::list list;
  for (const auto& item : items) {
    list.append(py::cast(item.*member));
  }
  return list;
}

py::list dtype_names(const Schema& schema) {
  py::list list;
  for (const ScalarField& scalar : schema.scalars) {
    list.append(py::str(std::string(name_of(scalar.dtype))));
  }
  return list;
}

ShardId shard_id_of(const py::bytes& bytes) {
  const std::string_view view = bytes;
  ShardId id{};
  if (view.size() != id.size()) {
    refuse(cat("shard_id has ", view.size(), " bytes, expected ", id.size()));
  }
  std::copy_n(as_bytes(view).begin(), id.size(), id.begin());
  return id;
}

// The bytes of a shard that is written into memory.
struct FinishedBytes {
  std::shared_ptr<Bytes> bytes;
};

// Checks images [n, C, H, W] and one [n] array per scalar against the schema; returns n.
py::ssize_t checked_count(const Schema& schema, const py::array& images,
                          const std::vector<py::array>& scalars) {
  // Equal, not the same object: what pickle, metadata or another library has made is as good. One
  // of the other byte order is not equal.
  const bool is_float =
      images.dtype().equal(py::dtype::of<float>()) || images.dtype().equal(py::dtype::of<double>());
  const ImageShape shape = schema.shape();
  if (!is_float || images.ndim() != 4 || images.shape(1) != shape.channels ||
      images.shape(2) != shape.height || images.shape(3) != shape.width) {
    refuse(cat("images must be float32 or float64 [n, ", shape.channels, ", ", shape.height, ", ",
               shape.width, "], got ", py::str(images.dtype()).cast<std::string>(), " ",
               py::str(images.attr("shape")).cast<std::string>()));
  }
  if (scalars.size() != schema.scalars.size()) {
    refuse(cat(scalars.size(), " scalar arrays, expected ", schema.scalars.size()));
  }
  for (std::size_t s = 0; s < scalars.size(); ++s) {
    const ScalarField& field = schema.scalars[s];
    const py::dtype expected{std::string(name_of(field.dtype))};
    if (!scalars[s].dtype().equal(expected) || scalars[s].ndim() != 1 ||
        scalars[s].shape(0) != images.shape(0)) {
      refuse(cat("scalar '", field.name, "' must be ", name_of(field.dtype), " [", images.shape(0),
                 "], got ", py::str(scalars[s].dtype()).cast<std::string>(), " ",
                 py::str(scalars[s].attr("shape")).cast<std::string>()));
    }
  }
  return images.shape(0);
}

NonFinite nonfinite_named(const std::string& name) {
  if (name == "keep") {
    return NonFinite::kKeep;
  }
  if (name != "zero" && name != "skip") {
    refuse(cat("nonfinite '", name, "', expected keep, zero or skip"));
  }
  return name == "zero" ? NonFinite::kZero : NonFinite::kSkip;
}

// Returns which of them were left out.
py::array_t<std::int64_t> append_samples(ShardWriter& writer, const py::array& images,
                                         const std::vector<py::array>& scalars) {
  const py::ssize_t n = checked_count(writer.schema(), images, scalars);
  const auto* const data = static_cast<const std::byte*>(images.data());
  const std::array<std::ptrdiff_t, 3> strides{images.strides(1), images.strides(2),
                                              images.strides(3)};
  const std::ptrdiff_t by_sample = images.strides(0);
  const bool is_double = images.itemsize() == 8;
  struct Column {
    const std::byte* data;
    std::ptrdiff_t stride;
    std::size_t item;
  };
  std::vector<Column> columns;
  columns.reserve(scalars.size());
  for (const py::array& scalar : scalars) {
    columns.push_back({static_cast<const std::byte*>(scalar.data()), scalar.strides(0),
                       static_cast<std::size_t>(scalar.itemsize())});
  }
  std::vector<std::int64_t> left_out;
  without_gil([&] {
    std::vector<ByteView> values(columns.size());
    for (py::ssize_t i = 0; i < n; ++i) {
      for (std::size_t s = 0; s < columns.size(); ++s) {
        values[s] = ByteView(columns[s].data + i * columns[s].stride, columns[s].item);
      }
      if (!writer.append({data + i * by_sample, is_double, strides}, values)) {
        left_out.push_back(i);
      }
    }
  });
  return copy_to_array(left_out);
}

py::dict statistics_dict(const ShardWriter& writer) {
  const auto& totals = writer.statistics();
  const auto column = [&totals](auto member) {
    using Value = std::remove_cvref_t<decltype(totals.front().*member)>;
    std::vector<Value> values;
    values.reserve(totals.size());
    for (const ChannelStatistics& total : totals) {
      values.push_back(total.*member);
    }
    return copy_to_array(values);
  };
  py::dict result;
  result["nonzero"] = column(&ChannelStatistics::nonzero);
  result["nonfinite"] = column(&ChannelStatistics::nonfinite);
  result["min"] = column(&ChannelStatistics::min);
  result["max"] = column(&ChannelStatistics::max);
  result["sum"] = column(&ChannelStatistics::sum);
  result["sum_squares"] = column(&ChannelStatistics::sum_squares);
  return result;
}

using SharedReader = std::shared_ptr<ShardReader>;

using IdArray = py::array_t<std::int64_t, py::array::c_style | py::array::forcecast>;

py::array_t<float> read_samples(const SampleReader& reader, const IdArray& ids,
                                const std::vector<std::uint32_t>& channels, int threads) {
  const Schema& schema = reader.shards().schema();
  auto images =
      py::module_::import("numpy")
          .attr("zeros")(py::make_tuple(ids.size(), channels.size(), schema.height, schema.width),
                         "float32")
          .cast<py::array_t<float>>();
  auto* const data = reinterpret_cast<std::byte*>(images.mutable_data());
  const std::vector<std::uint64_t> numbers(ids.data(), ids.data() + ids.size());
  without_gil([&] { reader.read(numbers, channels, std::max(1, threads), data); });
  return images;
}

py::array_t<float> decode_samples(const SharedReader& reader, const IdArray& ids,
                                  const std::vector<std::uint32_t>& channels) {
  return read_samples(SampleReader(std::make_shared<const ShardSet>(
                          std::vector<std::shared_ptr<const ShardReader>>{reader})),
                      ids, channels, 1);
}

// A writer, and what holds the shard's bytes when it has finished.
py::tuple writer_in_memory(const Schema& schema, const py::bytes& shard_id, int compression_level) {
  const auto bytes = std::make_shared<Bytes>();
  auto writer = std::make_unique<ShardWriter>(
      std::make_unique<MemorySink>(bytes), schema,
      WriterOptions{.shard_id = shard_id_of(shard_id), .compression_level = compression_level});
  return py::make_tuple(py::cast(std::move(writer)), py::cast(FinishedBytes{bytes}));
}

SharedReader reader_of_bytes(const py::bytes& bytes, const py::object& name) {
  const ByteView view = as_bytes(std::string_view(bytes));
  return std::make_shared<ShardReader>(
      std::make_unique<MemorySource>(Bytes(view.begin(), view.end()), file_path(name)));
}

std::optional<Throttle> throttle_of(const std::optional<std::pair<double, double>>& throttle) {
  return throttle ? std::optional(Throttle{throttle->first, throttle->second}) : std::nullopt;
}

void require_range(const ShardReader& reader, std::uint64_t begin, std::uint64_t end) {
  if (begin > end || end > reader.n_samples()) {
    refuse(cat("samples [", begin, ", ", end, "), expected within [0, ", reader.n_samples(), ")"));
  }
}

void check_range(const ShardReader& reader, std::uint64_t begin, std::uint64_t end) {
  require_range(reader, begin, end);
  without_gil([&] { reader.check(begin, end); });
}

py::array_t<std::uint64_t> sample_digests(const ShardReader& reader, std::uint64_t begin,
                                          std::uint64_t end) {
  require_range(reader, begin, end);
  return copy_to_array(without_gil([&] { return reader.sample_digests(begin, end); }));
}

py::array column_of(const ShardReader& reader, std::size_t index) {
  if (index >= reader.schema().scalars.size()) {
    refuse(cat("column ", index, ", expected less than ", reader.schema().scalars.size()));
  }
  const Bytes bytes = without_gil([&] { return reader.column(index); });
  return column_array(bytes, reader.schema().scalars[index].dtype);
}

py::array_t<std::uint32_t> record_sizes(const ShardReader& reader) {
  std::vector<std::uint32_t> sizes;
  sizes.reserve(reader.n_samples());
  for (std::uint64_t i = 0; i < reader.n_samples(); ++i) {
    sizes.push_back(static_cast<std::uint32_t>(reader.record_end(i) - reader.record_begin(i)));
  }
  return copy_to_array(sizes);
}

void register_schema(py::module_& module) {
  py::class_<Schema>(module, "Schema")
      .def(py::init(&make_schema), py::arg("image_name"), py::arg("height"), py::arg("width"),
           py::arg("channel_names"), py::arg("channel_units"), py::arg("scalar_names"),
           py::arg("scalar_dtypes"), py::arg("scalar_units"), py::arg("precision"))
      .def_readonly("image_name", &Schema::image_name)
      .def_readonly("height", &Schema::height)
      .def_readonly("width", &Schema::width)
      .def_property_readonly(
          "channel_names", [](const Schema& s) { return list_of(s.channels, &NameAndUnit::name); })
      .def_property_readonly(
          "channel_units", [](const Schema& s) { return list_of(s.channels, &NameAndUnit::unit); })
      .def_property_readonly("scalar_names",
                             [](const Schema& s) { return list_of(s.scalars, &ScalarField::name); })
      .def_property_readonly("scalar_dtypes", &dtype_names)
      .def_property_readonly("scalar_units",
                             [](const Schema& s) { return list_of(s.scalars, &ScalarField::unit); })
      .def_property_readonly("precision", [](const Schema& s) {
        return s.precision == Precision::kFloat16 ? "float16" : "float32";
      });
}

void register_writer(py::module_& module) {
  py::class_<FinishedBytes>(module, "FinishedBytes").def("take", [](FinishedBytes& finished) {
    const Bytes& bytes = *finished.bytes;
    return py::bytes(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  });
  py::class_<ShardWriter>(module, "ShardWriter")
      .def(py::init([](const py::object& path, const Schema& schema, const py::bytes& shard_id,
                       int compression_level, bool overwrite, const std::string& nonfinite) {
             return std::make_unique<ShardWriter>(
                 file_path(path), schema,
                 WriterOptions{shard_id_of(shard_id), compression_level, overwrite,
                               nonfinite_named(nonfinite)});
           }),
           py::arg("path"), py::arg("schema"), py::arg("shard_id"), py::arg("compression_level"),
           py::arg("overwrite"), py::arg("nonfinite") = "keep")
      .def_static("in_memory", &writer_in_memory, py::arg("schema"), py::arg("shard_id"),
                  py::arg("compression_level"))
      .def("append", &append_samples, py::arg("images"), py::arg("scalars"))
      .def("complete",
           [](ShardWriter& writer) {
             return path_text(
                 without_gil([&]() -> const std::string& { return writer.complete(); }));
           })
      .def("finish", [](ShardWriter& writer) { without_gil([&] { writer.finish(); }); })
      .def("abort", &ShardWriter::abort)
      .def_property_readonly("n_samples", &ShardWriter::n_samples)
      .def_property_readonly("n_bytes", &ShardWriter::n_bytes)
      .def_property_readonly("n_rounded", &ShardWriter::n_rounded)
      .def_property_readonly("n_zeroed", &ShardWriter::n_zeroed)
      .def_property_readonly("digest", &ShardWriter::digest)
      .def("sample_digests",
           [](const ShardWriter& writer) { return copy_to_array(writer.sample_digests()); })
      .def("statistics", &statistics_dict);
}

void register_readers(py::module_& module) {
  py::class_<ShardReader, SharedReader>(module, "ShardReader")
      .def(py::init([](const py::object& path, const std::string& io,
                       std::optional<std::pair<double, double>> throttle) {
             const std::string name = file_path(path);
             return without_gil([&] {
               return std::make_shared<ShardReader>(open_source(name, io, throttle_of(throttle)));
             });
           }),
           py::arg("path"), py::arg("io") = "auto", py::arg("throttle") = py::none())
      .def_static("of_bytes", &reader_of_bytes, py::arg("content"), py::arg("name"))
      .def_property_readonly("path",
                             [](const ShardReader& reader) { return path_text(reader.path()); })
      .def_property_readonly("schema", &ShardReader::schema,
                             py::return_value_policy::reference_internal)
      .def_property_readonly("n_samples", &ShardReader::n_samples)
      .def_property_readonly("n_bytes", &ShardReader::n_bytes)
      .def_property_readonly("version", [](const ShardReader&) { return layout::kVersion; })
      .def_property_readonly("digest", &ShardReader::digest)
      .def_property_readonly("io", [](const ShardReader& reader) { return reader.source().kind(); })
      .def(
          "advise",
          [](const ShardReader& reader, const std::string& advice) {
            reader.source().advise(0, 0, advice_named(advice));
          },
          py::arg("advice"))
      .def("record_sizes", &record_sizes)
      .def("column", &column_of, py::arg("index"))
      .def("check", &check_range, py::arg("begin"), py::arg("end"))
      .def("sample_digests", &sample_digests, py::arg("begin"), py::arg("end"))
      .def("decode", &decode_samples, py::arg("ids"), py::arg("channels"));
  py::class_<SampleReader>(module, "SampleReader")
      .def(py::init([](const std::vector<ShardPart>& readers) {
             return SampleReader(shard_set_of(readers));
           }),
           py::arg("readers"))
      .def("read", &read_samples, py::arg("ids"), py::arg("channels"), py::arg("threads"));
}

}  // namespace

void register_format(py::module_& module) {
  register_schema(module);
  register_writer(module);
  register_readers(module);
}

}  // namespace e2eio::bind
