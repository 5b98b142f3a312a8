#include "e2eio/pipeline/autotuner.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <deque>
#include <functional>
#include <set>
#include <string>

#include "e2eio/plan/permutation.hpp"

namespace e2eio {
namespace {

// A machine in which all threads work on one batch after another, `prefetch` of them ahead of a
// consumer. Noise is a function of the batch's number. Thread rule: one thread.
class Machine {
 public:
  // Batches per second that n threads make.
  using Curve = std::function<double(int)>;

  Machine(Curve curve, double consumer_s, double noise = 0.1)
      : curve_(std::move(curve)), consumer_s_(consumer_s), noise_(noise) {}

  void change(Curve curve, double consumer_s) {
    curve_ = std::move(curve);
    consumer_s_ = consumer_s;
  }

  // One delivery under the setting.
  BatchTiming deliver(PipelineSetting setting) {
    const auto prefetch = static_cast<std::size_t>(setting.prefetch);
    double busy_s = 0;
    while (made_.size() < prefetch) {
      // The next batch starts when the threads are free and there is room for it.
      const double room_s = made_.size() + 1 < prefetch ? 0.0 : taken_s_;
      const double work_s = jitter(noise_) / curve_(setting.threads);
      threads_free_s_ = std::max(threads_free_s_, room_s) + work_s;
      made_.push_back(threads_free_s_);
      busy_s += work_s * setting.threads;
    }
    const double asked_s = taken_s_ + consumer_s_ * jitter(noise_);
    BatchTiming timing;
    timing.n_ready = static_cast<int>(
        std::count_if(made_.begin(), made_.end(), [&](double at_s) { return at_s <= asked_s; }));
    const double got_s = std::max(asked_s, made_.front());
    made_.pop_front();
    timing.interval_s = got_s - taken_s_;
    timing.stall_s = got_s - asked_s;
    timing.busy_s = busy_s;
    timing.n_samples = 64;
    taken_s_ = got_s;
    return timing;
  }

 private:
  double jitter(double share) {
    const double uniform = static_cast<double>(mix64(n_drawn_++) >> 11U) * 0x1.0p-53;
    return 1 + share * (2 * uniform - 1);
  }

