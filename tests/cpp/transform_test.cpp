#include "e2eio/transform/transform_program.hpp"

#include <gtest/gtest.h>
namespace e2eio {
namespace {
TEST(TransformTest, Placeholder) { SUCCEED(); }
}  // namespace
}  // namespace e2eio
