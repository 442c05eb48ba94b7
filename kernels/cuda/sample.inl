// Sampling of GpuDevice: statistics and candidates on the card, merged on the host.
#include "kernels/cuda/sample_host.h"
#include "kernels/cuda/sample_kernels.h"

namespace shoal::gpu {

template <class Backend>
void GpuDevice<Backend>::sample_local(float* logits, int64_t logits_stride, int64_t vocab,
                                      int64_t first_id, std::span<const SampleRow> rows,
                                      std::span<LocalSample> out) {
  SHOAL_CHECK(rows.size() == out.size(), "one LocalSample per row");
  if (rows.empty()) return;
  const SampleCall call(rows, vocab, first_id);
  auto* base = static_cast<uint8_t*>(scratch(call.bytes()));
  if (broken()) return;
  const std::vector<uint8_t> input = call.input();
  backend_->upload(base, input.data(), input.size());

  const auto look = [&](bool shaped) {
    start<SampleChunks>(
        {.grid = {static_cast<uint32_t>(call.chunks()), static_cast<uint32_t>(call.rows())},
         .block = {SampleChunks::kThreads},
         .shared_bytes = SampleChunks::kSharedBytes},
        {.logits = {logits},
         .stride = logits_stride,
         .vocab = vocab,
         .first_id = first_id,
         .specs = call.specs(base),
         .findings = call.findings(base, shaped),
         .bests = call.bests(base),
         .shaped = shaped});
    start<SelectTop>({.grid = {static_cast<uint32_t>(call.job_count(shaped))},
                      .block = {SelectTop::threads(vocab)},
                      .shared_bytes = SelectTop::kSharedBytes},
                     {.logits = {logits},
                      .stride = logits_stride,
                      .vocab = vocab,
                      .specs = call.specs(base),
                      .jobs = call.jobs(base, shaped),
                      .found = call.found(base),
                      .counts = call.counts(base, shaped),
                      .shaped = shaped});
  };
  look(false);
  constexpr int64_t kThreads = ApplyBiases::kThreads;
  start<ApplyBiases>(
      {.grid = {static_cast<uint32_t>((call.bias_count() + kThreads - 1) / kThreads)},
       .block = {ApplyBiases::kThreads}},
      {.logits = {logits},
       .stride = logits_stride,
       .penalties = call.penalties(base),
       .biases = call.biases(base),
       .count = call.bias_count(),
       .originals = call.originals(base)});
  look(true);

  SampleOutput output = call.output();
  if (!output.empty()) {
    backend_->download(output.data(), base + call.output_at(),
                       output.size() * sizeof(SampleOutputUnit));
  }
  call.read(output, rows, out);
}

}  // namespace shoal::gpu
