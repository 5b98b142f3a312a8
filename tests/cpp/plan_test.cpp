#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "e2eio/base/error.hpp"
#include "e2eio/plan/epoch_plan.hpp"
#include "e2eio/plan/permutation.hpp"

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

}  // namespace
}  // namespace e2eio
