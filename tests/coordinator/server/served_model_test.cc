#include "coordinator/server/served_model.h"

#include <gtest/gtest.h>

#include "config/values.h"
#include "coordinator/server/model_name.h"

namespace shoal {
namespace {

ModelSpec spec_of(int64_t trained, int64_t original = 0, float scale = 1) {
  ModelSpec spec;
  spec.context_length = trained;
  spec.layer.resize(2);
  spec.layer[1].attention.rope.original_context = original;  // layer 0: without rope
  spec.layer[1].attention.rope.frequency_scale = scale;
  return spec;
}

TEST(ContextWarning, AboveTheTrainedOne) {
  const ModelSpec spec = spec_of(2048);
  EXPECT_EQ(context_warning(spec, 1), "");
  EXPECT_EQ(context_warning(spec, 2048), "");
  const std::string warning = context_warning(spec, 2049);
  EXPECT_NE(warning.find("2049"), std::string::npos) << warning;
  EXPECT_NE(warning.find("2048"), std::string::npos) << warning;
  EXPECT_EQ(warning.find("rope"), std::string::npos) << warning;
}

TEST(ContextWarning, RopeScalingOfTheFileCounts) {
  // Whether context_length is the trained or the stretched one: files differ.
  for (const int64_t written : {4096, 16384}) {
    const ModelSpec spec = spec_of(written, 4096, 0.25f);
    EXPECT_EQ(context_warning(spec, 16384), "");
    const std::string warning = context_warning(spec, 16385);
    EXPECT_NE(warning.find("stretches 4096 to 16384"), std::string::npos) << warning;
  }
}

TEST(AutomaticContext, IsTheModelsUpToALimit) {
  EXPECT_EQ(automatic_context(spec_of(2048)), 2048);
  EXPECT_EQ(automatic_context(spec_of(131072)), 8192);
}

TEST(ModelName, IsRepaired) {
  const struct {
    std::string name, usable;
  } kCases[] = {{"Tiny 1B", "Tiny 1B"},
                {"  a \t\r\n b\x7f ", "a b"},
                {"a\xff"
                 "b",
                 "a\xef\xbf\xbd"
                 "b"},
                {std::string("a\0b", 3), "a b"},
                {"", "stem"},
                {" \n", "stem"},
                {std::string(257, 'x'), std::string(256, 'x')},
                {std::string(255, 'x') + "\xc3\xa4", std::string(255, 'x')},
                {std::string(255, 'x') + " y", std::string(255, 'x')}};
  for (const auto& c : kCases) {
    const std::string usable = usable_model_name(c.name, "stem");
    EXPECT_EQ(usable, c.usable);
    EXPECT_TRUE(config::check_model_name(usable).is_ok()) << usable;
  }
  EXPECT_EQ(usable_model_name("", "\x01"), "model");
  EXPECT_EQ(usable_model_name(std::string(10 << 20, '\xff'), ""),
            usable_model_name(std::string(300, '\xff'), ""));
}

}  // namespace
}  // namespace shoal
