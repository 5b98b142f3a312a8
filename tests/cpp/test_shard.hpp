// Small shards for the tests of the upper rooms.
#pragma once

#include <stdlib.h>

#include <bit>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "e2eio/format/shard_reader.hpp"
#include "e2eio/format/shard_writer.hpp"
#include "e2eio/io/file_source.hpp"

namespace e2eio::test {

// A directory that is gone with the object. Thread rule: one thread.
class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string name = (std::filesystem::temp_directory_path() / "e2eio-XXXXXX").string();
    path_ = ::mkdtemp(name.data());
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  ~TemporaryDirectory() { std::filesystem::remove_all(path_); }
  [[nodiscard]] std::string file(const std::string& name) const { return (path_ / name).string(); }

 private:
  std::filesystem::path path_;
};

inline Schema small_schema() {
  Schema schema;
  schema.image_name = "X";
  schema.height = 8;
  schema.width = 8;
  schema.channels = {{"a", "GeV"}, {"b", ""}};
  schema.scalars = {{"y", DType::kInt32, ""}};
  return schema;
}

// Sample i has pixel (i * 7 + k * 11) % 64 of channel 0 at i + k / 8, and channel 1 is all i if i %
// 5 == 0.
inline std::vector<float> small_image(std::uint64_t i) {
  std::vector<float> image(128, 0.0F);
  for (std::uint64_t k = 0; k < 6; ++k) {
    image[(i * 7 + k * 11) % 64] = static_cast<float>(i) + static_cast<float>(k + 1) / 8;
  }
  for (std::size_t p = 64; p < 128 && i % 5 == 0; ++p) {
    image[p] = static_cast<float>(i) + 0.5F + static_cast<float>(p) * 1.37F;
  }
  return image;
}

inline void write_shard(const std::string& path, std::uint64_t first, std::uint64_t n) {
  ShardWriter writer(path, small_schema(), {});
  for (std::uint64_t i = first; i < first + n; ++i) {
    const std::vector<float> image = small_image(i);
    const auto label = static_cast<std::int32_t>(i);
    const std::vector<ByteView> scalars{std::as_bytes(std::span(&label, 1))};
    writer.append({reinterpret_cast<const std::byte*>(image.data()), false, {256, 32, 4}}, scalars);
  }
  writer.finish();
}

inline std::shared_ptr<const ShardReader> open_shard(const std::string& path) {
  return std::make_shared<const ShardReader>(std::make_unique<FileSource>(path));
}

}  // namespace e2eio::test
