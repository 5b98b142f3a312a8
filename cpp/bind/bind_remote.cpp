#include "arrays.hpp"
#include "e2eio/format/shard_reader.hpp"
#include "e2eio/io/read_queue.hpp"
#include "e2eio/io/served_source.hpp"
#include "gil.hpp"
#include "rooms.hpp"

namespace e2eio::bind {
namespace {

using SharedQueue = std::shared_ptr<ReadQueue>;
using SharedReader = std::shared_ptr<ShardReader>;

Error error_named(const std::string& kind, const std::string& message, const std::string& path,
                  int error_number) {
  const ErrorKind known = kind == "io"        ? ErrorKind::kIo
                          : kind == "corrupt" ? ErrorKind::kCorrupt
                                              : ErrorKind::kInternal;
  return {known, message, Where{.path = path, .error_number = error_number}};
}

py::tuple take(ReadQueue& queue) {
  const ReadQueue::News news = queue.take();
  py::list tickets;
  for (const ReadQueue::Ticket& ticket : news.tickets) {
    tickets.append(py::make_tuple(ticket.id, ticket.source, ticket.offset_bytes, ticket.n_bytes,
                                  ticket.past_cache));
  }
  return py::make_tuple(tickets, py::cast(news.abandoned), py::cast(news.removed));
}

void complete(ReadQueue& queue, std::uint64_t id, const py::bytes& data, std::size_t n_retries) {
  const ByteView bytes = as_bytes(std::string_view(data));
  without_gil([&] { queue.complete(id, bytes, n_retries); });
}

// `local`: a copy to read, from the first byte on; empty: none.
SharedReader open_served(const SharedQueue& queue, std::uint64_t number, const std::string& path,
                         const std::string& kind, std::uint64_t n_bytes,
                         std::uint64_t merge_gap_bytes,
                         const std::vector<std::pair<std::uint64_t, py::bytes>>& parts,
                         const std::string& local) {
  std::vector<ServedSource::Part> known;
  for (const auto& [begin, data] : parts) {
    const ByteView bytes = as_bytes(std::string_view(data));
    known.push_back({begin, Bytes(bytes.begin(), bytes.end())});
  }
  auto source = std::make_unique<ServedSource>(
      queue, ServedSource::Description{number, path, kind, n_bytes, merge_gap_bytes},
      std::move(known));
  return without_gil([&] {
    if (!local.empty()) {
      source->adopt(local);
    }
    const ServedSource& served = *source;
    auto reader = std::make_shared<ShardReader>(std::move(source));
    served.settle();
    return reader;
  });
}

void adopt(const ShardReader& reader, const std::string& path) {
  const auto* const served = dynamic_cast<const ServedSource*>(&reader.source());
  if (served == nullptr) {
    throw Error(ErrorKind::kInvalidArgument, cat(reader.path(), " is read from its own file"));
  }
  without_gil([&] { served->adopt(path); });
}

}  // namespace

void register_remote(py::module_& module) {
  py::class_<ReadQueue, SharedQueue>(module, "ReadQueue")
      .def(py::init([] { return std::make_shared<ReadQueue>(); }))
      .def_property_readonly("descriptor", &ReadQueue::descriptor)
      .def_property_readonly("n_sources", &ReadQueue::n_sources)
      .def("add_source", &ReadQueue::add_source)
      .def("remove_source", &ReadQueue::remove_source, py::arg("source"))
      .def("take", &take)
      .def("complete", &complete, py::arg("ticket"), py::arg("data"), py::arg("retries"))
      .def(
          "fail",
          [](ReadQueue& queue, std::uint64_t id, const std::string& kind,
             const std::string& message, const std::string& path,
             int error_number) { queue.fail(id, error_named(kind, message, path, error_number)); },
          py::arg("ticket"), py::arg("kind"), py::arg("message"), py::arg("path"), py::arg("errno"))
      .def(
          "fail_source",
          [](ReadQueue& queue, std::uint64_t source, const std::string& kind,
             const std::string& message, const std::string& path, int error_number) {
            queue.fail_source(source, error_named(kind, message, path, error_number));
          },
          py::arg("source"), py::arg("kind"), py::arg("message"), py::arg("path"), py::arg("errno"))
      .def(
          "close",
          [](ReadQueue& queue, const std::string& message) {
            queue.close(error_named("io", message, "", 0));
          },
          py::arg("message"));
  module.def("open_served", &open_served, py::arg("queue"), py::arg("number"), py::arg("path"),
             py::arg("kind"), py::arg("n_bytes"), py::arg("merge_gap_bytes"), py::arg("parts"),
             py::arg("local") = "");
  module.def("adopt", &adopt, py::arg("reader"), py::arg("path"));
}

}  // namespace e2eio::bind
