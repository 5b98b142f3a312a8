#include "e2eio/format/schema.hpp"

#include <set>

namespace e2eio {
namespace {

constexpr std::size_t kMaxSide = 65535;
constexpr std::size_t kMaxScalars = 65001;  // each is a section, of 65,536
constexpr std::uint64_t kMaxDenseBytes = std::uint64_t{1} << 30U;

// Length of the UTF-8 sequence that starts at `at`, or 0 if it is malformed (RFC 3629).
std::size_t sequence_length(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned lead = byte(at);
  const std::size_t length = lead < 0x80   ? 1
                             : lead < 0xC2 ? 0
                             : lead < 0xE0 ? 2
                             : lead < 0xF0 ? 3
                             : lead < 0xF5 ? 4
                                           : 0;
  if (length == 0 || at + length > text.size()) {
    return 0;
  }
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(at + i) & 0xC0U) != 0x80U) {
      return 0;
    }
  }
  const unsigned second = length > 1 ? byte(at + 1) : 0;
  const bool overlong = (lead == 0xE0 && second < 0xA0) || (lead == 0xF0 && second < 0x90);
  const bool outside = (lead == 0xED && second > 0x9F) || (lead == 0xF4 && second > 0x8F);
  return overlong || outside ? 0 : length;
}

void require_text(std::string_view text, std::string_view what) {
  bool good = text.size() <= kMaxSide;
  for (std::size_t at = 0; good && at < text.size();) {
    const std::size_t length = sequence_length(text, at);
    good = length > 0;
    at += length;
  }
  if (!good) {
    throw Error(ErrorKind::kInvalidArgument,
                cat("schema: ", what, " is not UTF-8 of at most ", kMaxSide, " bytes"));
  }
}

void require_unique(const std::string& name, std::set<std::string>& seen, std::string_view what) {
  require_text(name, what);
  if (name.empty() || !seen.insert(name).second) {
    throw Error(ErrorKind::kInvalidArgument,
                cat("schema: ", what, " name '", name, "' is empty or occurs twice"));
  }
}

void append_string(Bytes& to, const std::string& text) {
  append(to, static_cast<std::uint16_t>(text.size()));
  append_bytes(to, as_bytes(text));
}

}  // namespace

void validate(const Schema& schema) {
  const auto refuse_side = [](std::string_view what, std::size_t value) {
    if (value < 1 || value > kMaxSide) {
      throw Error(ErrorKind::kInvalidArgument,
                  cat("schema: ", what, " is ", value, ", expected 1 to ", kMaxSide));
    }
  };
  refuse_side("number of channels", schema.channels.size());
  refuse_side("height", schema.height);
  refuse_side("width", schema.width);
  const std::uint64_t dense_bytes =
      4 * std::uint64_t{schema.channels.size()} * schema.height * schema.width;
  if (dense_bytes > kMaxDenseBytes) {
    throw Error(ErrorKind::kInvalidArgument, cat("schema: a dense sample has ", dense_bytes,
                                                 " bytes, the limit is ", kMaxDenseBytes));
  }
  if (schema.scalars.size() >= kMaxScalars) {
    throw Error(ErrorKind::kInvalidArgument, "schema: too many scalar fields, the limit is 65,000");
  }
  std::set<std::string> fields;
  require_unique(schema.image_name, fields, "field");
  for (const ScalarField& scalar : schema.scalars) {
    require_unique(scalar.name, fields, "field");
    require_text(scalar.unit, "unit");
  }
  std::set<std::string> channels;
  for (const NameAndUnit& channel : schema.channels) {
    require_unique(channel.name, channels, "channel");
    require_text(channel.unit, "unit");
  }
}

Bytes encode_schema(const Schema& schema) {
  Bytes bytes;
  append<std::uint16_t>(bytes, 1);
  append(bytes, static_cast<std::uint16_t>(schema.scalars.size()));
  append_string(bytes, schema.image_name);
  append(bytes, static_cast<std::uint32_t>(schema.channels.size()));
  append(bytes, schema.height);
  append(bytes, schema.width);
  append(bytes, static_cast<std::uint8_t>(schema.precision));
  for (const NameAndUnit& channel : schema.channels) {
    append_string(bytes, channel.name);
    append_string(bytes, channel.unit);
  }
  for (const ScalarField& scalar : schema.scalars) {
    append_string(bytes, scalar.name);
    append(bytes, static_cast<std::uint8_t>(scalar.dtype));
    append_string(bytes, scalar.unit);
  }
  return bytes;
}

Schema decode_schema(ByteView bytes) {
  ByteCursor cursor(bytes);
  Schema schema;
  const auto n_images = cursor.take<std::uint16_t>();
  const auto n_scalars = cursor.take<std::uint16_t>();
  if (n_images != 1) {
    throw Error(ErrorKind::kCorrupt, cat("schema: ", n_images, " image fields, expected 1"));
  }
  schema.image_name = cursor.take_string();
  const auto n_channels = cursor.take<std::uint32_t>();
  schema.height = cursor.take<std::uint32_t>();
  schema.width = cursor.take<std::uint32_t>();
  const auto precision = cursor.take<std::uint8_t>();
  if (precision != 1 && precision != 2) {
    throw Error(ErrorKind::kCorrupt,
                cat("schema: precision ", int{precision}, ", expected 1 or 2"));
  }
  schema.precision = static_cast<Precision>(precision);
  for (std::uint32_t c = 0; c < n_channels; ++c) {  // bounded by the section: each takes 4 bytes
    NameAndUnit channel;
    channel.name = cursor.take_string();
    channel.unit = cursor.take_string();
    schema.channels.push_back(std::move(channel));
  }
  for (unsigned s = 0; s < n_scalars; ++s) {
    ScalarField scalar;
    scalar.name = cursor.take_string();
    const auto code = cursor.take<std::uint8_t>();
    if (code < 1 || code > kLastStoredDType) {
      throw Error(ErrorKind::kCorrupt, cat("schema: unknown dtype code ", int{code}));
    }
    scalar.dtype = static_cast<DType>(code);
    scalar.unit = cursor.take_string();
    schema.scalars.push_back(std::move(scalar));
  }
  if (cursor.remaining() > 0) {
    throw Error(ErrorKind::kCorrupt, cat("schema: ", cursor.remaining(), " bytes left over"));
  }
  try {
    validate(schema);
  } catch (const Error& error) {
    throw Error(ErrorKind::kCorrupt, error.what());
  }
  return schema;
}

}  // namespace e2eio
