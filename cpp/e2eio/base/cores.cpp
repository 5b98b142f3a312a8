#include "e2eio/base/cores.hpp"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iterator>
#include <sstream>
#include <thread>
#include <vector>

namespace e2eio {
namespace {

int affinity_cores() {
  // The kernel refuses a set that is smaller than its own: 1,024 cores are not always enough.
  for (std::size_t n_sets = 1; n_sets <= 64; n_sets *= 4) {
    std::vector<cpu_set_t> sets(n_sets);
    const std::size_t n_bytes = n_sets * sizeof(cpu_set_t);
    if (::sched_getaffinity(0, n_bytes, sets.data()) == 0) {
      return std::max(1, CPU_COUNT_S(n_bytes, sets.data()));
    }
  }
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

// Cores from two numbers of microseconds; 0: no quota ("max", -1, or nothing to read).
int cores_of(std::istream& quota, std::istream& period) {
  double quota_us = 0;
  double period_us = 0;
  if (!(quota >> quota_us) || !(period >> period_us) || quota_us <= 0 || period_us <= 0) {
    return 0;
  }
  return std::max(1, static_cast<int>(std::ceil(std::min(quota_us / period_us, 1e6))));
}

int group_quota(const std::string& group) {
  std::ifstream v2(group + "/cpu.max");
  std::ifstream v1_quota(group + "/cpu.cfs_quota_us");
  std::ifstream v1_period(group + "/cpu.cfs_period_us");
  const int cores = cores_of(v2, v2);
  return cores > 0 ? cores : cores_of(v1_quota, v1_period);
}

bool names_cpu(const std::string& controllers) {
  std::istringstream names(controllers);
  for (std::string name; std::getline(names, name, ',');) {
    if (name == "cpu") {
      return true;
    }
  }
  return false;
}

}  // namespace

int quota_cores(const std::string& membership, const std::string& root) {
  int least = 0;
  const auto take = [&least](int cores) {
    least = cores == 0 ? least : least == 0 ? cores : std::min(least, cores);
  };
  std::istringstream lines(membership);
  for (std::string line; std::getline(lines, line);) {  // "4:cpu,cpuacct:/path", "0::/path"
    const std::size_t first = line.find(':');
    const std::size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) {
      continue;
    }
    const std::string controllers = line.substr(first + 1, second - first - 1);
    if (!controllers.empty() && !names_cpu(controllers)) {
      continue;
    }
    // Mounted under its controllers' names, or, by some container managers, under "cpu" alone.
    std::vector<std::string> mounts{root};
    if (!controllers.empty()) {
      mounts = {root, root};
      mounts[0].append("/").append(controllers);
      mounts[1].append("/cpu");
    }
    for (const std::string& mount : mounts) {
      std::string path = line.substr(second + 1);
      while (path.size() > 1 && path.front() == '/') {
        take(group_quota(std::string(mount).append(path)));
        path.resize(std::max<std::size_t>(1, path.rfind('/')));
      }
      take(group_quota(mount));
    }
  }
  return least;
}

int usable_cores() {
  std::ifstream file("/proc/self/cgroup");
  const std::string membership{std::istreambuf_iterator<char>(file), {}};
  const int quota = quota_cores(membership, "/sys/fs/cgroup");
  const int cores = affinity_cores();
  return quota == 0 ? cores : std::min(cores, quota);
}

}  // namespace e2eio
