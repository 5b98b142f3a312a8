#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <map>
#include <memory>
#include <vector>

#include "e2eio/pipeline/batch_pipeline.hpp"
#include "test_shard.hpp"

namespace e2eio {
namespace {

// What a device's runtime keeps: the ranges that are registered now, and how many ever were.
struct Registry {
  std::map<void*, std::size_t> ranges;
  std::size_t n_registered = 0;
  bool full = false;
};
Registry registry;  // the functions have no other place for it, as those of CUDA have none
int card = 0;       // its address is a context
thread_local std::vector<void*> contexts;

int enter_context(void* context) {
  contexts.push_back(context);
  return 0;
}

int leave_context(void** /*left*/) {
  contexts.pop_back();
  return 0;
}

bool on_card() { return contexts.size() == 1 && contexts.back() == &card; }

int lock_pages(void* memory, std::size_t n_bytes, unsigned flags) {
  if (registry.full || flags != 1 || !on_card()) {
    return 2;
  }
  ++registry.n_registered;
  return registry.ranges.emplace(memory, n_bytes).second ? 0 : 1;
}

int unlock_pages(void* memory) {
  static_cast<volatile char*>(memory)[0] = 1;  // faults if it is unmapped already
  return !on_card() ? 3 : registry.ranges.erase(memory) == 1 ? 0 : 1;
}

constexpr PageLock kLock{.lock = lock_pages,
                         .unlock = unlock_pages,
                         .flags = 1,
                         .enter = enter_context,
                         .leave = leave_context,
                         .context = &card};

class PageLockTest : public ::testing::TestWithParam<BatchForm> {
 protected:
  void SetUp() override {
    registry = {};
    test::write_shard(directory_.file("a.e2e"), 0, 30);
    config_.plan.batch_size = 8;
    config_.channels = {0, 1};
    config_.form = GetParam();
    config_.page_lock = kLock;
  }
  // Delivers an epoch and returns whether all batches were locked.
  bool run() {
    BatchPipeline pipeline(
        std::make_shared<const ShardSet>(std::vector{test::open_shard(directory_.file("a.e2e"))}),
        config_);
    bool locked = true;
    pipeline.start(0, 0);
    while (!pipeline.exhausted()) {
      const auto batch = pipeline.next(std::chrono::seconds(20));
      locked = locked && batch->page_locked();
      for (const auto& [memory, n_bytes] : registry.ranges) {
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(memory) % 4096, 0U);
        EXPECT_EQ(n_bytes % 4096, 0U);
      }
    }
    return locked;
  }
  test::TemporaryDirectory directory_;
  PipelineConfig config_;
};

TEST_P(PageLockTest, LocksWhatIsDeliveredAndUnlocksItBeforeItIsFreed) {
  EXPECT_TRUE(run());
  EXPECT_GT(registry.n_registered, 0U);
  EXPECT_TRUE(registry.ranges.empty());
  EXPECT_TRUE(contexts.empty());
}

TEST_P(PageLockTest, DeliversPageableMemoryWhereTheSystemRefuses) {
  registry.full = true;
  EXPECT_FALSE(run());
  EXPECT_EQ(registry.n_registered, 0U);
}

TEST_P(PageLockTest, LockedMemoryIsTheParentsAlone) {
  // In the child it is neither there, nor unlocked or unmapped: something else may be in its place.
  auto memory = std::make_unique<ZeroedMemory>(1 << 20, kLock);
  ASSERT_TRUE(memory->page_locked());
  std::byte* const at = memory->data();
  const pid_t child = ::fork();
  if (child == 0) {
    const bool there = ::msync(at, 4096, MS_ASYNC) == 0;
    void* const other =
        ::mmap(at, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    memory.reset();
    ::_exit(there || other != at || ::msync(at, 4096, MS_ASYNC) != 0 ? 1 : 0);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

TEST_P(PageLockTest, LocksNothingUnasked) {
  config_.page_lock = {};
  EXPECT_FALSE(run());
}

INSTANTIATE_TEST_SUITE_P(Forms, PageLockTest,
                         ::testing::Values(BatchForm::kDense, BatchForm::kWire));

}  // namespace
}  // namespace e2eio
