#include "e2eio/base/cores.hpp"

#include <sched.h>

#include <algorithm>
#include <fstream>
#include <string>
#include <thread>

namespace e2eio {
namespace {

int affinity_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(0, sizeof(set), &set) == 0) {
    return std::max(1, CPU_COUNT(&set));
  }
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

// "max 100000" or "150000 100000" (cgroup v2); a huge number where there is no quota.
int quota_cores(int unlimited) {
  std::ifstream v2("/sys/fs/cgroup/cpu.max");
  std::string quota;
  double period = 0;
  if (v2 >> quota >> period && quota != "max" && period > 0) {
    return std::max(1, static_cast<int>((std::stod(quota) + period - 1) / period));
  }
  std::ifstream v1_quota("/sys/fs/cgroup/cpu/cpu.cfs_quota_us");
  std::ifstream v1_period("/sys/fs/cgroup/cpu/cpu.cfs_period_us");
  double microseconds = 0;
  if (v1_quota >> microseconds && v1_period >> period && microseconds > 0 && period > 0) {
    return std::max(1, static_cast<int>((microseconds + period - 1) / period));
  }
  return unlimited;
}

}  // namespace

int usable_cores() {
  const int cores = affinity_cores();
  return std::min(cores, quota_cores(cores));
}

}  // namespace e2eio
