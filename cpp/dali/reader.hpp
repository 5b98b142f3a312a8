// fn.e2eio.reader: the batches of a dataset as an operator of DALI, without Python in the loop.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "batch_feed.hpp"
#include "dali/pipeline/operator/batch_size_provider.h"
#include "dali/pipeline/operator/checkpointing/op_checkpoint.h"
#include "dali/pipeline/operator/operator.h"

namespace e2eio::dali_plugin {

// What follows the images: a scalar field, or the number of the sample.
struct Column {
  DType dtype = DType::kInt64;
  Bytes values;  // of all samples; none for the number of the sample
};

// Outputs: images [C, H, W] or [H, W, C], which are memory of the pipeline's ring until DALI lets
// go of them, then one scalar per sample for each of `fields`.
// Thread rule: DALI's. NextBatchSize() and Advance() run on the thread that schedules, RunImpl()
// and the checkpoints of running pipelines on the executor's; they share no changing members.
class Reader : public ::dali::Operator<::dali::CPUBackend>,
               virtual public ::dali::BatchSizeProvider {
 public:
  explicit Reader(const ::dali::OpSpec& spec);

  // How many samples the next iteration has. Ends epochs, by DaliStopIteration, if cycle="raise".
  int NextBatchSize() override;
  void Advance() override;

  bool SetupImpl(std::vector<::dali::OutputDesc>& outputs, const ::dali::Workspace& ws) override;
  void RunImpl(::dali::Workspace& ws) override;

  // For iterators that are given reader_name: all iterations have to be of one size for them.
  ::dali::ReaderMeta GetReaderMeta() const override;

  void SaveState(::dali::OpCheckpoint& checkpoint, ::dali::AccessOrder order) override;
  void RestoreState(const ::dali::OpCheckpoint& checkpoint) override;
  std::string SerializeCheckpoint(const ::dali::OpCheckpoint& checkpoint) const override;
  void DeserializeCheckpoint(::dali::OpCheckpoint& checkpoint,
                             const std::string& text) const override;

 private:
  [[nodiscard]] std::uint64_t samples_out(std::uint64_t batch) const noexcept;
  [[nodiscard]] std::string plan_text() const;
  void share_images(std::shared_ptr<Batch> batch, std::size_t n_out,
                    ::dali::TensorList<::dali::CPUBackend>& images) const;
  void copy_column(const Column& column, const std::vector<std::uint64_t>& ids, std::size_t n_out,
                   ::dali::TensorList<::dali::CPUBackend>& values) const;

  PipelineConfig config_;
  std::shared_ptr<const ShardSet> shards_;
  std::vector<Column> columns_;
  bool fill_last_batch_;
  bool stops_;  // at the end of each epoch
  std::unique_ptr<BatchFeed> feed_;
  Place scheduled_;  // of the batch that NextBatchSize() is about
};

}  // namespace e2eio::dali_plugin
