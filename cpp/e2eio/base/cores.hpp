// How many cores this process may use.
#pragma once

#include <string>

namespace e2eio {

// At least 1: the smaller of the CPU affinity and the cgroups' CPU quota, rounded up.
[[nodiscard]] int usable_cores();

// The smallest quota of the process's cgroup and of those it is nested in (v2: cpu.max; v1:
// cpu.cfs_quota_us), in cores, rounded up; 0 if there is none. `membership` is the text of
// /proc/self/cgroup. A group that is not to be seen under `root` (a container sees its own group
// as the root) is passed over. https://docs.kernel.org/admin-guide/cgroup-v2.html#cpu
[[nodiscard]] int quota_cores(const std::string& membership, const std::string& root);

}  // namespace e2eio
