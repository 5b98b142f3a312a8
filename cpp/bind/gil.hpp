// The one place that releases the GIL: around calls that read, write, wait or join.
#pragma once

#include <cxxabi.h>
#include <unistd.h>

#include <utility>

#include "e2eio/base/interrupt.hpp"
#include "pybind.hpp"

namespace e2eio::bind {

// Gives up the GIL for as long as it lives. pybind11's own class does the same, but ends the
// process if the interpreter ends meanwhile: Python <= 3.13 then ends daemon threads that ask for
// the GIL by pthread_exit, which unwinds the stack and cannot leave a destructor. Such a thread
// stays here until the process is gone, as Python 3.14 has it. Thread rule: one thread, which holds
// the GIL.
class WithoutGil {
 public:
  WithoutGil() : state_(PyEval_SaveThread()) {}
  WithoutGil(const WithoutGil&) = delete;
  WithoutGil& operator=(const WithoutGil&) = delete;
  ~WithoutGil() {
    try {
      PyEval_RestoreThread(state_);
#ifdef __GLIBCXX__
    } catch (const abi::__forced_unwind&) {
#else
    } catch (...) {
#endif
      for (;;) {
        ::pause();
      }
    }
  }

 private:
  PyThreadState* state_;
};

// Whether Python has a signal that raises for the calling thread, which has given up the GIL. The
// error stays set; bind/errors.cpp lets it be.
inline bool signal_raises() {
  const PyGILState_STATE state = PyGILState_Ensure();
  const bool raises = PyErr_Occurred() != nullptr || PyErr_CheckSignals() != 0;
  PyGILState_Release(state);
  return raises;
}

// Arguments are converted before, results after: `call` touches no Python object.
template <typename Call>
decltype(auto) without_gil(Call&& call) {
  const WithoutGil released;
  // Signals are for the first thread of a process.
  const InterruptScope scope(::gettid() == ::getpid() ? &signal_raises : nullptr);
  return std::forward<Call>(call)();
}

// Destroys what owns threads without the GIL, so that a thread that wants it cannot block the join.
template <typename T>
struct WithoutGilDelete {
  void operator()(T* object) const {
    const WithoutGil released;
    delete object;
  }
};

}  // namespace e2eio::bind
