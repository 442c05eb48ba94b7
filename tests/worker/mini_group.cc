#include "tests/worker/mini_group.h"

#include <cmath>
#include <cstring>
#include <thread>

#include "base/check.h"
#include "worker/staged_exchange.h"

namespace shoal::testing {

MiniGroup::MiniGroup(const std::string& path, const MiniGroupOptions& options) : options_(options) {
  auto file = GgufFile::open(path);
  SHOAL_CHECK(file.is_ok(), file.status().message());
  auto spec = read_model_spec(*file);
  SHOAL_CHECK(spec.is_ok(), spec.status().message());
  spec_ = *spec;
  const int world = static_cast<int>(options.shares.size());
  auto groups = make_local_collectives(world, 1);
  const int64_t blocks_each =
      (options.max_tokens + options.block_tokens - 1) / options.block_tokens;
  for (int rank = 0; rank < world; ++rank) {
    Member member;
    member.device =
        options.make_device ? options.make_device(rank) : make_cpu_device(options.device).value();
    auto shard = make_rank_shard(spec_, {world, options.shares, options.experts}, rank);
    SHOAL_CHECK(shard.is_ok(), shard.status().message());
    auto model = load_model_shard(*file, spec_, *shard, *member.device,
                                  {.threads = 1, .context = options.max_tokens});
    SHOAL_CHECK(model.is_ok(), model.status().message());
    member.model = std::move(*model);
    const KvShape kv{options.kv,
                     std::vector<int64_t>(spec_.kv_groups.size(), blocks_each * options.sequences),
                     options.block_tokens};
    member.kv = KvStore::create(spec_, *shard, kv, *member.device).value();
    member.transformer =
        Transformer::create(*member.model, *member.device,
                            {.max_rows = options.max_rows, .routing_rank = options.routing_rank})
            .value();
    member.group = std::move(groups[static_cast<size_t>(rank)]);
    members_.push_back(std::move(member));
  }
}

void MiniGroup::run_rank(Member& member, const std::vector<Piece>& pieces,
                         std::vector<std::vector<float>>* out) {
  const int64_t blocks_each =
      (options_.max_tokens + options_.block_tokens - 1) / options_.block_tokens;
  std::vector<int32_t> ids, positions, sequences, samples, tables;
  std::vector<int64_t> slots;
  for (size_t p = 0; p < pieces.size(); ++p) {
    const Piece& piece = pieces[p];
    for (size_t i = 0; i < piece.tokens.size(); ++i) {
      const int64_t position = piece.position + static_cast<int64_t>(i);
      ids.push_back(piece.tokens[i]);
      positions.push_back(static_cast<int32_t>(position));
      sequences.push_back(static_cast<int32_t>(p));
      slots.push_back(piece.sequence * blocks_each * options_.block_tokens + position);
    }
    samples.push_back(static_cast<int32_t>(ids.size()) - 1);
    for (int64_t b = 0; b < blocks_each; ++b) {
      tables.push_back(static_cast<int32_t>(piece.sequence * blocks_each + b));
    }
  }
  Device& device = *member.device;
  // The same memory in every step, as StepRunner has it.
  size_t used = 0;
  const auto upload = [&](const auto& values) {
    const uint64_t bytes = values.size() * sizeof(values[0]);
    if (used == member.step.size()) member.step.emplace_back();
    std::unique_ptr<Buffer>& buffer = member.step[used++];
    if (!buffer || buffer->bytes() < bytes) buffer = device.allocate(bytes, "step").value();
    device.copy_to_device(buffer->data(), values.data(), bytes);
    return buffer->data();
  };
  StepView view;
  view.rows = static_cast<int64_t>(ids.size());
  view.positions = static_cast<int32_t*>(upload(positions));
  view.kv_slots = static_cast<int64_t*>(upload(slots));
  view.sequences = static_cast<int32_t*>(upload(sequences));
  view.block_tables = static_cast<int32_t*>(upload(tables));
  view.table_stride = blocks_each;
  ForwardInput input;
  input.steps.assign(spec_.kv_groups.size(), view);
  input.ids = static_cast<int32_t*>(upload(ids));
  input.sample_rows = static_cast<int32_t*>(upload(samples));
  input.sample_count = static_cast<int64_t>(samples.size());
  const OpContext op{1, std::chrono::steady_clock::now() + std::chrono::minutes(2)};
  StagedExchange exchange(device, *member.group);
  exchange.begin_step({op.epoch, op.step, op.deadline});
  member.transformer->forward(input, *member.kv, exchange);
  const Status status = exchange.end_step();
  SHOAL_CHECK(status.is_ok(), status.message());
  const Range vocab = member.model->shard.vocab;
  for (int64_t first = 0; first < input.sample_count; first += Transformer::kLogitRows) {
    const int64_t count = std::min(Transformer::kLogitRows, input.sample_count - first);
    const float* logits = member.transformer->logits(first, count);
    const Status finished = device.synchronize(op.deadline);
    SHOAL_CHECK(finished.is_ok(), finished.message());
    for (int64_t r = 0; r < count; ++r) {
      device.copy_to_host((*out)[static_cast<size_t>(first + r)].data() + vocab.begin,
                          logits + r * member.transformer->logits_stride(),
                          static_cast<uint64_t>(vocab.size()) * sizeof(float));
    }
  }
  member.transformer->account();
}

std::vector<std::vector<float>> MiniGroup::step(const std::vector<Piece>& pieces) {
  std::vector<std::vector<float>> logits(pieces.size(),
                                         std::vector<float>(static_cast<size_t>(spec_.vocab)));
  std::vector<std::thread> threads;
  for (Member& member : members_) {
    threads.emplace_back([&] { run_rank(member, pieces, &logits); });
  }
  for (std::thread& thread : threads) thread.join();
  return logits;
}

std::vector<float> MiniGroup::prefill(int sequence, const std::vector<int32_t>& tokens,
                                      int64_t chunk) {
  std::vector<float> last;
  for (size_t at = 0; at < tokens.size(); at += static_cast<size_t>(chunk)) {
    const size_t n = std::min(static_cast<size_t>(chunk), tokens.size() - at);
    Piece piece{sequence,
                static_cast<int64_t>(at),
                {tokens.begin() + static_cast<std::ptrdiff_t>(at),
                 tokens.begin() + static_cast<std::ptrdiff_t>(at + n)}};
    last = step({piece})[0];
  }
  return last;
}

float max_difference(const std::vector<float>& a, const std::vector<float>& b) {
  SHOAL_CHECK(a.size() == b.size(), "vectors of different length");
  float worst = 0;
  for (size_t i = 0; i < a.size(); ++i) worst = std::max(worst, std::abs(a[i] - b[i]));
  return worst;
}

bool bit_equal(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

}  // namespace shoal::testing
