// What every kernel set is made of, once lines, runs, gaps and words of the target are defined.
// Included once per target, inside that target's region and an unnamed namespace, after all
// standard headers.

#include "e2eio/kernels/arithmetic.inc.hpp"
#include "e2eio/kernels/logarithms.inc.hpp"
#include "e2eio/kernels/scatter.inc.hpp"
#include "e2eio/kernels/symbols.inc.hpp"
#include "e2eio/kernels/transfer.inc.hpp"

constexpr KernelSet make_kernel_set(std::string_view name) {
  return {.name = name,
          .decode_symbols = decode_symbols,
          .decode_gaps = decode_gaps,
          .place_blocks = place_blocks,
          .merge_float32 = merge_float32,
          .merge_float16 = merge_float16,
          .cast_float16 = cast_float16,
          .cast_bfloat16 = cast_bfloat16,
          .affine = affine,
          .clip = clip,
          .replace_below = replace_below,
          .replace_above = replace_above,
          .replace_small = replace_small,
          .asinh = asinh,
          .log1p = log1p,
          .list_nonzero32 = list_nonzero32,
          .list_nonzero64 = list_nonzero64,
          .scatter32 = scatter32,
          .scatter16 = scatter16,
          .stream_lines = stream_lines,
          .store_lines = store_lines};
}
