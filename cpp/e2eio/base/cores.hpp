// How many cores this process may use.
#pragma once

namespace e2eio {

// At least 1: the smaller of the CPU affinity and the cgroup's CPU quota (v2 or v1), rounded up.
[[nodiscard]] int usable_cores();

}  // namespace e2eio
