// Reads that are served from outside: by whom, to whom, and how they end.
#include "e2eio/io/served_source.hpp"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <functional>
#include <thread>

#include "e2eio/io/read_queue.hpp"
#include "test_shard.hpp"

namespace e2eio {
namespace {

using Ticket = ReadQueue::Ticket;

std::byte byte_at(std::uint64_t offset) { return static_cast<std::byte>(offset * 7 % 251); }

Bytes bytes_of(const Ticket& ticket) {
  Bytes bytes(ticket.n_bytes);
  for (std::uint64_t i = 0; i < ticket.n_bytes; ++i) {
    bytes[i] = byte_at(ticket.offset_bytes + i);
  }
  return bytes;
}

// Answers tickets in a thread, as told. Thread rule: one thread.
class Server {
 public:
  Server(std::shared_ptr<ReadQueue> queue, std::function<void(ReadQueue&, const Ticket&)> answer)
      : thread_(
            [queue = std::move(queue), answer = std::move(answer)](const std::stop_token& stop) {
              pollfd poll{queue->descriptor(), POLLIN, 0};
              while (!stop.stop_requested()) {
                if (::poll(&poll, 1, 1) > 0) {
                  for (const Ticket& ticket : queue->take().tickets) {
                    answer(*queue, ticket);
                  }
                }
              }
            }) {}

