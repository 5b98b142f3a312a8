// How many threads decode, and how many batches they make ahead, decided while it runs.
//
// Measured per batch: the time between two deliveries, how long the consumer waited in it, how long
// threads were busy, and how many batches were ready. Batches are added up to windows; a trial
// compares windows of the present setting (A) and of another (B), in the order A B A B, so that a
// consumer that drifts meanwhile misleads nobody. From there:
//
//   consumer waits < 2 %       fewer threads, as many as are busy; a shallower ring, if it is never
//                              empty. Kept if the consumer still does not wait.
//   it waits, threads idle     a deeper ring: it runs empty and full by turns.
//   it waits, threads busy     bisection for the smallest number of threads that delivers at least
//                              0.97 of the best rate seen.
//
// When no trial is left it rests, for twice as long after each search that changed nothing (32 to
// 512 windows), unless what it measures has changed in two windows running.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace e2eio {

struct PipelineSetting {
  int threads = 1;
  int prefetch = 1;
  friend bool operator==(const PipelineSetting&, const PipelineSetting&) = default;
};

// From one delivery to the next, of the same epoch.
struct BatchTiming {
  double interval_s = 0;
  double stall_s = 0;  // of it, the consumer waited
  double busy_s = 0;   // added up over the threads: reading and decoding
  std::uint64_t n_samples = 0;
  int n_ready = 0;  // batches that were ready when the consumer came
};

// No clock and no randomness: what it decides is a function of what it is fed.
// A search takes at most kSearchBatches batches of 12.5 ms or more, or 8 s of shorter ones.
// Thread rule: none of its own; the pipeline calls it under its lock.
class Autotuner {
 public:
  static constexpr std::uint64_t kSearchBatches = 640;  // up to 64 threads

  // Begins with `start`. Requires: 1 <= least <= start <= most, in both members.
  Autotuner(PipelineSetting start, PipelineSetting least, PipelineSetting most);

  // Takes in one delivery; true if the setting changed.
  bool observe(const BatchTiming& timing);

  [[nodiscard]] PipelineSetting setting() const noexcept { return current_; }
  [[nodiscard]] PipelineSetting most() const noexcept { return most_; }
  [[nodiscard]] bool fixed() const noexcept { return least_ == most_; }
  [[nodiscard]] bool resting() const noexcept { return resting_; }
  [[nodiscard]] std::uint64_t n_changes() const noexcept { return n_changes_; }  // trials included

 private:
  struct Window {
    double samples_per_s = 0;
    double stall = 0;  // share of the time
    double busy = 0;   // threads, on average
    int least_ready = 0;
  };
  enum class Kind : std::uint8_t { kNone, kFewer, kMore, kDeeper, kShallower };
  enum class Verdict : std::uint8_t { kOpen, kTake, kLeave };

  bool step(const Window& window);
  [[nodiscard]] Kind propose(const Window& window, PipelineSetting& candidate) const;
  [[nodiscard]] int fewer_threads(const Window& window) const;
  [[nodiscard]] int more_threads(const Window& window) const;
  [[nodiscard]] Verdict judge(double& ratio) const;
  void conclude(bool taken, double ratio);
  void rest(const Window& window);
  void watch(const Window& window);
  void search_all(int fewest_known_bad);
  void search_nearby();
  bool apply(PipelineSetting setting);

  const PipelineSetting least_;
  const PipelineSetting most_;
  PipelineSetting current_;
  PipelineSetting base_;
  std::uint64_t n_changes_ = 0;

  BatchTiming sum_;
  std::uint64_t n_summed_ = 0;
  int n_unsettled_;  // batches that still come from the setting before

  Kind trial_ = Kind::kNone;
  PipelineSetting candidate_;
  std::array<Window, 2> base_windows_;
  std::array<Window, 2> candidate_windows_;
  std::size_t n_base_ = 0;
  std::size_t n_candidate_ = 0;

  int too_few_;            // this many threads, or fewer, are known to deliver less
  int too_many_;           // this many, or more, to deliver no more
  bool nearby_ = false;    // the two above are assumed, to keep the search short
  bool deeper_ = true;     // a deeper ring may still help
  bool shallower_ = true;  // a shallower one may still do
  double standing_ = 1;    // rate of the base, to the best since the last search of everything

  bool resting_ = false;
  int rest_windows_;
  int rest_left_ = 0;
  int n_surprises_ = 0;
  PipelineSetting rested_{0, 0};  // where the last rest was
  Window expected_;
};

}  // namespace e2eio
