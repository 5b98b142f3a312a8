#include "reader.hpp"

#include <algorithm>
#include <cstring>
#include <sstream>
#include <utility>

#include "dali/pipeline/operator/error_reporting.h"
#include "dali/pipeline/operator/op_spec.h"
#include "e2eio/base/error.hpp"
#include "e2eio/io/open_source.hpp"
#include "spec_text.hpp"

namespace e2eio::dali_plugin {
namespace {

using Images = ::dali::TensorList<::dali::CPUBackend>;

template <typename T>
std::uint64_t natural(const ::dali::OpSpec& spec, const char* name) {
  const auto value = static_cast<std::int64_t>(spec.GetArgument<T>(name));
  if (value < 0) {
    throw Error(ErrorKind::kInvalidArgument, cat(name, " is ", value, ", expected 0 or more"));
  }
  return static_cast<std::uint64_t>(value);
}

// One of two words.
bool is_first(const ::dali::OpSpec& spec, const char* name, const char* first, const char* second) {
  const auto word = spec.GetArgument<std::string>(name);
  if (word != first && word != second) {
    throw Error(ErrorKind::kInvalidArgument,
                cat(name, " is '", word, "', expected '", first, "' or '", second, "'"));
  }
  return word == first;
}

std::shared_ptr<const ShardSet> open_shards(const std::vector<std::string>& paths) {
  std::vector<std::shared_ptr<const ShardReader>> shards;
  shards.reserve(paths.size());
  for (const std::string& path : paths) {
    shards.push_back(std::make_shared<const ShardReader>(open_source(path)));
  }
  return std::make_shared<const ShardSet>(std::move(shards));
}

std::vector<std::uint32_t> channels_of(const ::dali::OpSpec& spec, const Schema& schema) {
  std::vector<std::uint32_t> channels;
  for (const int channel : spec.GetRepeatedArgument<int>("channels")) {
    channels.push_back(static_cast<std::uint32_t>(channel));  // the pipeline checks the range
  }
  if (channels.empty()) {
    for (std::uint32_t channel = 0; channel < schema.channels.size(); ++channel) {
      channels.push_back(channel);
    }
  }
  return channels;
}

DType image_dtype(const ::dali::OpSpec& spec) {
  const auto dtype = spec.GetArgument<::dali::DALIDataType>("dtype");
  if (dtype != ::DALI_FLOAT && dtype != ::DALI_FLOAT16) {
    throw Error(ErrorKind::kInvalidArgument, "dtype has to be FLOAT or FLOAT16");
  }
  return dtype == ::DALI_FLOAT16 ? DType::kFloat16 : DType::kFloat32;
}

PipelineConfig config_of(const ::dali::OpSpec& spec, const Schema& schema) {
  PipelineConfig config;
  config.plan = {.n_samples = 0,
                 .batch_size = natural<int>(spec, "max_batch_size"),
                 .rank = natural<int>(spec, "rank"),
                 .world_size = natural<int>(spec, "world_size"),
                 .shuffle = spec.GetArgument<bool>("shuffle"),
                 .drop_last = spec.GetArgument<bool>("drop_last"),
                 .key = static_cast<std::uint64_t>(spec.GetArgument<std::int64_t>("key"))};
  config.channels = channels_of(spec, schema);
  config.transforms = compile_transforms(
      parse_specs(spec.GetRepeatedArgument<std::string>("transforms")),
      {schema.height, schema.width}, config.channels,
      static_cast<std::uint64_t>(spec.GetArgument<std::int64_t>("transform_key")));
  config.dtype = image_dtype(spec);
  config.channels_last = is_first(spec, "layout", "HWC", "CHW");
  config.writable = spec.GetArgument<bool>("writable");
  config.verify = spec.GetArgument<bool>("verify");
  config.threads = spec.GetArgument<int>("threads");
  config.prefetch = spec.GetArgument<int>("prefetch");
  config.auto_threads = spec.GetArgument<bool>("auto_threads");
  config.auto_prefetch = spec.GetArgument<bool>("auto_prefetch");
  config.memory_limit_bytes = natural<std::int64_t>(spec, "memory_limit");
  return config;
}

Column column_named(const std::string& name, const std::vector<std::string>& paths,
                    const Schema& schema) {
  Column column;
  if (name == "sample_id") {
    return column;
  }
  const auto found = std::find_if(schema.scalars.begin(), schema.scalars.end(),
                                  [&](const ScalarField& field) { return field.name == name; });
  if (found == schema.scalars.end()) {
    throw Error(ErrorKind::kInvalidArgument,
                cat("fields has '", name, "', expected scalar fields of the dataset or sample_id"));
  }
  column.dtype = found->dtype;
  const auto index = static_cast<std::size_t>(found - schema.scalars.begin());
  for (const std::string& path : paths) {
    const Bytes part = ShardReader(open_source(path)).column(index);
    column.values.insert(column.values.end(), part.begin(), part.end());
  }
  return column;
}

::dali::DALIDataType dali_dtype(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return ::DALI_FLOAT;
    case DType::kFloat64:
      return ::DALI_FLOAT64;
    case DType::kInt8:
      return ::DALI_INT8;
    case DType::kInt16:
      return ::DALI_INT16;
    case DType::kInt32:
      return ::DALI_INT32;
    case DType::kInt64:
      return ::DALI_INT64;
    case DType::kUInt8:
      return ::DALI_UINT8;
    case DType::kUInt16:
      return ::DALI_UINT16;
    case DType::kUInt32:
      return ::DALI_UINT32;
    case DType::kUInt64:
      return ::DALI_UINT64;
    case DType::kBool:
      return ::DALI_BOOL;
    case DType::kFloat16:
      return ::DALI_FLOAT16;
    default:
      throw Error(ErrorKind::kUnsupported, cat("DALI has no ", name_of(dtype)));
  }
}

}  // namespace

