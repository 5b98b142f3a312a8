#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <random>
#include <set>

#include "e2eio/base/error.hpp"
#include "e2eio/plan/epoch_plan.hpp"
#include "e2eio/plan/mixed_order.hpp"
#include "e2eio/plan/permutation.hpp"
#include "e2eio/plan/weighted_order.hpp"
#include "e2eio/plan/window_order.hpp"

namespace e2eio {
namespace {

TEST(Permutation, VisitsEveryIndexOnce) {
  for (const std::uint64_t n : {1U, 2U, 3U, 4U, 5U, 63U, 64U, 65U, 1000U}) {
    for (const std::uint64_t key : {0U, 1U, 12345U}) {
      const Permutation order(n, key);
      std::vector<std::uint64_t> seen;
      for (std::uint64_t i = 0; i < n; ++i) {
        seen.push_back(order(i));
      }
      std::sort(seen.begin(), seen.end());
      for (std::uint64_t i = 0; i < n; ++i) {
        ASSERT_EQ(seen[i], i) << n << " " << key;
      }
    }
  }
}

TEST(Permutation, IsPinnedForAllVersionsAndPlatforms) {
  const Permutation order(10, 42);
  std::vector<std::uint64_t> got;
  for (std::uint64_t i = 0; i < 10; ++i) {
    got.push_back(order(i));
  }
  EXPECT_EQ(got, (std::vector<std::uint64_t>{5, 9, 7, 8, 6, 4, 1, 2, 3, 0}));
}

TEST(Permutation, WorksBeyond32Bits) {
  const std::uint64_t n = (std::uint64_t{1} << 40U) + 12345;
  const Permutation order(n, 7);
  for (std::uint64_t i = 0; i < 1000; ++i) {
    EXPECT_LT(order(i * 1000003), n);
  }
}

// All ranks' ids of an epoch, rank by rank.
std::vector<std::vector<std::uint64_t>> ids_of(PlanConfig config, std::uint64_t epoch) {
  std::vector<std::vector<std::uint64_t>> ranks(config.world_size);
  for (config.rank = 0; config.rank < config.world_size; ++config.rank) {
    const EpochPlan plan(config);
    for (std::uint64_t b = 0; b < plan.n_batches(); ++b) {
      for (const std::uint64_t id : plan.batch_ids(epoch, b)) {
        ranks[config.rank].push_back(id);
      }
    }
  }
  return ranks;
}

TEST(EpochPlan, GivesRanksEqualBatchesThatCoverTheDataset) {
  for (std::uint64_t n = 0; n < 40; ++n) {
    for (std::uint64_t world = 1; world < 5; ++world) {
      for (std::uint64_t batch = 1; batch < 8; ++batch) {
        for (const bool drop : {false, true}) {
          const auto ranks = ids_of({.n_samples = n,
                                     .batch_size = batch,
                                     .world_size = world,
                                     .shuffle = true,
                                     .drop_last = drop,
                                     .key = n},
                                    3);
          std::vector<std::uint64_t> all;
          for (const auto& ids : ranks) {
            ASSERT_EQ(ids.size(), ranks[0].size());
            all.insert(all.end(), ids.begin(), ids.end());
          }
          const std::uint64_t step = world * batch;
          const std::uint64_t expected = drop ? n / step * step : (n + world - 1) / world * world;
          ASSERT_EQ(all.size(), expected);
          std::sort(all.begin(), all.end());
          const auto repeats =
              static_cast<std::uint64_t>(all.end() - std::unique(all.begin(), all.end()));
          ASSERT_EQ(repeats, drop ? 0 : expected - n);
        }
      }
    }
  }
}

TEST(EpochPlan, IsSequentialWithoutShuffleAndNewEveryEpochWithIt) {
  const PlanConfig config{.n_samples = 10, .batch_size = 2, .world_size = 2};
  EXPECT_EQ(ids_of(config, 0)[0], (std::vector<std::uint64_t>{0, 1, 4, 5, 8}));
  EXPECT_EQ(ids_of(config, 0)[1], (std::vector<std::uint64_t>{2, 3, 6, 7, 9}));
  PlanConfig shuffled = config;
  shuffled.shuffle = true;
  EXPECT_NE(ids_of(shuffled, 0), ids_of(shuffled, 1));
  EXPECT_EQ(ids_of(shuffled, 1), ids_of(shuffled, 1));
}

TEST(EpochPlan, RefusesImpossibleConfigurations) {
  EXPECT_THROW(EpochPlan({.n_samples = 3, .batch_size = 0}), Error);
  EXPECT_THROW(EpochPlan({.n_samples = 3, .batch_size = 1, .rank = 2, .world_size = 2}), Error);
}

TEST(EpochPlan, RefusesStepsOfMoreThan63Bits) {
  const std::uint64_t large = std::uint64_t{1} << 32U;
  EXPECT_THROW(EpochPlan({.n_samples = 3, .batch_size = large, .world_size = large}), Error);
}

std::uint64_t below(std::mt19937_64& random, std::uint64_t n) { return random() % n; }

TEST(EpochPlan, GivesAllRanksTheSameNumberOfBatchesIn10000Configurations) {
  std::mt19937_64 random(1);
  for (int i = 0; i < 10000; ++i) {
    PlanConfig config{.n_samples = below(random, i % 2 == 0 ? 300 : 1'000'000'000),
                      .batch_size = 1 + below(random, 300),
                      .world_size = 1 + below(random, 64),
                      .shuffle = true,
                      .drop_last = below(random, 2) == 0};
    const std::uint64_t begin = below(random, config.n_samples + 1);
    std::set<std::uint64_t> counts;
    std::set<std::size_t> last_sizes;
    for (config.rank = 0; config.rank < config.world_size; ++config.rank) {
      const EpochPlan plan(config);
      const std::uint64_t n = plan.n_batches(begin);
      counts.insert(n);
      last_sizes.insert(n == 0 ? 0 : plan.batch_ids(0, n - 1, begin).size());
    }
    ASSERT_EQ(counts.size(), 1);
    ASSERT_EQ(last_sizes.size(), 1);
  }
}

// What all ranks deliver together in steps [0, n_steps) from `begin` on, in the order's order.
std::vector<std::uint64_t> delivered(PlanConfig config, std::uint64_t epoch, std::uint64_t begin,
                                     std::uint64_t n_steps) {
  std::vector<std::uint64_t> ids;
  for (std::uint64_t step = 0; step < n_steps; ++step) {
    for (config.rank = 0; config.rank < config.world_size; ++config.rank) {
      const std::vector<std::uint64_t> batch = EpochPlan(config).batch_ids(epoch, step, begin);
      ids.insert(ids.end(), batch.begin(), batch.end());
    }
  }
  return ids;
}

TEST(EpochPlan, GoesOnExactlyAfter1000CutsWithOtherWorldsAndBatches) {
  std::mt19937_64 random(2);
  for (int cut = 0; cut < 1000; ++cut) {
    const std::uint64_t n = 1 + below(random, 500);
    const std::uint64_t epoch = below(random, 5);
    std::vector<std::uint64_t> whole(n);
    ShuffledOrder(n, 77).fill(epoch, 0, whole);
    std::vector<std::uint64_t> got;
    std::uint64_t begin = 0;
    bool complete = false;
    for (int run = 0; run < 4; ++run) {
      PlanConfig config{.n_samples = n,
                        .batch_size = 1 + below(random, 40),
                        .world_size = 1 + below(random, 6),
                        .shuffle = true,
                        .drop_last = below(random, 2) == 0,
                        .key = 77};
      const EpochPlan plan(config);
      const std::uint64_t n_batches = plan.n_batches(begin);
      const std::uint64_t n_steps = run < 3 ? below(random, n_batches + 1) : n_batches;
      const auto ids = delivered(config, epoch, begin, n_steps);
      const std::uint64_t after = plan.place_after(n_steps, begin);
      // What is padded comes from the start of the order.
      for (std::uint64_t i = 0; i < ids.size(); ++i) {
        ASSERT_EQ(ids[i], whole[(begin + i) % n]);
      }
      ASSERT_LT(ids.size() - (after - begin), config.world_size);
      begin = after;
      complete = run == 3 && !config.drop_last;
    }
    ASSERT_TRUE(!complete || begin == n);
    ASSERT_EQ(EpochPlan({.n_samples = n, .batch_size = 3}).n_batches(n), 0);
  }
}

std::vector<std::uint64_t> epoch_of(const Order& order, std::uint64_t epoch) {
  std::vector<std::uint64_t> ids(order.n_places());
  order.fill(epoch, 0, ids);
  return ids;
}

void expect_pure(const Order& order) {
  const std::vector<std::uint64_t> whole = epoch_of(order, 3);
  for (const std::uint64_t length : {1U, 2U, 7U, 64U}) {
    for (std::uint64_t first = 0; first + length <= whole.size(); first += length) {
      std::vector<std::uint64_t> ids(length);
      order.fill(3, first, ids);
      const auto begin = whole.begin() + static_cast<std::ptrdiff_t>(first);
      ASSERT_TRUE(std::equal(ids.begin(), ids.end(), begin)) << first;
    }
  }
}

TEST(WindowOrder, IsAPermutationWhateverTheSizes) {
  for (std::uint64_t n = 1; n < 700; n += 1 + n / 40) {
    for (const std::uint64_t extent : {1U, 2U, 3U, 5U, 16U, 100U, 1'000'000'000U}) {
      const WindowOrder order(n, n, extent);
      std::vector<std::uint64_t> ids = epoch_of(order, 1);
      expect_pure(order);
      ASSERT_TRUE(n < 30 || ids != epoch_of(order, 2)) << n;
      std::sort(ids.begin(), ids.end());
      for (std::uint64_t i = 0; i < n; ++i) {
        ASSERT_EQ(ids[i], i) << n << " " << extent;
      }
    }
  }
}

TEST(WindowOrder, TakesWholeExtentsFromAllStretchesOfTheDataset) {
  const std::uint64_t n = 100'003;
  const WindowOrder order(n, 5, 100);
  const std::uint64_t extent = order.extent_samples();
  EXPECT_EQ(extent, 99);
  const std::vector<std::uint64_t> ids = epoch_of(order, 0);
  for (std::uint64_t window = 0; order.begin_of(window) < n; ++window) {
    std::set<std::uint64_t> extents;
    std::set<std::uint64_t> strata;
    std::uint64_t n_tail = 0;
    const std::uint64_t n_windows = n / (extent * WindowOrder::kStrata);
    const std::uint64_t end = order.begin_of(window + 1);
    for (std::uint64_t place = order.begin_of(window); place < end; ++place) {
      ASSERT_EQ(order.window_of(place), window);
      const std::uint64_t number = ids[place] / extent;
      if (number < n_windows * WindowOrder::kStrata) {
        extents.insert(number);
        strata.insert(number / n_windows);
      } else {
        ++n_tail;
      }
    }
    ASSERT_EQ(extents.size(), WindowOrder::kStrata);
    ASSERT_EQ(strata.size(), WindowOrder::kStrata);
    ASSERT_EQ(n_tail + extent * WindowOrder::kStrata, end - order.begin_of(window));
  }
}

TEST(WindowOrder, WorksBeyond32BitsAndRefusesNothingToRead) {
  const std::uint64_t n = (std::uint64_t{1} << 40U) + 12345;
  const WindowOrder order(n, 7, 300);
  std::vector<std::uint64_t> ids(1);
  for (std::uint64_t i = 0; i < 1000; ++i) {
    order.fill(i, i * 1'000'003'003 % n, ids);
    EXPECT_LT(ids[0], n);
  }
  EXPECT_THROW(WindowOrder(3, 0, 0), Error);
}

TEST(WeightedOrder, DrawsEachSampleAsOftenAsItsWeightSays) {
  const std::vector<std::uint64_t> weights{3, 0, 1, 8, 0, 4};
  const WeightedOrder order(weights, 11, 160'000);
  expect_pure(WeightedOrder(weights, 11, 500));
  std::vector<std::int64_t> counts(weights.size());
  for (const std::uint64_t id : epoch_of(order, 0)) {
    ++counts[id];
  }
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const auto expected = static_cast<std::int64_t>(weights[i]) * 10'000;
    EXPECT_LE(std::abs(counts[i] - expected), weights[i] == 0 ? 0 : 1000) << i;  // 5 sigma
  }
  EXPECT_NE(epoch_of(order, 0), epoch_of(order, 1));
}

TEST(WeightedOrder, RefusesWeightsThatSayNothing) {
  const std::vector<std::uint64_t> zeros(3);
  EXPECT_THROW(AliasTable{zeros}, Error);
  EXPECT_THROW(AliasTable{std::span<const std::uint64_t>()}, Error);
  const std::vector<std::uint64_t> large{(std::uint64_t{1} << 32U) + 1};
  EXPECT_THROW(AliasTable{large}, Error);
}

TEST(MixedOrder, KeepsProportionsAndUsesUpAPartBeforeItRepeats) {
  const auto first = std::make_shared<const ShuffledOrder>(10, 1);
  const auto second = std::make_shared<const SelectedOrder>(
      std::make_shared<const ShuffledOrder>(3, 2),
      std::make_shared<const SelectedOrder::Ids>(SelectedOrder::Ids{100, 101, 102}));
  const MixedOrder order({first, second}, {3, 1}, 42);
  EXPECT_EQ(order.end_id(), 103);
  expect_pure(order);
  std::vector<std::uint64_t> of_first;
  std::vector<std::uint64_t> of_second;
  for (std::uint64_t epoch = 0; epoch < 7; ++epoch) {
    const std::vector<std::uint64_t> ids = epoch_of(order, epoch);
    for (std::size_t place = 0; place < ids.size(); ++place) {
      (ids[place] < 100 ? of_first : of_second).push_back(ids[place]);
    }
    for (std::size_t place = 0; place + 4 <= ids.size(); ++place) {  // in any four places
      const auto here = ids.begin() + static_cast<std::ptrdiff_t>(place);
      ASSERT_EQ(std::count_if(here, here + 4, [](std::uint64_t id) { return id >= 100; }), 1);
    }
  }
  const auto expect_turns = [](const std::vector<std::uint64_t>& ids, std::size_t n) {
    for (std::size_t begin = 0; begin + n <= ids.size(); begin += n) {
      const auto here = ids.begin() + static_cast<std::ptrdiff_t>(begin);
      ASSERT_EQ(std::set<std::uint64_t>(here, here + static_cast<std::ptrdiff_t>(n)).size(), n);
    }
  };
  expect_turns(of_first, 10);
  expect_turns(of_second, 3);
}

TEST(MixedOrder, RefusesPartsThatCannotBeMixed) {
  const auto part = std::make_shared<const FileOrder>(3);
  const auto empty = std::make_shared<const FileOrder>(0);
  EXPECT_THROW(MixedOrder({}, {}, 1), Error);
  EXPECT_THROW(MixedOrder({part}, {1, 1}, 1), Error);
  EXPECT_THROW(MixedOrder({part, part}, {1, 0}, 1), Error);
  EXPECT_THROW(MixedOrder({part, empty}, {1, 1}, 1), Error);
  EXPECT_THROW(MixedOrder({part, part}, {1, 1U << 16U}, 1), Error);
}

TEST(SelectedOrder, NamesSelectedSamplesAndKnowsTheirEnd) {
  const auto ids =
      std::make_shared<const SelectedOrder::Ids>(SelectedOrder::Ids{7, 2, ~std::uint64_t{0}});
  const SelectedOrder order(std::make_shared<const FileOrder>(3), ids);
  EXPECT_EQ(epoch_of(order, 0), *ids);
  EXPECT_EQ(order.end_id(), ~std::uint64_t{0});
  EXPECT_THROW(SelectedOrder(std::make_shared<const FileOrder>(4), ids), Error);
}

}  // namespace
}  // namespace e2eio