 private:
  std::jthread thread_;
};

void answer_right(ReadQueue& queue, const Ticket& ticket) {
  queue.complete(ticket.id, bytes_of(ticket), 0);
}

class ServedSourceTest : public ::testing::Test {
 protected:
  std::unique_ptr<ServedSource> source(std::uint64_t n_bytes = 100000) {
    auto made = std::make_unique<ServedSource>(
        queue_,
        ServedSource::Description{queue_->add_source(), "http://host/a.e2e", "remote http", n_bytes,
                                  4096},
        std::vector<ServedSource::Part>{});
    made->settle();
    return made;
  }
  // Of [0, n) times 100 bytes.
  static std::vector<ReadRequest> requests(Bytes& buffer, std::size_t n) {
    buffer.assign(100 * n, std::byte{0});
    std::vector<ReadRequest> all;
    all.reserve(n);
    for (std::size_t i = 0; i < n; ++i) {
      all.push_back({1000 * i, std::span(buffer).subspan(100 * i, 100)});
    }
    return all;
  }
  std::vector<Ticket> take(std::size_t n) {
    std::vector<Ticket> all;
    while (all.size() < n) {
      const std::vector<Ticket> more = queue_->take().tickets;
      all.insert(all.end(), more.begin(), more.end());
      std::this_thread::yield();
    }
    return all;
  }
  std::shared_ptr<ReadQueue> queue_ = std::make_shared<ReadQueue>();
};

TEST_F(ServedSourceTest, GivesManyReadersTheirBytes) {
  const auto file = source();
  const Server one(queue_, answer_right);
  std::vector<std::jthread> readers;
  readers.reserve(8);
  for (int r = 0; r < 8; ++r) {
    readers.emplace_back([&] {
      for (int round = 0; round < 50; ++round) {
        Bytes buffer;
        const auto wanted = requests(buffer, 20);
        EXPECT_EQ(file->read_many(wanted, {}).n_waited, 20U);
        for (const ReadRequest& request : wanted) {
          for (std::size_t i = 0; i < request.to.size(); ++i) {
            ASSERT_EQ(request.to[i], byte_at(request.offset_bytes + i));
          }
        }
      }
    });
  }
}

TEST_F(ServedSourceTest, CountsRetries) {
  const auto file = source();
  const Server server(queue_, [](ReadQueue& queue, const Ticket& ticket) {
    queue.complete(ticket.id, bytes_of(ticket), 2);
  });
  Bytes buffer;
  EXPECT_EQ(file->read_many(requests(buffer, 3), {}).n_retries, 6U);
}

TEST_F(ServedSourceTest, LeavesAtAStopAndLeavesNothingBehind) {
  const auto file = source();
  std::stop_source stop;
  Bytes buffer;
  const auto wanted = requests(buffer, 4);
  ReadReport report;
  std::jthread reader([&] { report = file->read_many(wanted, stop.get_token()); });
  const std::vector<Ticket> tickets = take(4);
  queue_->complete(tickets[0].id, bytes_of(tickets[0]), 0);
  stop.request_stop();
  reader.join();
  EXPECT_TRUE(report.stopped);
  std::vector<std::uint64_t> expected;
  for (std::size_t i = 1; i < 4; ++i) {
    expected.push_back(tickets[i].id);
  }
  EXPECT_EQ(queue_->take().abandoned, expected);
  const Bytes before = buffer;
  queue_->complete(tickets[1].id, bytes_of(tickets[1]), 0);  // too late
  queue_->fail(tickets[2].id, Error(ErrorKind::kIo, "too late"));
  EXPECT_EQ(buffer, before);
}

TEST_F(ServedSourceTest, TakesBackWhatNobodyHasTakenYet) {
  const auto file = source();
  std::stop_source stop;
  stop.request_stop();
  Bytes buffer;
  EXPECT_TRUE(file->read_many(requests(buffer, 4), stop.get_token()).stopped);
  const ReadQueue::News news = queue_->take();
  EXPECT_TRUE(news.tickets.empty());
  EXPECT_TRUE(news.abandoned.empty());
}

TEST_F(ServedSourceTest, ThrowsTheErrorOfOneReadAndAbandonsTheOthers) {
  const auto file = source();
  const Server server(queue_, [](ReadQueue& queue, const Ticket& ticket) {
    if (ticket.offset_bytes == 2000) {
      queue.fail(ticket.id, Error(ErrorKind::kIo, "503", Where{.error_number = EIO}));
    }
  });
  Bytes buffer;
  const auto wanted = requests(buffer, 4);
  try {
    (void)file->read_many(wanted, {});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kIo);
    EXPECT_STREQ(error.what(), "503");
  }
}

TEST_F(ServedSourceTest, RefusesAnAnswerOfTheWrongLength) {
  const auto file = source();
  const Server server(queue_, [](ReadQueue& queue, const Ticket& ticket) {
    Bytes bytes = bytes_of(ticket);
    bytes.pop_back();
    queue.complete(ticket.id, bytes, 0);
  });
  Bytes buffer;
  EXPECT_THROW((void)file->read_many(requests(buffer, 1), {}), Error);
}

TEST_F(ServedSourceTest, FailsNowAndLaterWhenASourceOrAllAreGivenUp) {
  const auto first = source();
  const auto second = source();
  Bytes one(10);
  std::jthread reader([&] { EXPECT_THROW(first->read(0, one), Error); });
  const std::uint64_t number = take(1).front().source;
  queue_->fail_source(number, Error(ErrorKind::kIo, "gone"));
  reader.join();
  EXPECT_THROW(first->read(0, one), Error);
  Bytes other(10);
  std::jthread waiting([&] { EXPECT_THROW(second->read(0, other), Error); });
  (void)take(1);
  queue_->close(Error(ErrorKind::kIo, "the end"));
  waiting.join();
  EXPECT_THROW(second->read(0, other), Error);
}

TEST_F(ServedSourceTest, RefusesToReadPastTheEnd) {
  const auto file = source(50);
  Bytes buffer(51);
  EXPECT_THROW(file->read(0, buffer), Error);
  EXPECT_THROW(file->read(51, std::span(buffer).first(0)), Error);
}

TEST_F(ServedSourceTest, TellsWhichSourcesAreGone) {
  auto file = source();
  EXPECT_EQ(queue_->n_sources(), 1U);
  file.reset();
  EXPECT_EQ(queue_->n_sources(), 0U);
  EXPECT_EQ(queue_->take().removed.size(), 1U);
}

TEST_F(ServedSourceTest, WorksInAForkedChildWhateverTheParentWasDoing) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "the thread sanitizer knows no threads in a forked child";
#endif
  const auto file = source();
  Bytes buffer(10);
  std::jthread waiting([&] { EXPECT_THROW(file->read(0, buffer), Error); });
  (void)take(1);
  const pid_t child = ::fork();
  if (child == 0) {
    int status = 1;
    {
      const Server server(queue_, answer_right);
      Bytes own(10);
      file->read(5, own);
      status = own[0] == byte_at(5) ? 0 : 2;
    }
    ::_exit(status);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  queue_->close(Error(ErrorKind::kIo, "the end"));
}

TEST(ServedShardTest, OpensWithFewReadsAndGoesOverToALocalCopy) {
  const test::TemporaryDirectory directory;
  const std::string path = directory.file("a.e2e");
  test::write_shard(path, 0, 300);
  const FileSource file(path);
  const auto queue = std::make_shared<ReadQueue>();
  std::atomic<int> n_reads = 0;
  const Server server(queue, [&](ReadQueue& served, const Ticket& ticket) {
    ++n_reads;
    Bytes bytes(ticket.n_bytes);
    file.read(ticket.offset_bytes, bytes);
    if (!ticket.past_cache && ticket.offset_bytes > 0 && ticket.n_bytes < 5000) {
      bytes.back() ^= std::byte{1};  // a damaged cache
    }
    served.complete(ticket.id, bytes, 0);
  });
  Bytes tail(200);
  file.read(file.n_bytes() - tail.size(), tail);
  auto source = std::make_unique<ServedSource>(
      queue,
      ServedSource::Description{queue->add_source(), "http://host/a.e2e", "remote http",
                                file.n_bytes(), 4096},
      std::vector<ServedSource::Part>{{file.n_bytes() - tail.size(), tail}});
  const ServedSource& served = *source;
  const ShardReader shard(std::move(source));
  EXPECT_LE(n_reads, 2);  // the start of the file holds all of it but the tail
  served.settle();
  EXPECT_TRUE(served.always_waits());
  EXPECT_EQ(served.merge_gap_bytes(), 4096U);
  shard.check(3, 4);  // is read again, past the cache
  EXPECT_THROW(served.adopt(directory.file("none")), Error);
  served.adopt(path);
  const int before = n_reads;
  shard.check(0, 300);
  EXPECT_EQ(n_reads, before);
  EXPECT_FALSE(served.always_waits());
  EXPECT_EQ(served.merge_gap_bytes(), 0U);
}

}  // namespace
}  // namespace e2eio
