#include "spec_text.hpp"

#include <algorithm>
#include <charconv>
#include <string_view>
#include <system_error>

#include "e2eio/base/error.hpp"

namespace e2eio::dali_plugin {
namespace {

// The words of a text, one after the other. Thread rule: none of its own.
class Words {
 public:
  explicit Words(const std::string& text) : text_(text), rest_(text) {}

  std::string_view word() {
    const std::size_t begin = rest_.find_first_not_of(' ');
    if (begin == std::string_view::npos) {
      refuse();
    }
    const std::size_t end = std::min(rest_.find(' ', begin), rest_.size());
    const std::string_view found = rest_.substr(begin, end - begin);
    rest_.remove_prefix(end);
    return found;
  }

  template <typename T>
  T number() {
    const std::string_view digits = word();
    T value{};
    const auto [stop, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (error != std::errc() || stop != digits.data() + digits.size()) {
      refuse();
    }
    return value;
  }

  void end() const {
    if (rest_.find_first_not_of(' ') != std::string_view::npos) {
      refuse();
    }
  }

 private:
  [[noreturn]] void refuse() const {
    throw Error(ErrorKind::kInvalidArgument,
                cat("transform '", text_, "', expected the words that e2eio.dali.reader writes"));
  }

  const std::string& text_;
  std::string_view rest_;
};

TransformSpec parse(const std::string& text) {
  Words words(text);
  TransformSpec spec;
  spec.op = std::string(words.word());
  spec.number = words.number<std::uint64_t>();
  spec.p = words.number<double>();
  for (auto n = words.number<std::uint32_t>(); n > 0; --n) {
    ChannelArguments channel;
    channel.channel = words.number<std::uint32_t>();
    channel.a = words.number<double>();
    channel.b = words.number<double>();
    channel.c = words.number<double>();
    channel.cell = words.number<std::uint32_t>();
    spec.channels.push_back(channel);
  }
  for (auto n = words.number<std::uint32_t>(); n > 0; --n) {
    spec.integers.push_back(words.number<std::int64_t>());
  }
  words.end();
  return spec;
}

}  // namespace

std::vector<TransformSpec> parse_specs(const std::vector<std::string>& texts) {
  std::vector<TransformSpec> specs;
  specs.reserve(texts.size());
  for (const std::string& text : texts) {
    specs.push_back(parse(text));
  }
  return specs;
}

}  // namespace e2eio::dali_plugin
