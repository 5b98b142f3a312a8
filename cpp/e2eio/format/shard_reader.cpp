#include "e2eio/format/shard_reader.hpp"

#include <algorithm>
#include <numeric>
#include <utility>

#include "e2eio/base/checksum.hpp"
#include "e2eio/base/memory.hpp"
#include "e2eio/format/content.hpp"
#include "e2eio/format/shard_writer.hpp"

namespace e2eio {
namespace {

// Record sizes are read, verified and summed up in pieces that stay in the cache: a shard of 10^8
// samples takes the memory of its offsets and no more.
constexpr std::size_t kSizesPerPiece = std::size_t{64} << 10U;

ByteView payload_of(ByteView record) { return record.subspan(layout::kRecordCrcBytes); }

}  // namespace

ShardReader::ShardReader(std::unique_ptr<Source> source) : source_(std::move(source)) { open(); }

void ShardReader::refuse(const Error& error, std::uint64_t offset_bytes) const {
  const bool newer = error.kind() == ErrorKind::kUnsupported;
  throw Error(error.kind(),
              cat(newer ? "unsupported shard: " : "corrupt shard: ", path(), ": ", error.what(),
                  newer ? "" : "; run 'e2eio verify' on it, then copy or convert it again"),
              Where{.path = path(), .offset_bytes = offset_bytes});
}

Bytes ShardReader::read_bytes(std::uint64_t offset_bytes, std::uint64_t n_bytes) const {
  Bytes bytes(n_bytes);
  source_->read(offset_bytes, bytes);
  return bytes;
}

void ShardReader::open() {
  try {
    read_frame();
  } catch (const Error& error) {
    if (!error.where().path.empty()) {
      throw;
    }
    refuse(error, 0);
  }
}

void ShardReader::read_frame() {
  const std::uint64_t size = source_->n_bytes();
  if (size < layout::kHeaderBytes + layout::kTrailerBytes) {
    throw Error(ErrorKind::kCorrupt, cat("has ", size, " bytes, a shard has at least ",
                                         layout::kHeaderBytes + layout::kTrailerBytes));
  }
  header_ = layout::decode_header(read_bytes(0, layout::kHeaderBytes));
  const Bytes trailer_bytes = read_bytes(size - layout::kTrailerBytes, layout::kTrailerBytes);
  const layout::Trailer trailer = layout::decode_trailer(trailer_bytes);
  require_tiling(trailer);
  sealer_ = Sealer(header_.shard_id);
  digest_ = shard_digest(layout::trailer_crc(trailer_bytes), header_.shard_id);
  const Bytes directory =
      read_bytes(trailer.directory_offset, trailer.n_sections * layout::kEntryBytes);
  const std::uint32_t crc = sealer_.seal(layout::kDirectorySeal, directory);
  if (crc != trailer.directory_crc) {
    throw Error(ErrorKind::kCorrupt,
                cat("directory: crc32c ", hex32(crc), ", expected ", hex32(trailer.directory_crc)));
  }
  directory_ = layout::decode_directory(directory);
  std::uint64_t next = trailer.records_end;
  std::uint32_t last_kind = 0;
  for (const layout::SectionEntry& entry : directory_) {
    if (entry.offset_bytes != next || entry.n_bytes > trailer.directory_offset - next ||
        entry.kind <= last_kind) {
      throw Error(ErrorKind::kCorrupt, cat("directory: section ", entry.kind, " is out of place"));
    }
    next += entry.n_bytes;
    last_kind = entry.kind;
  }
  if (next != trailer.directory_offset) {
    throw Error(ErrorKind::kCorrupt, cat("directory: sections end at byte ", next, ", expected ",
                                         trailer.directory_offset));
  }
  schema_ = decode_schema(section(layout::kSchemaKind, layout::kMaxSchemaBytes));
  const bool has_codes = find(layout::kCodesKind) != nullptr;
  const std::size_t expected = 2 + schema_.scalars.size() + (has_codes ? 1 : 0);
  const bool announced = (header_.required_features & layout::kFeatureCodes) != 0;
  const bool half = (header_.required_features & layout::kFeatureFloat16) != 0;
  if (directory_.size() != expected || has_codes != announced ||
      half != (schema_.precision == Precision::kFloat16)) {
    throw Error(ErrorKind::kCorrupt, "directory: sections do not fit schema and features");
  }
  read_sizes(trailer);
  if (has_codes) {
    const auto n_channels = static_cast<std::uint32_t>(schema_.channels.size());
    book_.emplace(section(layout::kCodesKind, CodeBook::max_section_bytes(n_channels)), n_channels);
  }
  for (std::size_t s = 0; s < schema_.scalars.size(); ++s) {
    const auto kind = layout::kFirstColumnKind + static_cast<std::uint32_t>(s);
    const layout::SectionEntry* entry = find(kind);
    if (entry == nullptr || entry->n_bytes != n_samples() * size_of(schema_.scalars[s].dtype)) {
      throw Error(ErrorKind::kCorrupt, cat("column '", schema_.scalars[s].name, "': wrong size"));
    }
  }
}

void ShardReader::require_tiling(const layout::Trailer& trailer) const {
  const std::uint64_t size = source_->n_bytes();
  if (trailer.file_size != size) {
    throw Error(ErrorKind::kCorrupt, cat("has ", size, " bytes, expected ", trailer.file_size));
  }
  const bool ordered = trailer.records_end >= layout::kHeaderBytes &&
                       trailer.records_end <= trailer.directory_offset &&
                       trailer.directory_offset <= size - layout::kTrailerBytes;
  if (!ordered || trailer.n_sections > layout::kMaxSections ||
      size - layout::kTrailerBytes - trailer.directory_offset !=
          std::uint64_t{trailer.n_sections} * layout::kEntryBytes ||
      trailer.shard_id != header_.shard_id) {
    throw Error(ErrorKind::kCorrupt, "trailer: parts do not tile the file");
  }
}

void ShardReader::read_sizes(const layout::Trailer& trailer) {
  const layout::SectionEntry* entry = find(layout::kSizesKind);
  if (entry == nullptr || entry->n_bytes % 4 != 0 || entry->n_bytes / 4 != trailer.n_samples) {
    throw Error(ErrorKind::kCorrupt, "record sizes: wrong number");
  }
  const std::uint64_t largest = image_layout::max_record_bytes(schema_.shape());
  n_samples_ = trailer.n_samples;
  offsets_ = std::make_unique_for_overwrite<std::uint64_t[]>(n_samples_ + 1);
  advise_huge_pages(std::as_writable_bytes(std::span(offsets_.get(), n_samples_ + 1)));
  std::vector<std::uint32_t> sizes(std::min<std::uint64_t>(n_samples_, kSizesPerPiece));
  std::uint32_t crc = sealer_.start(layout::section_seal(layout::kSizesKind));
  std::uint64_t offset = layout::kHeaderBytes;
  std::uint64_t first_bad = n_samples_;
  for (std::uint64_t begin = 0; begin < n_samples_; begin += sizes.size()) {
    const auto piece =
        std::span(sizes).first(std::min<std::uint64_t>(sizes.size(), n_samples_ - begin));
    source_->read(entry->offset_bytes + 4 * begin, std::as_writable_bytes(piece));
    crc = crc32c(std::as_bytes(piece), crc);
    const auto is_bad = [largest](std::uint32_t size) {
      return size <= layout::kRecordCrcBytes || size > largest;
    };
    bool any_bad = false;
    for (std::size_t i = 0; i < piece.size(); ++i) {
      offsets_[begin + i] = offset;
      offset += piece[i];
      any_bad |= is_bad(piece[i]);
    }
    if (any_bad && first_bad == n_samples_) {
      const auto found = std::find_if(piece.begin(), piece.end(), is_bad);
      first_bad = begin + static_cast<std::uint64_t>(found - piece.begin());
    }
  }
  offsets_[n_samples_] = offset;
  require_crc(*entry, crc);
  if (first_bad < n_samples_) {
    throw Error(ErrorKind::kCorrupt, cat("record sizes: record ", first_bad, " has ",
                                         record_end(first_bad) - record_begin(first_bad),
                                         " bytes, expected 5 to ", largest));
  }
  if (offset != trailer.records_end) {
    throw Error(ErrorKind::kCorrupt, cat("record sizes: records end at byte ", offset,
                                         ", expected ", trailer.records_end));
  }
}

const layout::SectionEntry* ShardReader::find(std::uint32_t kind) const noexcept {
  const auto found = std::find_if(directory_.begin(), directory_.end(),
                                  [kind](const auto& entry) { return entry.kind == kind; });
  return found == directory_.end() ? nullptr : &*found;
}

Bytes ShardReader::section(std::uint32_t kind, std::uint64_t max_bytes) const {
  const layout::SectionEntry* entry = find(kind);
  if (entry == nullptr || entry->n_bytes > max_bytes) {
    throw Error(ErrorKind::kCorrupt, cat("section ", kind, " is missing or over its limit"));
  }
  Bytes bytes = read_bytes(entry->offset_bytes, entry->n_bytes);
  std::uint32_t crc = sealer_.seal(layout::section_seal(kind), bytes);
  if (crc != entry->crc && source_->read_again(entry->offset_bytes, bytes)) {
    crc = sealer_.seal(layout::section_seal(kind), bytes);
  }
  require_crc(*entry, crc);
  return bytes;
}

void ShardReader::require_crc(const layout::SectionEntry& entry, std::uint32_t crc) const {
  if (crc != entry.crc) {
    throw Error(ErrorKind::kCorrupt, cat("section ", entry.kind, " at byte ", entry.offset_bytes,
                                         ": crc32c ", hex32(crc), ", expected ", hex32(entry.crc)));
  }
}

Bytes ShardReader::column(std::size_t index) const {
  const auto kind = layout::kFirstColumnKind + static_cast<std::uint32_t>(index);
  try {
    Bytes bytes = section(kind, find(kind)->n_bytes);
    const bool is_bool = schema_.scalars[index].dtype == DType::kBool;
    if (is_bool &&
        std::any_of(bytes.begin(), bytes.end(), [](std::byte b) { return b > std::byte{1}; })) {
      throw Error(ErrorKind::kCorrupt, cat("column '", schema_.scalars[index].name,
                                           "': a bool that is neither 0 nor 1"));
    }
    return bytes;
  } catch (const Error& error) {
    if (!error.where().path.empty()) {
      throw;
    }
    refuse(error, find(kind)->offset_bytes);
  }
}

ByteView ShardReader::read_records(std::uint64_t first, std::uint64_t last, Bytes& buffer) const {
  const std::uint64_t n_bytes = record_begin(last) - record_begin(first);
  if (buffer.size() < n_bytes) {
    buffer.resize(n_bytes);
  }
  const std::span<std::byte> bytes = std::span(buffer).first(n_bytes);
  source_->read(record_begin(first), bytes);
  return bytes;
}

bool ShardReader::is_whole(std::uint64_t sample, ByteView record) const {
  return sealer_.seal(sample, payload_of(record)) == load<std::uint32_t>(record.data());
}

void ShardReader::decode(std::uint64_t sample, ByteView record,
                         std::span<const std::uint32_t> wanted, bool verify, ImageDecoder& decoder,
                         DecodedImage& image) const {
  ErrorKind kind = ErrorKind::kCorrupt;
  Bytes again;
  try {
    if (verify && !is_whole(sample, record)) {
      again.assign(record.begin(), record.end());
      if (!source_->read_again(record_begin(sample), again) || !is_whole(sample, again)) {
        throw Error(ErrorKind::kCorrupt,
                    cat("crc32c ", hex32(sealer_.seal(sample, payload_of(record))), ", expected ",
                        hex32(load<std::uint32_t>(record.data()))));
      }
      record = again;
    }
    kind = ErrorKind::kDecode;
    decoder.decode(payload_of(record), book_ ? &*book_ : nullptr, wanted, image);
  } catch (const Error& error) {
    throw Error(
        kind,
        cat("corrupt record: ", path(), " sample ", sample, " at byte ", record_begin(sample), ": ",
            error.what(), "; run 'e2eio verify' on the shard, then copy or convert it again"),
        Where{.path = path(), .sample = sample, .offset_bytes = record_begin(sample)});
  }
}

// Calls use(sample, image) with records [begin, end), all channels.
template <typename Use>
void ShardReader::decode_all(std::uint64_t begin, std::uint64_t end, Use use) const {
  ImageDecoder decoder(schema_.shape(), schema_.precision, selected_kernels());
  DecodedImage image;
  Bytes buffer;
  std::vector<std::uint32_t> all(schema_.channels.size());
  std::iota(all.begin(), all.end(), 0U);
  for (std::uint64_t sample = begin; sample < end; ++sample) {
    decode(sample, read_records(sample, sample + 1, buffer), all, true, decoder, image);
    use(sample, image);
  }
}

void ShardReader::check(std::uint64_t begin, std::uint64_t end) const {
  decode_all(begin, end, [](std::uint64_t, const DecodedImage&) {});
}

std::vector<std::uint64_t> ShardReader::sample_digests(std::uint64_t begin,
                                                       std::uint64_t end) const {
  std::vector<std::uint64_t> digests;
  digests.reserve(end - begin);
  const ImageShape shape = schema_.shape();
  decode_all(begin, end, [&](std::uint64_t, const DecodedImage& image) {
    digests.push_back(pixels_digest(image, shape));
  });
  for (std::size_t s = 0; s < schema_.scalars.size(); ++s) {
    const ScalarDigest digest(schema_.scalars[s]);
    const Bytes values = column(s);
    const std::size_t size = size_of(schema_.scalars[s].dtype);
    for (std::size_t i = 0; i < digests.size(); ++i) {
      digests[i] += digest(values.data() + (begin + i) * size);
    }
  }
  return digests;
}

}  // namespace e2eio
