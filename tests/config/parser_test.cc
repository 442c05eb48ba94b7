#include "config/parser.h"

#include <cstdlib>
#include <fstream>
#include <set>

#include <gtest/gtest.h>

#include "config/schema.h"
#include "tests/support/support.h"

namespace shoal::config {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

Config parsed(const std::string& text) {
  const auto settings = parse(text, "c.yaml");
  EXPECT_TRUE(settings.is_ok()) << settings.status().to_string();
  return settings ? settings->config : Config{};
}

TEST(Parser, EmptyDocumentsAreDefaults) {
  for (const char* text : {"", "\n", "# nothing\n", "---\n", "{}", "kv:\n", "kv: ~\nworkers:\n"}) {
    EXPECT_EQ(parsed(text), Config{}) << text;
  }
}

TEST(Parser, ValuesArriveWhereTheyBelong) {
  const Config c = parsed(R"(
model: {path: /m.gguf, name: "größe"}
coordinator:
  listen: '[::]:80'
  control: 10.0.0.1:7
  keys: /keys
  api_keys: /api
  allow_unauthenticated: true
  limits: {max_body: 2 MiB, max_header: 8192, queue_tokens: 4294967296, write_timeout: 1.5s}
parallel: {tensor: 2, shares: [1, 2.5], engine: gloo, int8_activations: false, experts: placed,
           placement: where.yaml}
kv: {type: f32, context: 4096, blocks: auto, block_tokens: 16}
scheduler: {max_batch_rows: 8192}
security: {allow_open_key_files: true}
metrics: {enabled: false, vllm_names: true}
timeouts: {heartbeat: 100ms, worker_lost: 2s, drain: 0}
workers:
  - name: a
  - {name: b.1, host: h2, device: "cuda:3", threads: 8, cores: "0-2,7", role: experts, share: 0.5,
     public_key: "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf8"}
)");
  EXPECT_EQ(c.model.path, "/m.gguf");
  EXPECT_EQ(c.model.name, "größe");
  EXPECT_EQ(c.coordinator.listen, (HostPort{"::", 80}));
  EXPECT_EQ(c.coordinator.control, (HostPort{"10.0.0.1", 7}));
  EXPECT_EQ(c.coordinator.keys, "/keys");
  EXPECT_EQ(c.coordinator.api_keys, "/api");
  EXPECT_TRUE(c.coordinator.allow_unauthenticated);
  EXPECT_EQ(c.coordinator.limits.max_body_bytes, 2u << 20);
  EXPECT_EQ(c.coordinator.limits.max_header_bytes, 8192u);
  EXPECT_EQ(c.coordinator.limits.queue_tokens, 1ull << 32);
  EXPECT_EQ(c.coordinator.limits.write_timeout, milliseconds(1500));
  EXPECT_EQ(c.parallel.tensor, 2u);
  EXPECT_EQ(c.parallel.shares, (std::vector<double>{1, 2.5}));
  EXPECT_EQ(c.parallel.experts, Experts::kPlaced);
  EXPECT_EQ(c.parallel.placement, "where.yaml");
  EXPECT_EQ(c.parallel.engine, Engine::kGloo);
  EXPECT_FALSE(c.parallel.int8_activations);
  EXPECT_EQ(c.kv.type, KvType::kF32);
  EXPECT_EQ(c.kv.context, 4096u);
  EXPECT_EQ(c.kv.blocks, 0u);
  EXPECT_EQ(c.kv.block_tokens, 16u);
  EXPECT_EQ(c.scheduler.max_batch_rows, 8192u);
  EXPECT_TRUE(c.security.allow_open_key_files);
  EXPECT_FALSE(c.metrics.enabled);
  EXPECT_TRUE(c.metrics.vllm_names);
  EXPECT_EQ(c.timeouts.heartbeat, milliseconds(100));
  EXPECT_EQ(c.timeouts.worker_lost, seconds(2));
  EXPECT_EQ(c.timeouts.drain, Duration::zero());
  ASSERT_EQ(c.workers.size(), 2u);
  EXPECT_EQ(c.workers[0], (Worker{.name = "a"}));
  EXPECT_EQ(c.workers[1].device, "cuda:3");
  EXPECT_EQ(c.workers[1].cores, (std::vector<uint32_t>{0, 1, 2, 7}));
  EXPECT_EQ(c.workers[0].role, WorkerRole::kFull);
  EXPECT_EQ(c.workers[1].role, WorkerRole::kExperts);
  EXPECT_EQ(c.workers[1].share, 0.5);
  EXPECT_EQ(c.workers[1].public_key.size(), 40u);
}

TEST(Parser, ZeroIsAutoWhereAutoExists) {
  EXPECT_EQ(parsed("kv: {context: 0, blocks: auto}\nparallel: {tensor: 0}"), Config{});
}

TEST(Parser, AliasesWorkWithinBounds) {
  const Config c = parsed("coordinator: {limits: {header_timeout: &t 5s, body_timeout: *t}}");
  EXPECT_EQ(c.coordinator.limits.body_timeout, seconds(5));
}

TEST(Parser, DefaultsAreInRange) {
  for (const auto& field : config_fields()) {
    const Config defaults;
    Config again;
    const std::string text = field.get(defaults);
    EXPECT_TRUE(field.set(again, text).is_ok()) << field.key << " = " << text;
    EXPECT_EQ(again, defaults) << field.key;
  }
  for (const auto& field : worker_fields()) {
    if (field.key == "name") continue;  // has no default
    Worker again;
    EXPECT_TRUE(field.set(again, field.get(Worker{})).is_ok()) << field.key;
    EXPECT_EQ(again, Worker{}) << field.key;
  }
}

TEST(Parser, OverridesAreValidatedLikeTheFile) {
  Settings settings = parse("kv: {type: f32}", "c.yaml").value();
  ASSERT_TRUE(apply_overrides({{"kv.type", "f16", "SHOAL_KV_TYPE"},
                               {"parallel.shares", "1,2", "--shares"},
                               {"coordinator.limits.max_body", "1 MiB", "--max-body"}},
                              &settings));
  EXPECT_EQ(settings.config.kv.type, KvType::kF16);
  EXPECT_EQ(settings.config.parallel.shares, (std::vector<double>{1, 2}));
  EXPECT_EQ(settings.config.coordinator.limits.max_body_bytes, 1u << 20);
  EXPECT_EQ(settings.origins.at("kv.type"), "SHOAL_KV_TYPE");
  EXPECT_EQ(apply_overrides({{"kv.type", "f61", "SHOAL_KV_TYPE"}}, &settings).message(),
            "SHOAL_KV_TYPE: kv.type: 'f61' is not one of f16, f32");
  EXPECT_EQ(apply_overrides({{"kv.typ", "f16", "--kv-typ"}}, &settings).message(),
            "--kv-typ: unknown key 'kv.typ'; did you mean 'kv.type'?");
  EXPECT_EQ(apply_overrides({{"workers", "x", "--workers"}}, &settings).message(),
            "--workers: unknown key 'workers'");
  EXPECT_EQ(settings.config.kv.type, KvType::kF16) << "a bad override changes nothing";
}

TEST(Parser, EnvironmentNamesEveryKeyOnce) {
  std::set<std::string> names;
  for (const KeyDoc& doc : key_docs()) {
    if (doc.variable.empty()) continue;
    EXPECT_TRUE(names.insert(doc.variable).second) << doc.variable;
    EXPECT_FALSE(doc.doc.empty()) << doc.key;
    EXPECT_FALSE(doc.expected.empty()) << doc.key;
    const auto found = environment_overrides({{doc.variable, "x"}});
    ASSERT_TRUE(found.is_ok());
    ASSERT_EQ(found->size(), 1u);
    EXPECT_EQ((*found)[0].key, doc.key);
  }
  EXPECT_GT(names.size(), 40u);
}

TEST(Parser, EnvironmentSlipsAreErrors) {
  // Of Services named shoal-coordinator, shoal-kv-metrics and shoal-model.
  const auto kubernetes =
      environment_overrides({{"SHOAL_COORDINATOR_SERVICE_HOST", "10.0.0.7"},
                             {"SHOAL_COORDINATOR_SERVICE_PORT", "8080"},
                             {"SHOAL_COORDINATOR_SERVICE_PORT_HTTP", "8080"},
                             {"SHOAL_COORDINATOR_PORT", "tcp://10.0.0.7:8080"},
                             {"SHOAL_COORDINATOR_PORT_8080_TCP", "tcp://10.0.0.7:8080"},
                             {"SHOAL_COORDINATOR_PORT_8080_TCP_PROTO", "tcp"},
                             {"SHOAL_COORDINATOR_PORT_8080_TCP_PORT", "8080"},
                             {"SHOAL_COORDINATOR_PORT_8080_TCP_ADDR", "10.0.0.7"},
                             {"SHOAL_KV_METRICS_PORT", "udp://10.0.0.8:53"},
                             {"SHOAL_KV_METRICS_PORT_53_UDP_ADDR", "10.0.0.8"},
                             {"SHOAL_MODEL_PORT", "sctp://[fd00::1]:9"}});
  ASSERT_TRUE(kubernetes.is_ok()) << kubernetes.status().message();
  EXPECT_TRUE(kubernetes->empty());
  for (const char* name : {"SHOAL_KV_PORT", "SHOAL_KV_PORT_TCP", "SHOAL_KV_PORT_80_TCP_X",
                           "SHOAL_KV_SERVICE", "SHOAL_KV_PORT_80"}) {
    EXPECT_FALSE(environment_overrides({{name, "1"}}).is_ok()) << name;
  }
  EXPECT_EQ(environment_overrides({{"SHOAL_KV_TYP", "f16"}}).status().message(),
            "SHOAL_KV_TYP: unknown variable; did you mean SHOAL_KV_TYPE?");
  EXPECT_EQ(environment_overrides({{"SHOAL_KVV_TYPE", "f16"}}).status().message(),
            "SHOAL_KVV_TYPE: unknown variable; did you mean SHOAL_KV_TYPE?");
  EXPECT_EQ(environment_overrides({{"SHOAL_LOG_LEVLE", "warn"}}).status().message(),
            "SHOAL_LOG_LEVLE: unknown variable; did you mean SHOAL_LOG_LEVEL?");
  EXPECT_TRUE(
      environment_overrides({{"SHOAL_LOG_LEVEL", "warn"}, {"SHOAL_API_KEY", "k"}})->empty());
  EXPECT_EQ(environment_overrides({{"SHOAL_SCHEDULER_FOO", "1"}}).status().message(),
            "SHOAL_SCHEDULER_FOO: no key of the configuration has this name");
  const auto other =
      environment_overrides({{"SHOAL_TEST_SEED", "1"}, {"SHOAL_SHARED", "/x"}, {"PATH", "/bin"}});
  ASSERT_TRUE(other.is_ok());
  EXPECT_TRUE(other->empty());
}

TEST(Parser, FlagBeatsEnvironmentBeatsFileBeatsDefault) {
  testing::TempDir dir;
  const std::string path = dir.path() + "/c.yaml";
  std::ofstream(path) << "model: {path: /m}\nkv: {context: 1, blocks: 1000}\n"
                         "scheduler: {max_sequences: 1}\n";
  const std::map<std::string, std::string> environment{{"SHOAL_KV_CONTEXT", "2"},
                                                       {"SHOAL_SCHEDULER_MAX_SEQUENCES", "2"}};
  const auto config =
      load(path, environment, {{"scheduler.max_sequences", "3", "--max-sequences"}});
  ASSERT_TRUE(config.is_ok()) << config.status().to_string();
  EXPECT_EQ(config->scheduler.max_sequences, 3u);
  EXPECT_EQ(config->kv.context, 2u);
  EXPECT_EQ(config->kv.blocks, 1000u);
  EXPECT_EQ(config->kv.block_tokens, Kv{}.block_tokens);
  EXPECT_EQ(load(path, {{"SHOAL_KV_CONTEXT", "-2"}}, {}).status().message(),
            "SHOAL_KV_CONTEXT: kv.context: '-2' is not a whole number");
  EXPECT_FALSE(load(dir.path() + "/none.yaml", {}, {}).is_ok());
  EXPECT_EQ(load("", {}, {}).status().message(),
            "model.path: is required: on the command line (shoal serve MODEL), in the file or as "
            "SHOAL_MODEL_PATH");
  EXPECT_TRUE(load("", {{"SHOAL_MODEL_PATH", "/m"}}, {}).is_ok());
  ::setenv("SHOAL_KV_TYPE", "f32", 1);
  EXPECT_EQ(process_environment().at("SHOAL_KV_TYPE"), "f32");
  EXPECT_EQ(load(path, {{"kv.context", "7"}})->kv.context, 7u);
  EXPECT_EQ(load(path, {{"kv.context", "7"}})->kv.type, KvType::kF32);
  EXPECT_EQ(load(path, {{"kv.type", "f61"}}).status().message(),
            "command line: kv.type: 'f61' is not one of f16, f32");
  ::unsetenv("SHOAL_KV_TYPE");
}

TEST(Parser, BillionLaughsCostNothing) {
  std::string text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 15; ++i) {
    text += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [";
    for (int j = 0; j < 10; ++j) text += "*a" + std::to_string(i - 1) + (j < 9 ? ", " : "]\n");
  }
  const auto start = std::chrono::steady_clock::now();
  const auto settings = parse(text, "c.yaml");
  ASSERT_FALSE(settings.is_ok());
  EXPECT_NE(settings.status().message().find("more than 20000 values"), std::string::npos)
      << settings.status().message();
  EXPECT_LT(std::chrono::steady_clock::now() - start, seconds(5));
}

TEST(Parser, HugeAndDeepDocumentsAreRefused) {
  EXPECT_FALSE(parse(std::string((1 << 20) + 1, ' '), "c.yaml").is_ok());
  EXPECT_TRUE(parse(std::string(1 << 20, ' '), "c.yaml").is_ok());
  for (const std::string& text :
       {std::string(100000, '['), std::string(100000, '{'), std::string(100000, '-') + " x",
        "kv: " + std::string(17, '[') + std::string(17, ']')}) {
    EXPECT_FALSE(parse(text, "c.yaml").is_ok());
  }
  std::string lines, keys;
  for (int i = 0; i < 60000; ++i) lines += "- - - - x\n";
  EXPECT_FALSE(parse("kv:\n" + lines, "c.yaml").is_ok());
  for (int i = 0; i < 60000; ++i) keys += "k" + std::to_string(i) + ": 1\n";
  EXPECT_EQ(parse(keys, "c.yaml").status().message(),
            "c.yaml:257:1: more than 256 keys in one place");
}

}  // namespace
}  // namespace shoal::config
