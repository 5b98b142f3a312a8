#include "e2eio/pipeline/sample_reader.hpp"

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <numeric>
#include <stop_token>
#include <thread>

#include "e2eio/base/error.hpp"
#include "e2eio/kernels/kernel_set.hpp"
#include "e2eio/pipeline/record_fetcher.hpp"
#include "e2eio/pipeline/sample_decoder.hpp"

namespace e2eio {
namespace {

// Samples that a thread takes at a time: enough to merge reads, few enough to share out a batch.
constexpr std::size_t kRun = 8;
// What lies between two records is read along if it is no longer than this.
constexpr std::uint64_t kGapBytes = 8192;

// What the threads of one call share. Thread rule: any thread; errors[i] is for who claimed run i.
struct Request {
  const ShardSet& shards;
  const std::vector<std::uint32_t>& channels;
  const BatchGeometry& geometry;
  std::span<const std::uint64_t> ids;
  std::vector<std::size_t> order;  // positions in ids, by id
  std::byte* zeroed;
  std::vector<std::exception_ptr> errors;  // of each run
  std::atomic<std::size_t> n_claimed{0};
  std::stop_source stop = {};  // one was interrupted: the others wait no longer
};

void decode_run(Request& request, std::size_t first, RecordFetcher& fetcher,
                FetchedRecords& fetched, SampleDecoder& decoder) {
  const std::size_t n = std::min(kRun, request.order.size() - first);
  std::vector<std::uint64_t> ids(n);
  for (std::size_t i = 0; i < n; ++i) {
    ids[i] = request.ids[request.order[first + i]];
  }
  if (fetcher.fetch(ids, fetched, request.stop.get_token()).stopped) {
    throw Error(ErrorKind::kInterrupted, "reading was interrupted");
  }
  for (std::size_t i = 0; i < n; ++i) {
    decoder.fill_zeroed(request.zeroed + request.order[first + i] * request.geometry.sample_bytes(),
                        fetched.all()[i]);
  }
}

void work(Request& request) {
  SampleDecoder decoder(request.shards, request.channels, request.geometry, true,
                        selected_kernels());
  RecordFetcher fetcher(request.shards, kGapBytes);
  FetchedRecords fetched;
  for (std::size_t run = request.n_claimed++; run < request.errors.size();
       run = request.n_claimed++) {
    try {
      decode_run(request, run * kRun, fetcher, fetched, decoder);
    } catch (const Error& error) {
      request.errors[run] = std::current_exception();
      if (error.kind() == ErrorKind::kInterrupted) {
        request.stop.request_stop();
        return;
      }
    } catch (...) {
      request.errors[run] = std::current_exception();
    }
  }
}

// Threads beside the caller's; signals are for Python's main thread.
std::vector<std::jthread> helpers(Request& request, std::size_t n) {
  std::vector<std::jthread> threads;
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  try {
    for (std::size_t i = 0; i < n; ++i) {
      threads.emplace_back([&request] { work(request); });
    }
  } catch (...) {
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    throw;
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return threads;
}

}  // namespace

void SampleReader::read(std::span<const std::uint64_t> ids,
                        const std::vector<std::uint32_t>& channels, int n_threads,
                        std::byte* zeroed) const {
  const BatchGeometry geometry =
      batch_geometry(shards_->schema(), channels, DType::kFloat32, false);
  for (const std::uint64_t id : ids) {
    if (id >= shards_->n_samples()) {
      throw Error(ErrorKind::kInvalidArgument,
                  cat("sample ", id, ", expected 0 to ", shards_->n_samples(), " (exclusive)"));
    }
  }
  Request request{.shards = *shards_,
                  .channels = channels,
                  .geometry = geometry,
                  .ids = ids,
                  .order = std::vector<std::size_t>(ids.size()),
                  .zeroed = zeroed,
                  .errors = std::vector<std::exception_ptr>((ids.size() + kRun - 1) / kRun)};
  std::iota(request.order.begin(), request.order.end(), std::size_t{0});
  std::sort(request.order.begin(), request.order.end(),
            [ids](std::size_t a, std::size_t b) { return ids[a] < ids[b]; });
  const std::size_t wanted = std::min(request.errors.size(), static_cast<std::size_t>(n_threads));
  {
    const std::vector<std::jthread> threads = helpers(request, wanted > 1 ? wanted - 1 : 0);
    work(request);
  }
  for (const std::exception_ptr& error : request.errors) {
    if (error != nullptr) {
      std::rethrow_exception(error);
    }
  }
}

}  // namespace e2eio
