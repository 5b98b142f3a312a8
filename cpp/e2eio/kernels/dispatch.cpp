#include <cstdlib>
#include <string>

#include "e2eio/base/error.hpp"
#include "e2eio/kernels/kernel_set.hpp"

namespace e2eio {

std::vector<const KernelSet*> available_kernels() {
  std::vector<const KernelSet*> sets;
  for (const KernelSet* set :
       {avx512_kernels(), avx2_kernels(), neon_kernels(), scalar_kernels()}) {
    if (set != nullptr) {
      sets.push_back(set);
    }
  }
  return sets;
}

const KernelSet& selected_kernels() {
  const std::vector<const KernelSet*> sets = available_kernels();
  const char* const wanted = std::getenv("E2EIO_KERNELS");
  if (wanted == nullptr || *wanted == '\0') {
    return *sets.front();
  }
  std::string names;
  for (const KernelSet* set : sets) {
    if (set->name == wanted) {
      return *set;
    }
    names += names.empty() ? "" : ", ";
    names += set->name;
  }
  throw Error(ErrorKind::kInvalidArgument, cat("E2EIO_KERNELS: kernel set '", wanted,
                                               "' is unknown or not for this machine; "
                                               "expected one of ",
                                               names, ", or nothing for the best"));
}

}  // namespace e2eio