  Curve curve_;
  double consumer_s_;
  double noise_;
  double threads_free_s_ = 0;
  double taken_s_ = 0;
  std::deque<double> made_;
  std::uint64_t n_drawn_ = 0;
};

constexpr double kRate = 100;  // batches/s of one thread: windows are of 8 batches or 0.1 s

double linear(int n) { return kRate * n; }
double saturating(int n) { return kRate * std::min(n, 6); }
double falling(int n) { return n <= 8 ? kRate * n : kRate * 8 * std::pow(0.95, n - 8); }
double amdahl(int n) { return kRate / (0.05 + 0.95 / n); }
// Each halving costs 2 %: little, but not if it is done six times.
double shallow(int n) { return kRate * std::pow(n, 0.03); }
// Threads that are slower when they are few (each has less of the caches): busy ones tell too
// little.
double superlinear(int n) { return kRate * std::pow(n, 1.5); }
// A device that gives 3.2 times the rate of one reader, whoever asks.
double device(int n) { return kRate * 3.2 * (1 - std::exp(-n / 1.5)); }

Autotuner tuner_up_to(int threads, int prefetch = 8) {
  return {{threads, 2}, {1, std::min(2, prefetch)}, {threads, prefetch}};
}

double seconds_for(Machine& machine, Autotuner& tuner, std::uint64_t n_batches) {
  double total_s = 0;
  for (std::uint64_t b = 0; b < n_batches; ++b) {
    const BatchTiming timing = machine.deliver(tuner.setting());
    total_s += timing.interval_s;
    (void)tuner.observe(timing);
  }
  return total_s;
}

// Runs until the first rest: the end of the search.
void search(Machine& machine, Autotuner& tuner) {
  double total_s = 0;
  for (std::uint64_t b = 0;; ++b) {
    if (tuner.resting() || (b > Autotuner::kSearchBatches && total_s > 8)) {
      EXPECT_TRUE(tuner.resting()) << "after " << b << " batches, " << total_s << " s";
      return;
    }
    total_s += seconds_for(machine, tuner, 1);
  }
}

double best_fixed_s(const Machine::Curve& curve, double consumer_s, int most, std::uint64_t n) {
  double best_s = 1e300;
  for (int threads = 1; threads <= most; ++threads) {
    Machine machine(curve, consumer_s);
    Autotuner fixed({threads, 2}, {threads, 2}, {threads, 2});
    best_s = std::min(best_s, seconds_for(machine, fixed, n));
  }
  return best_s;
}

struct Situation {
  const char* name;
  double (*curve)(int);
  double consumer_s;
  int most;
  int fewest_good;  // what it may settle on
  int most_good;
};

class AutotunerSituation : public ::testing::TestWithParam<Situation> {};

TEST_P(AutotunerSituation, SettlesNearTheBestAndStays) {
  const Situation& at = GetParam();
  Machine machine(at.curve, at.consumer_s);
  Autotuner tuner = tuner_up_to(at.most);
  search(machine, tuner);
  EXPECT_GE(tuner.setting().threads, at.fewest_good);
  EXPECT_LE(tuner.setting().threads, at.most_good);

  const std::uint64_t n_batches = 4000;
  std::set<int> settled;
  double total_s = 0;
  for (std::uint64_t b = 0; b < n_batches; ++b) {
    total_s += seconds_for(machine, tuner, 1);
    EXPECT_LE(tuner.setting().threads, at.most);
    if (tuner.resting()) {
      settled.insert(tuner.setting().threads);
    }
  }
  EXPECT_LE(*settled.rbegin() - *settled.begin(), std::max(2, at.most / 8));
  const double best_s = best_fixed_s(at.curve, at.consumer_s, at.most, n_batches);
  EXPECT_GE(best_s / total_s, 0.9) << "trials included";
  EXPECT_LE(tuner.n_changes(), 160U) << "it does not rest";
}

INSTANTIATE_TEST_SUITE_P(Curves, AutotunerSituation,
                         ::testing::Values(Situation{"Linear2", linear, 0, 2, 2, 2},
                                           Situation{"Linear16", linear, 0, 16, 15, 16},
                                           Situation{"Linear64", linear, 0, 64, 60, 64},
                                           Situation{"One", linear, 0, 1, 1, 1},
                                           Situation{"Saturating16", saturating, 0, 16, 6, 8},
                                           Situation{"Saturating64", saturating, 0, 64, 6, 8},
                                           Situation{"Falling16", falling, 0, 16, 7, 10},
                                           Situation{"Falling64", falling, 0, 64, 7, 10},
                                           Situation{"Amdahl64", amdahl, 0, 64, 30, 64},
                                           Situation{"Shallow64", shallow, 0, 64, 12, 64},
                                           Situation{"Superlinear16", superlinear, 0.001, 16, 5, 6},
                                           Situation{"Device16", device, 0, 16, 4, 9},
                                           Situation{"SlowConsumer64", linear, 0.1, 64, 1, 1},
                                           Situation{"SlowConsumer2", linear, 0.1, 2, 1, 1},
                                           Situation{"ConsumerOfFour16", linear, 0.0025, 16, 4, 6},
                                           Situation{"ConsumerOfSixtyTwo64", linear, 1 / 6200.0, 64,
                                                     60, 64}),
                         [](const auto& at) { return std::string(at.param.name); });

TEST(Autotuner, IsAFunctionOfWhatItIsFed) {
  Machine first_machine(falling, 0.001);
  Machine second_machine(falling, 0.001);
  Autotuner first = tuner_up_to(32);
  Autotuner second = tuner_up_to(32);
  for (int b = 0; b < 3000; ++b) {
    (void)seconds_for(first_machine, first, 1);
    (void)seconds_for(second_machine, second, 1);
    ASSERT_EQ(first.setting(), second.setting()) << b;
  }
}

TEST(Autotuner, TakesMoreThreadsWhenTheConsumerSpeedsUp) {
  Machine machine(linear, 0.1);
  Autotuner tuner = tuner_up_to(16);
  (void)seconds_for(machine, tuner, 500);
  ASSERT_EQ(tuner.setting().threads, 1);
  machine.change(linear, 0.001);
  (void)seconds_for(machine, tuner, 1000);
  EXPECT_GE(tuner.setting().threads, 9);
}

TEST(Autotuner, LeavesCoresToAConsumerThatSlowsDown) {
  Machine machine(linear, 0);
  Autotuner tuner = tuner_up_to(16);
  (void)seconds_for(machine, tuner, 2000);
  ASSERT_GE(tuner.setting().threads, 15);
  machine.change(linear, 0.1);
  (void)seconds_for(machine, tuner, 60);
  EXPECT_EQ(tuner.setting().threads, 1);
}

TEST(Autotuner, FollowsAMachineWhoseCurveChanges) {
  Machine machine(saturating, 0);  // cold: bound by the device
  Autotuner tuner = tuner_up_to(32);
  (void)seconds_for(machine, tuner, 1500);
  ASSERT_LE(tuner.setting().threads, 8);
  machine.change(linear, 0);  // warm
  (void)seconds_for(machine, tuner, 40000);
  EXPECT_GE(tuner.setting().threads, 28);
}

// Every fourth batch takes the consumer long: on average the threads are fast enough, but a ring of
// two runs empty.
TEST(Autotuner, DeepensTheRingOfAConsumerThatComesInBursts) {
  Autotuner tuner({4, 2}, {4, 2}, {4, 8});
  Machine quick(linear, 0.0);
  int b = 0;
  for (; b < 1000; ++b) {
    quick.change(linear, b % 4 == 0 ? 0.0095 : 0.0001);
    (void)tuner.observe(quick.deliver(tuner.setting()));
  }
  EXPECT_GE(tuner.setting().prefetch, 4);
  const int deep = tuner.setting().prefetch;
  for (; b < 3000; ++b) {
    quick.change(linear, 0.02);
    (void)tuner.observe(quick.deliver(tuner.setting()));
  }
  EXPECT_LT(tuner.setting().prefetch, deep);
}

TEST(Autotuner, LeavesFixedSettingsAlone) {
  Machine machine(falling, 0);
  Autotuner fixed({12, 3}, {12, 3}, {12, 3});
  EXPECT_TRUE(fixed.fixed());
  (void)seconds_for(machine, fixed, 2000);
  EXPECT_EQ(fixed.setting(), (PipelineSetting{12, 3}));
  EXPECT_EQ(fixed.n_changes(), 0U);

  Autotuner threads_only({12, 3}, {1, 3}, {12, 3});
  (void)seconds_for(machine, threads_only, 2000);
  EXPECT_EQ(threads_only.setting().prefetch, 3);
  EXPECT_LT(threads_only.setting().threads, 12);
}

}  // namespace
}  // namespace e2eio
