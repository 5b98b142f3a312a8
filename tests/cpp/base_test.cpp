#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "e2eio/base/bytes.hpp"
#include "e2eio/base/checksum.hpp"
#include "e2eio/base/cores.hpp"
#include "e2eio/base/dtype.hpp"
#include "e2eio/base/memory.hpp"

namespace e2eio {
namespace {

TEST(Checksum, GivesTheCheckValueOfRfc3720) {
  EXPECT_EQ(crc32c(as_bytes("123456789")), 0xE3069283U);
  EXPECT_EQ(crc32c_table(as_bytes("123456789")), 0xE3069283U);
  EXPECT_EQ(crc32c({}), 0U);
}

TEST(Checksum, InstructionAndTableAgreeAtEveryLengthAndChain) {
  Bytes bytes;
  for (unsigned i = 0; i < 100; ++i) {
    EXPECT_EQ(crc32c(bytes), crc32c_table(bytes)) << i;
    const ByteView all(bytes);
    EXPECT_EQ(crc32c(all.subspan(i / 3), crc32c(all.first(i / 3))), crc32c(all)) << i;
    bytes.push_back(static_cast<std::byte>(i * 37 + 11));
  }
}

TEST(Checksum, InterleavedPiecesAgreeWithTheTableOnLongBytes) {
  Bytes bytes;
  std::uint32_t state = 1;
  for (std::size_t i = 0; i < 40000; ++i) {
    state = state * 1664525U + 1013904223U;
    bytes.push_back(static_cast<std::byte>(state >> 24U));
  }
  const ByteView all(bytes);
  // Around the lengths where the number and size of the pieces changes, and at odd addresses.
  for (const std::size_t n : {191, 192, 193, 199, 216, 384, 1000, 3400, 6143, 6144, 6145, 6167,
                              6168, 6527, 6528, 12288, 12672, 39990}) {
    for (const std::size_t first : {0, 1, 7}) {
      const ByteView part = all.subspan(first, n);
      ASSERT_EQ(crc32c(part), crc32c_table(part)) << n;
      ASSERT_EQ(crc32c(part.subspan(n / 2), crc32c(part.first(n / 2))), crc32c(part)) << n;
    }
  }
}

TEST(ByteCursor, ReadsVarintsItsWriterWrote) {
  for (const std::uint32_t value : {0U, 1U, 127U, 128U, 16383U, 16384U, 0xFFFFFFFFU}) {
    Bytes bytes;
    append_varint(bytes, value);
    ByteCursor cursor(bytes);
    EXPECT_EQ(cursor.take_varint(), value);
    EXPECT_EQ(cursor.remaining(), 0U);
  }
}

TEST(ByteCursor, RefusesOverlongAndTruncatedVarints) {
  for (const Bytes& bytes : {Bytes{std::byte{0x80}, std::byte{0}}, Bytes{std::byte{0x80}},
                             Bytes(5, std::byte{0xFF}), Bytes{}}) {
    EXPECT_THROW((void)ByteCursor(bytes).take_varint(), Error);
  }
}

TEST(ByteCursor, RefusesToReadPastTheEnd) {
  const Bytes bytes(3);
  ByteCursor cursor(bytes);
  EXPECT_THROW((void)cursor.take<std::uint32_t>(), Error);
  EXPECT_EQ(cursor.take<std::uint16_t>(), 0U);
}

TEST(DType, NamesRoundTrip) {
  for (const char* name : {"float32", "float64", "int8", "int64", "uint16", "bool", "bfloat16"}) {
    EXPECT_EQ(name_of(dtype_named(name)), name);
  }
  EXPECT_THROW((void)dtype_named("complex64"), Error);
}

TEST(ZeroedMemory, StartsAsZerosOnAPage) {
  const ZeroedMemory memory(3 << 20);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(memory.data()) % 4096, 0U);
  for (std::size_t i = 0; i < memory.n_bytes(); ++i) {
    ASSERT_EQ(memory.data()[i], std::byte{0});
  }
}

TEST(Cores, AreAtLeastOne) { EXPECT_GE(usable_cores(), 1); }

// A tree of cgroups as the kernel shows it. Thread rule: one thread.
class Cgroups : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "e2eio-XXXXXX").string();
    root_ = ::mkdtemp(name.data());
  }
  void TearDown() override { std::filesystem::remove_all(root_); }
  void put(const std::string& file, const std::string& text) const {
    std::filesystem::create_directories(std::filesystem::path(root_ + "/" + file).parent_path());
    std::ofstream(root_ + "/" + file) << text << "\n";
  }
  [[nodiscard]] int quota(const std::string& membership) const {
    return quota_cores(membership, root_);
  }
  std::string root_;
};

TEST_F(Cgroups, TheTightestOfNestedGroupsCounts) {
  put("cpu.max", "max 100000");
  put("user/cpu.max", "250000 100000");
  put("user/job/cpu.max", "600000 100000");
  put("user/job/task/cpu.max", "max 100000");
  put("user/other/cpu.max", "100000 100000");
  EXPECT_EQ(quota("0::/user/job/task\n"), 3);  // 2.5, rounded up
  EXPECT_EQ(quota("0::/user/other\n"), 1);
  EXPECT_EQ(quota("0::/\n"), 0);
  put("user/job/task/cpu.max", "50000 100000");
  EXPECT_EQ(quota("0::/user/job/task\n"), 1);
}

TEST_F(Cgroups, OfTheFirstVersionAreFoundUnderTheirController) {
  put("cpu,cpuacct/batch/cpu.cfs_quota_us", "400000");
  put("cpu,cpuacct/batch/cpu.cfs_period_us", "100000");
  put("cpu,cpuacct/batch/job/cpu.cfs_quota_us", "-1");
  put("cpu,cpuacct/batch/job/cpu.cfs_period_us", "100000");
  put("cpuset/batch/cpu.cfs_quota_us", "100000");
  put("cpuset/batch/cpu.cfs_period_us", "100000");
  EXPECT_EQ(quota("9:cpuset:/batch\n4:cpu,cpuacct:/batch/job\n0::/\n"), 4);
  EXPECT_EQ(quota("9:cpuset:/batch\n"), 0);
}

TEST_F(Cgroups, AContainerSeesItsOwnAsTheRoot) {
  put("cpu.max", "200000 100000");
  EXPECT_EQ(quota("0::/docker/4f2e\n"), 2);
  put("cpu/cpu.cfs_quota_us", "100000");
  put("cpu/cpu.cfs_period_us", "100000");
  EXPECT_EQ(quota("4:cpu,cpuacct:/docker/4f2e\n"), 1);
}

TEST_F(Cgroups, ThatSayNothingUsefulAreNoLimit) {
  for (const char* text : {"", "max", "0 100000", "100000 0", "-1 100000", "nan 3", "many"}) {
    put("cpu.max", text);
    EXPECT_EQ(quota("0::/\n"), 0) << text;
  }
  EXPECT_EQ(quota("nonsense\n0::relative\n:\n"), 0);
}

}  // namespace
}  // namespace e2eio
