// What fn.e2eio.reader takes, and its place among DALI's operators.
#include <string>
#include <vector>

#include "dali/pipeline/operator/op_schema.h"
#include "reader.hpp"

// Names with two underscores are modules in Python: fn.e2eio.reader.
DALI_REGISTER_OPERATOR(e2eio__Reader, ::e2eio::dali_plugin::Reader, ::dali::CPU);

DALI_SCHEMA(e2eio__Reader)
    .DocStr(R"(Reads batches of detector images, decoded by threads of e2eio.

e2eio.dali.reader(loader) fills these arguments from a loader; batches are then what the loader's
are. The first output holds the images, the others the scalars named by `fields`.)")
    .NumInput(0)
    .OutputFn([](const ::dali::OpSpec& spec) {
      return 1 + static_cast<int>(spec.GetRepeatedArgument<std::string>("fields").size());
    })
    .MakeStateful()
    .AddArg("paths", "Shards, in the order of the samples.", ::DALI_STRING_VEC)
    .AddOptionalArg("fields", "Scalar fields to deliver after the images; sample_id is one.",
                    std::vector<std::string>{})
    .AddOptionalArg("channels", "Channels to deliver, in this order; none: all.",
                    std::vector<int>{})
    .AddOptionalTypeArg("dtype", "Of the images: FLOAT or FLOAT16.", ::DALI_FLOAT)
    .AddOptionalArg("layout", "Of the images: CHW or HWC.", "CHW")
    .AddOptionalArg("shuffle", "Another permutation of all samples in each epoch.", false)
    .AddOptionalArg("key", "Of the permutations.", std::int64_t{0})
    .AddOptionalArg("drop_last", "Leave out the last, smaller batch.", false)
    .AddOptionalArg("fill_last_batch",
                    "Repeat the last sample until the last batch is as large as the others.", false)
    .AddOptionalArg("cycle", "raise: StopIteration after each epoch; quiet: goes on with the next.",
                    "raise")
    .AddOptionalArg("rank", "Which of the ranks this one is.", 0)
    .AddOptionalArg("world_size", "Number of ranks.", 1)
    .AddOptionalArg("epoch", "The first epoch.", std::int64_t{0})
    .AddOptionalArg("first_batch", "The first batch of the first epoch.", std::int64_t{0})
    .AddOptionalArg("transforms", "As e2eio.dali.reader writes them.", std::vector<std::string>{})
    .AddOptionalArg("transform_key", "Of the random draws of the transforms.", std::int64_t{0})
    .AddOptionalArg("writable", "Batches may be written into; each costs a full clearing.", false)
    .AddOptionalArg("verify", "Compare each record with its checksum.", true)
    .AddOptionalArg("threads", "Decoding threads, at most.", 1)
    .AddOptionalArg("auto_threads", "As many threads work as are of use.", false)
    .AddOptionalArg("prefetch", "Batches made ahead of need, at most.", 2)
    .AddOptionalArg("auto_prefetch", "As many batches ahead as are of use.", false)
    .AddOptionalArg("memory_limit", "Bytes of batch memory; 0: no limit.", std::int64_t{0})
    .AddOptionalArg("timeout", "Seconds to wait for a batch; 0: for ever.", 0.0F);