Reader::Reader(const ::dali::OpSpec& spec) : ::dali::Operator<::dali::CPUBackend>(spec) {
  const auto paths = spec.GetRepeatedArgument<std::string>("paths");
  shards_ = open_shards(paths);
  config_ = config_of(spec, shards_->schema());
  for (const auto& name : spec.GetRepeatedArgument<std::string>("fields")) {
    columns_.push_back(column_named(name, paths, shards_->schema()));
  }
  fill_last_batch_ = spec.GetArgument<bool>("fill_last_batch");
  stops_ = is_first(spec, "cycle", "raise", "quiet");
  scheduled_ = {natural<std::int64_t>(spec, "epoch"), natural<std::int64_t>(spec, "first_batch")};
  feed_ = std::make_unique<BatchFeed>(
      shards_, config_, scheduled_,
      std::chrono::duration<double>(spec.GetArgument<float>("timeout")));
}

std::uint64_t Reader::samples_out(std::uint64_t batch) const noexcept {
  return fill_last_batch_ ? config_.plan.batch_size : feed_->samples_in(batch);
}

int Reader::NextBatchSize() {
  if (scheduled_.batch >= feed_->n_batches()) {
    scheduled_ = begin_after_end(scheduled_, feed_->n_batches());
    if (stops_) {
      throw ::dali::DaliStopIteration(cat("end of epoch ", scheduled_.epoch - 1));
    }
  }
  return static_cast<int>(samples_out(scheduled_.batch));
}

void Reader::Advance() { ++scheduled_.batch; }

bool Reader::SetupImpl(std::vector<::dali::OutputDesc>& /*outputs*/,
                       const ::dali::Workspace& /*ws*/) {
  return false;  // the images bring their memory along
}

void Reader::RunImpl(::dali::Workspace& ws) {
  const std::shared_ptr<Batch> batch = feed_->next();
  const std::vector<std::uint64_t> ids = batch->ids();
  const std::size_t n_out = fill_last_batch_ ? config_.plan.batch_size : ids.size();
  share_images(batch, n_out, ws.Output<::dali::CPUBackend>(0));
  for (std::size_t i = 0; i < columns_.size(); ++i) {
    copy_column(columns_[i], ids, n_out, ws.Output<::dali::CPUBackend>(static_cast<int>(i) + 1));
  }
  auto& images = ws.Output<::dali::CPUBackend>(0);
  for (std::size_t i = 0; i < n_out; ++i) {
    const ShardSet::Place at = shards_->locate(ids[std::min(i, ids.size() - 1)]);
    images.SetSourceInfo(static_cast<int>(i),
                         at.shard->path() + " sample " + std::to_string(at.sample));
  }
}

