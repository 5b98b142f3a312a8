#include "arrays.hpp"
#include "e2eio/base/checksum.hpp"
#include "e2eio/base/cores.hpp"
#include "e2eio/kernels/clear.hpp"
#include "e2eio/kernels/kernel_set.hpp"
#include "e2eio/plan/permutation.hpp"
#include "gil.hpp"
#include "rooms.hpp"

namespace e2eio::bind {
namespace {

// Below, taking the GIL again may cost more than the sum: 64 kB take about 5 us.
constexpr std::size_t kWorthReleasing = std::size_t{1} << 16U;

std::span<std::byte> memory_at(std::uintptr_t address, std::size_t n_bytes) {
  return {reinterpret_cast<std::byte*>(address), n_bytes};
}

}  // namespace

void register_base(py::module_& module) {
  module.def(
      "kernels",
      [] {
        std::vector<std::string> names;
        for (const KernelSet* set : available_kernels()) {
          names.emplace_back(set->name);
        }
        return names;
      },
      "Names of the kernel sets that this build holds and this CPU runs, best first.\n\n"
      "A set holds every hot loop for one instruction set: \"avx512\", \"avx2\", \"neon\" and, on\n"
      "every machine, last, \"scalar\". All give the same bits. kernel_set() is the one in use.\n\n"
      ">>> e2eio.kernels()[-1]\n"
      "'scalar'");
  module.def(
      "kernel_set", [] { return std::string(selected_kernels().name); },
      "Name of the kernel set that a Loader or Dataset made now uses.\n\n"
      "The best one, or the one that the environment variable E2EIO_KERNELS names.\n\n"
      "Raises e2eio.errors.ConfigError if E2EIO_KERNELS names a set that is not in kernels().\n\n"
      ">>> e2eio.kernel_set() in e2eio.kernels()\n"
      "True");
  module.def("usable_cores", &usable_cores);
  module.def(
      "crc32c",
      [](const py::object& data, std::uint32_t value) {
        const LentBytes bytes(data);
        const ByteView view = bytes.view();
        return view.size() < kWorthReleasing ? crc32c(view, value)
                                             : without_gil([&] { return crc32c(view, value); });
      },
      py::arg("data"), py::arg("value") = 0);
  module.def(
      "permute",
      [](std::uint64_t n, std::uint64_t key, const std::vector<std::uint64_t>& indices) {
        const Permutation order(n, key);
        std::vector<std::uint64_t> result;
        result.reserve(indices.size());
        for (const std::uint64_t i : indices) {
          result.push_back(order(i));
        }
        return copy_to_array(result);
      },
      py::arg("n"), py::arg("key"), py::arg("indices"));
  module.def(
      "clear_nontemporal",
      [](std::uintptr_t address, std::size_t n_bytes) {
        without_gil([&] { clear_nontemporal(memory_at(address, n_bytes)); });
      },
      py::arg("address"), py::arg("n_bytes"));
  module.def(
      "clear_memset",
      [](std::uintptr_t address, std::size_t n_bytes) {
        without_gil([&] { clear_memset(memory_at(address, n_bytes)); });
      },
      py::arg("address"), py::arg("n_bytes"));
}

}  // namespace e2eio::bind
