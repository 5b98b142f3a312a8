// Transform specs as text: DALI has no arguments of tuples, and its floats are single precision.
#pragma once

#include <string>
#include <vector>

#include "e2eio/transform/transform_spec.hpp"

namespace e2eio::dali_plugin {

// One spec a text, words between spaces (e2eio/dali/operator.py writes them):
//
//   op number p  n_channels (channel a b c cell)...  n_integers integer...
//
// Throws: Error(kInvalidArgument) if a word is missing, too many, or no number.
[[nodiscard]] std::vector<TransformSpec> parse_specs(const std::vector<std::string>& texts);

}  // namespace e2eio::dali_plugin
