// Ops that are recorded once and started again: same results as one by one, whatever happened in
// between.
#include <gtest/gtest.h>

#include "tests/simt/gpu_support.h"

namespace shoal::testing {
namespace {

constexpr int64_t kCount = 300;
constexpr float kCap = 2;

class RecorderTest : public ::testing::Test {
 protected:
  // x[i] = cap · tanh(x[i] / cap) on fresh values, by way of the recorder.
  void run(OpRecorder& recorder, const OpKey& key) {
    std::vector<float> values(kCount);
    Rng rng(++round_);
    for (float& v : values) v = static_cast<float>(rng.uniform()) * 8 - 4;
    device_->copy_to_device(x_->data(), values.data(), kCount * sizeof(float));
    int calls = 0;
    recorder.run(key, [&] {
      device_->soft_cap(x_->f32(), kCount, kCap);
      ++calls;
    });
    expect_clean(*device_);
    called_ += calls;
    std::vector<float> capped(kCount);
    device_->copy_to_host(capped.data(), x_->data(), kCount * sizeof(float));
    for (size_t i = 0; i < values.size(); ++i) {
      ASSERT_NEAR(capped[i], kCap * std::tanh(values[i] / kCap), 1e-5) << i;
    }
  }

  // Makes the device take more memory for its ops than it has.
  void grow_scratch() {
    vocab_ *= 4;
    auto logits = device_->allocate(static_cast<uint64_t>(vocab_) * sizeof(float), "logits");
    const SampleRow row{.top_logprobs = 5};
    LocalSample sample;
    device_->sample_local((*logits)->f32(), vocab_, vocab_, 0, {&row, 1}, {&sample, 1});
    expect_clean(*device_);
  }

  std::unique_ptr<Device> device_ = make_emulated_device(test_seed(5));
  std::unique_ptr<Buffer> x_ = device_->allocate(kCount * sizeof(float), "x").value();
  uint64_t round_ = 0;
  int called_ = 0;
  int64_t vocab_ = 1000;
};

TEST_F(RecorderTest, RunsRecordsAndRepeats) {
  const auto recorder = device_->make_recorder();
  for (int i = 0; i < 5; ++i) run(*recorder, {0, 1, 0, 0});
  EXPECT_EQ(called_, 2);  // as it is, and to record it
  EXPECT_EQ(graphs_started(*device_), on_card() ? 0u : 4u);
  run(*recorder, {0, 2, 0, 0});
  EXPECT_EQ(called_, 3) << "another key is another recording";
  EXPECT_EQ(graphs_started(*device_), on_card() ? 0u : 4u);
}

TEST_F(RecorderTest, MemoryThatMovedIsRecordedAnew) {
  const auto recorder = device_->make_recorder();
  for (int i = 0; i < 3; ++i) run(*recorder, {0, 1, 0, 0});
  EXPECT_EQ(called_, 2);
  grow_scratch();
  grow_scratch();
  for (int i = 0; i < 3; ++i) run(*recorder, {0, 1, 0, 0});
  EXPECT_EQ(called_, 4);
}

TEST_F(RecorderTest, KeepsABoundedNumber) {
  const auto recorder = device_->make_recorder();
  const auto used = [&](int64_t key) {
    const int before = called_;
    run(*recorder, {key, 0, 0, 0});
    return called_ - before;
  };
  for (int64_t key = 0; key < 70; ++key) {
    used(key);
    used(0);  // never the oldest
  }
  EXPECT_EQ(used(0), 0);
  EXPECT_EQ(used(1), 1) << "the oldest is forgotten: this is a first run";
  EXPECT_EQ(used(1), 1);
  EXPECT_EQ(used(1), 0);
}

}  // namespace
}  // namespace shoal::testing
