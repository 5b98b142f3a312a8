#include "e2eio/pipeline/autotuner.hpp"

#include <algorithm>
#include <cmath>

namespace e2eio {
namespace {

// A window: long enough for the rate to mean something on a machine with other work on it.
constexpr std::uint64_t kWindowBatches = 8;
constexpr double kWindowSeconds = 0.1;

constexpr double kStalled = 0.02;      // a consumer that waits less is not held up
constexpr double kStalledAnew = 0.05;  // one that was not held up, and now is
constexpr double kSpare = 1.15;        // threads kept, to those that are busy
constexpr double kIdle = 0.9;          // threads that are busy for less wait for room

constexpr double kAsGood = 0.97;        // a rate that is as good with fewer threads
constexpr double kBetter = 1.03;        // a rate that is worth more threads
constexpr double kPlainlyWorse = 0.85;  // needs no second look
constexpr double kPlainlyBetter = 1.3;  // neither does this; nor is it the same machine as before

constexpr int kShortestRest = 32;  // windows
constexpr int kLongestRest = 512;

bool plainly_different(double ratio) {
  return ratio > kPlainlyBetter || ratio < 1 / kPlainlyBetter;
}

}  // namespace

Autotuner::Autotuner(PipelineSetting start, PipelineSetting least, PipelineSetting most)
    : least_(least),
      most_(most),
      current_(start),
      base_(start),
      n_unsettled_(start.prefetch + 2),
      too_few_(least.threads - 1),
      too_many_(most.threads + 1),
      rest_windows_(kShortestRest) {}

bool Autotuner::observe(const BatchTiming& timing) {
  if (fixed()) {
    return false;
  }
  if (n_unsettled_ > 0) {
    --n_unsettled_;
    return false;
  }
  sum_.n_ready = n_summed_ == 0 ? timing.n_ready : std::min(sum_.n_ready, timing.n_ready);
  sum_.interval_s += timing.interval_s;
  sum_.stall_s += timing.stall_s;
  sum_.busy_s += timing.busy_s;
  sum_.n_samples += timing.n_samples;
  ++n_summed_;
  if (n_summed_ < kWindowBatches || sum_.interval_s < kWindowSeconds) {
    return false;
  }
  const Window window{.samples_per_s = static_cast<double>(sum_.n_samples) / sum_.interval_s,
                      .stall = sum_.stall_s / sum_.interval_s,
                      .busy = sum_.busy_s / sum_.interval_s,
                      .least_ready = sum_.n_ready};
  sum_ = {};
  n_summed_ = 0;
  return step(window);
}

bool Autotuner::step(const Window& window) {
  if (trial_ != Kind::kNone) {
    const bool of_candidate = current_ == candidate_;
    if (of_candidate) {
      candidate_windows_[n_candidate_++] = window;
    } else {
      base_windows_[n_base_++] = window;
    }
    double ratio = 1;
    const Verdict verdict = of_candidate ? judge(ratio) : Verdict::kOpen;
    if (verdict == Verdict::kOpen) {
      return apply(of_candidate ? base_ : candidate_);
    }
    conclude(verdict == Verdict::kTake, ratio);
    return apply(base_);
  }
  if (resting_) {
    watch(window);
    if (resting_) {
      return false;
    }
  }
  PipelineSetting candidate = base_;
  trial_ = propose(window, candidate);
  if (trial_ == Kind::kNone) {
    rest(window);
    return false;
  }
  candidate_ = candidate;
  base_windows_[0] = window;
  n_base_ = 1;
  n_candidate_ = 0;
  return apply(candidate_);
}

Autotuner::Kind Autotuner::propose(const Window& window, PipelineSetting& candidate) const {
  const bool stalled = window.stall >= kStalled;
  const bool idle = window.busy < kIdle * base_.threads;
  if (stalled && idle && deeper_ && base_.prefetch < most_.prefetch) {
    candidate.prefetch = std::min(2 * base_.prefetch, most_.prefetch);
    return Kind::kDeeper;
  }
  candidate.threads = fewer_threads(window);
  if (candidate.threads < base_.threads) {
    return Kind::kFewer;
  }
  if (stalled) {
    candidate.threads = more_threads(window);
    return candidate.threads > base_.threads ? Kind::kMore : Kind::kNone;
  }
  candidate.threads = base_.threads;
  if (shallower_ && window.least_ready >= 2 && base_.prefetch > least_.prefetch) {
    candidate.prefetch = base_.prefetch - 1;
    return Kind::kShallower;
  }
  return Kind::kNone;
}

int Autotuner::fewer_threads(const Window& window) const {
  const int untried = base_.threads - 1 - too_few_;
  if (untried < 1) {
    return base_.threads;
  }
  const int middle = too_few_ + (base_.threads - too_few_) / 2;
  if (window.stall >= kStalled) {
    return middle;
  }
  const int needed = std::max(least_.threads, static_cast<int>(std::ceil(window.busy * kSpare)));
  return needed > too_few_ ? std::min(needed, base_.threads) : middle;
}

int Autotuner::more_threads(const Window& window) const {
  const int highest = too_many_ - 1;
  if (highest <= base_.threads) {
    return base_.threads;
  }
  if (too_many_ <= most_.threads) {  // something above is known to be no better: bisect
    return base_.threads + (too_many_ - base_.threads) / 2;
  }
  // As many as it would take if the rate grew with the threads.
  const double wanted = std::ceil(base_.threads / std::max(1 - window.stall, 1e-3));
  return std::clamp(static_cast<int>(std::min(wanted, 1e6)), base_.threads + 1, highest);
}

Autotuner::Verdict Autotuner::judge(double& ratio) const {
  const Window& base = base_windows_[0];
  const Window& candidate = candidate_windows_[n_candidate_ - 1];
  ratio = candidate.samples_per_s / base.samples_per_s;
  const bool cheaper = trial_ == Kind::kFewer || trial_ == Kind::kShallower;
  if (cheaper && base.stall < kStalled) {
    return candidate.stall < kStalled ? Verdict::kTake : Verdict::kLeave;
  }
  if (n_candidate_ < 2) {
    if (ratio < kPlainlyWorse) {
      return Verdict::kLeave;
    }
    return !cheaper && ratio > kPlainlyBetter ? Verdict::kTake : Verdict::kOpen;
  }
  ratio = (candidate_windows_[0].samples_per_s + candidate_windows_[1].samples_per_s) /
          (base_windows_[0].samples_per_s + base_windows_[1].samples_per_s);
  const bool good = cheaper ? standing_ * ratio >= kAsGood : ratio >= kBetter;
  return good ? Verdict::kTake : Verdict::kLeave;
}

void Autotuner::conclude(bool taken, double ratio) {
  switch (trial_) {
    case Kind::kFewer:
      (taken ? too_many_ : too_few_) = taken ? base_.threads : candidate_.threads;
      break;
    case Kind::kMore:
      (taken ? too_few_ : too_many_) = taken ? base_.threads : candidate_.threads;
      break;
    case Kind::kDeeper:
      deeper_ = taken;
      shallower_ = shallower_ && !taken;
      break;
    default:
      shallower_ = taken;
      deeper_ = deeper_ && !taken;
  }
  if (taken) {
    if (nearby_) {  // it has moved: look on in that direction
      too_few_ = trial_ == Kind::kFewer ? least_.threads - 1 : too_few_;
      too_many_ = trial_ == Kind::kMore ? most_.threads + 1 : too_many_;
      nearby_ = false;
    }
    standing_ = std::min(1.0, standing_ * ratio);
    base_ = candidate_;
  }
  trial_ = Kind::kNone;
}

void Autotuner::rest(const Window& window) {
  rest_windows_ = base_ == rested_ ? std::min(2 * rest_windows_, kLongestRest) : kShortestRest;
  rest_left_ = rest_windows_;
  rested_ = base_;
  expected_ = window;
  n_surprises_ = 0;
  resting_ = true;
}

void Autotuner::watch(const Window& window) {
  const bool held_up = expected_.stall < kStalled && window.stall > kStalledAnew;
  const bool relaxed =
      window.stall < kStalled / 2 &&
      (expected_.stall > kStalledAnew || window.busy * kPlainlyBetter < expected_.busy);
  const bool other_pace = std::min(window.stall, expected_.stall) >= kStalled &&
                          plainly_different(window.samples_per_s / expected_.samples_per_s);
  n_surprises_ = held_up || relaxed || other_pace ? n_surprises_ + 1 : 0;
  if (n_surprises_ == 2) {
    rested_ = {0, 0};
    search_all(held_up ? base_.threads - 1 : least_.threads - 1);
  } else if (--rest_left_ == 0) {
    search_nearby();
  }
}

void Autotuner::search_all(int fewest_known_bad) {
  too_few_ = fewest_known_bad;
  too_many_ = most_.threads + 1;
  nearby_ = false;
  deeper_ = true;
  shallower_ = true;
  standing_ = 1;
  resting_ = false;
}

void Autotuner::search_nearby() {
  const double standing = standing_;  // or it would give away a little more after each rest
  search_all(std::max(least_.threads - 1, base_.threads - 2));
  too_many_ = std::min(most_.threads + 1, base_.threads + 2);
  nearby_ = true;
  standing_ = standing;
}

bool Autotuner::apply(PipelineSetting setting) {
  if (setting == current_) {
    return false;
  }
  // What is ready, or in the making, was made by the setting before.
  n_unsettled_ = std::max(current_.prefetch, setting.prefetch) + 1;
  current_ = setting;
  ++n_changes_;
  return true;
}

}  // namespace e2eio