void Reader::share_images(std::shared_ptr<Batch> batch, std::size_t n_out, Images& images) const {
  const BatchGeometry& geometry = batch->geometry();
  const std::size_t n = batch->ids().size();
  const std::size_t sample_bytes = geometry.sample_bytes();
  std::byte* const data = batch->data();
  for (std::size_t i = n; i < n_out; ++i) {
    std::memcpy(data + i * sample_bytes, data + (n - 1) * sample_bytes, sample_bytes);
  }
  const bool dirty = n < n_out;
  // The slot goes back to the ring when the last tensor over it dies.
  const std::shared_ptr<void> lease(
      data, [batch = std::move(batch), dirty](void* /*data*/) { batch->release(dirty); });
  const std::int64_t c = geometry.n_channels;
  const std::int64_t h = geometry.height;
  const std::int64_t w = geometry.width;
  const auto shape =
      geometry.channels_last ? ::dali::TensorShape<>{h, w, c} : ::dali::TensorShape<>{c, h, w};
  images.Reset();
  images.ShareData(lease, n_out * sample_bytes, false,
                   ::dali::uniform_list_shape(static_cast<int>(n_out), shape),
                   dali_dtype(geometry.dtype), ::dali::CPU_ONLY_DEVICE_ID,
                   ::dali::AccessOrder::host(), geometry.channels_last ? "HWC" : "CHW");
}

void Reader::copy_column(const Column& column, const std::vector<std::uint64_t>& ids,
                         std::size_t n_out, Images& values) const {
  const std::size_t item = size_of(column.dtype);
  values.Resize(::dali::uniform_list_shape(static_cast<int>(n_out), ::dali::TensorShape<>{}),
                dali_dtype(column.dtype), ::dali::BatchContiguity::Contiguous);
  for (std::size_t i = 0; i < n_out; ++i) {
    const std::uint64_t id = ids[std::min(i, ids.size() - 1)];
    const void* const from =
        column.values.empty() ? static_cast<const void*>(&id) : column.values.data() + id * item;
    std::memcpy(values.raw_mutable_tensor(static_cast<int>(i)), from, item);
  }
}

::dali::ReaderMeta Reader::GetReaderMeta() const {
  ::dali::ReaderMeta meta;
  if (stops_ || !fill_last_batch_) {
    return meta;
  }
  // Every rank has the same number of batches, of the same sizes: samples that ranks repeat to
  // make it so count as samples of the epoch.
  const auto world_size = static_cast<::dali::Index>(config_.plan.world_size);
  meta.epoch_size = static_cast<::dali::Index>(feed_->samples_per_epoch()) * world_size;
  meta.epoch_size_padded =
      static_cast<::dali::Index>(feed_->n_batches() * config_.plan.batch_size) * world_size;
  meta.number_of_shards = static_cast<int>(world_size);
  meta.shard_id = static_cast<int>(config_.plan.rank);
  meta.pad_last_batch = 1;
  meta.stick_to_shard = 1;
  return meta;
}

std::string Reader::plan_text() const {
  const PlanConfig& plan = config_.plan;
  return cat("e2eio-reader-1 ", shards_->n_samples(), " ", plan.key, " ", plan.batch_size, " ",
             plan.world_size, " ", plan.rank, " ", plan.shuffle, " ", plan.drop_last);
}

void Reader::SaveState(::dali::OpCheckpoint& checkpoint, ::dali::AccessOrder /*order*/) {
  checkpoint.MutableCheckpointState() = feed_->place();
}

void Reader::RestoreState(const ::dali::OpCheckpoint& checkpoint) {
  const Place place = checkpoint.CheckpointState<Place>();
  feed_->seek(place);
  scheduled_ = place;
}

std::string Reader::SerializeCheckpoint(const ::dali::OpCheckpoint& checkpoint) const {
  const auto& place = checkpoint.CheckpointState<Place>();
  return cat(place.epoch, " ", place.batch, " ", plan_text());
}

void Reader::DeserializeCheckpoint(::dali::OpCheckpoint& checkpoint,
                                   const std::string& text) const {
  std::istringstream words(text);
  Place place;
  std::string plan;
  words >> place.epoch >> place.batch;
  std::getline(words >> std::ws, plan);
  if (words.fail() || plan != plan_text()) {
    throw Error(ErrorKind::kInvalidArgument,
                cat("checkpoint of another plan: found '", plan, "', expected '", plan_text(),
                    "' (samples, key, batch_size, world_size, rank, shuffle, drop_last); build the "
                    "pipeline with the arguments and the dataset that it was saved with"));
  }
  checkpoint.MutableCheckpointState() = place;
}

}  // namespace e2eio::dali_plugin
