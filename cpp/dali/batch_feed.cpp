#include "batch_feed.hpp"

#include "e2eio/base/error.hpp"
#include "e2eio/plan/epoch_plan.hpp"

namespace e2eio::dali_plugin {
namespace {

constexpr std::chrono::duration<double> kLook{0.5};  // between two looks at the timeout

PlanConfig with_samples(PlanConfig plan, std::uint64_t n_samples) {
  plan.n_samples = n_samples;
  return plan;
}

}  // namespace

BatchFeed::BatchFeed(const std::shared_ptr<const ShardSet>& shards, const PipelineConfig& config,
                     Place first, std::chrono::duration<double> timeout)
    : pipeline_(shards, config),
      batch_size_(config.plan.batch_size),
      timeout_(timeout),
      place_(first),
      plan_(with_samples(config.plan, shards->n_samples())) {
  if (n_batches() > 0) {
    last_batch_size_ = plan_.batch_ids(0, n_batches() - 1).size();
  }
}

std::uint64_t BatchFeed::samples_in(std::uint64_t batch) const noexcept {
  return batch + 1 < n_batches() ? batch_size_ : last_batch_size_;
}

std::uint64_t BatchFeed::samples_per_epoch() const noexcept {
  return n_batches() == 0 ? 0 : (n_batches() - 1) * batch_size_ + last_batch_size_;
}

void BatchFeed::seek(Place place) {
  place_ = place;
  started_ = false;
  failure_ = nullptr;
}

std::unique_ptr<Batch> BatchFeed::next() {
  if (failure_ != nullptr) {
    std::rethrow_exception(failure_);
  }
  try {
    std::unique_ptr<Batch> batch = wait();
    ++place_.batch;
    if (place_.batch == n_batches()) {
      // The threads go on while the last batches are consumed.
      pipeline_.start(place_.epoch + 1, 0);
    }
    return batch;
  } catch (...) {
    failure_ = std::current_exception();
    pipeline_.close();
    throw;
  }
}

std::unique_ptr<Batch> BatchFeed::wait() {
  if (n_batches() == 0) {
    throw Error(ErrorKind::kInvalidArgument,
                "no batches: the dataset is smaller than one step of all ranks and drop_last is "
                "True; lower the batch size, or pass drop_last=False");
  }
  place_ = begin_after_end(place_, n_batches());
  if (!started_) {
    pipeline_.start(place_.epoch, plan_.place_after(place_.batch));
    started_ = true;
  }
  const auto begin = std::chrono::steady_clock::now();
  while (true) {
    std::unique_ptr<Batch> batch = pipeline_.next(kLook);
    if (batch != nullptr) {
      return batch;
    }
    if (pipeline_.exhausted()) {
      throw Error(ErrorKind::kInternal, cat("epoch ", place_.epoch, " ended before batch ",
                                            place_.batch, " of ", n_batches()));
    }
    if (timeout_.count() > 0 && std::chrono::steady_clock::now() - begin > timeout_) {
      throw Error(ErrorKind::kIo,
                  cat("no batch for ", timeout_.count(), " s: batch ", place_.batch, " of epoch ",
                      place_.epoch, " is still being read; raise the timeout"));
    }
  }
}

}  // namespace e2eio::dali_plugin
