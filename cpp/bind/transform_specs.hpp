// Transform specs as they cross from Python: plain tuples.
#pragma once

#include <string>
#include <tuple>
#include <vector>

#include "e2eio/transform/transform_spec.hpp"
#include "pybind.hpp"

namespace e2eio::bind {

// (channel, a, b, c, cell) of ChannelArguments.
using ChannelTuple = std::tuple<std::uint32_t, double, double, double, std::uint32_t>;
// (op, number, p, channels, integers) of TransformSpec.
using SpecTuple = std::tuple<std::string, std::uint64_t, double, std::vector<ChannelTuple>,
                             std::vector<std::int64_t>>;
using SpecTuples = std::vector<SpecTuple>;

inline std::vector<TransformSpec> transform_specs(const SpecTuples& tuples) {
  std::vector<TransformSpec> specs;
  for (const auto& [op, number, p, channels, integers] : tuples) {
    TransformSpec spec{.op = op, .number = number, .p = p, .channels = {}, .integers = integers};
    for (const auto& [channel, a, b, c, cell] : channels) {
      spec.channels.push_back({channel, a, b, c, cell});
    }
    specs.push_back(std::move(spec));
  }
  return specs;
}

}  // namespace e2eio::bind
