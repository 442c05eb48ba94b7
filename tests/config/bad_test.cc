// Every way to get a configuration wrong, with the exact message: place, key, what was expected.
#include <gtest/gtest.h>

#include "config/parser.h"

namespace shoal::config {
namespace {

struct Case {
  const char* text;
  const char* expected;  // after "c.yaml:"
};

// Refused while reading.
const Case kBad[] = {
    // Shape of the document
    {"kv: [", "1:5: the list that begins here does not end"},
    {"kv: {type: f16", "1:5: the map that begins here does not end"},
    {"kv:\n\ttype: f16", "2:1: a tab in the indentation"},
    {"kv:\n  type: f16\n type: f32", "3:2: "},
    {"- a", "1:1: configuration: expected a map of keys, got a list"},
    {"hello", "1:1: configuration: expected a map of keys, got 'hello'"},
    {"kv: {}\n---\nkv: {}", "2:1: a second document"},
    {"kv: {}\n...\n---\n", "3:1: a second document"},
    {"kv: *nobody", "1:5: the referenced anchor is not defined"},
    {"kv: &a [*a]", "1:9: an alias inside the value it stands for"},
    {"kv: !!python/object {}", "1:5: tags (tag:yaml.org,2002:python/object) are not supported"},
    {"? [a]\n: b", "1:3: a key must be a plain word"},
    {"kv: \x01", "1:5: control character 0x01"},
    {"model: {path: \"\\0\"}", "1:15: model.path: contains a control character"},
    // Keys
    {"kvv: {}", "1:1: configuration: unknown key 'kvv'; did you mean 'kv'?"},
    {"kv:\n  tpye: f16", "2:3: kv: unknown key 'tpye'; did you mean 'type'?"},
    {"kv: {precision: f16}",
     "1:6: kv: unknown key 'precision'; known here: type, context, blocks, block_tokens, "
     "prefix_cache"},
    {"coordinator:\n  limits:\n    max_boddy: 1 MiB",
     "3:5: coordinator.limits: unknown key 'max_boddy'; did you mean 'max_body'?"},
    {"<<: {}", "1:1: configuration: unknown key '<<'"},
    {"kv: {}\nmodel: {}\nkv: {}", "3:1: duplicate key 'kv'; the first is in line 1"},
    {"kv:\n  type: f16\n  type: f16", "3:3: duplicate key 'type'; the first is in line 2"},
    {"workers:\n  - {name: a, share: 1, share: 2}", "2:25: duplicate key 'share'"},
    // Kinds of values
    {"kv: f16", "1:5: kv: expected a map of keys, got 'f16'"},
    {"kv:\n  type:\n  blocks: 1", "2:3: kv.type: has no value; expected f16, f32"},
    {"kv: {type: [f16]}", "1:12: kv.type: expected f16, f32, got a list"},
    {"model: {path: {a: b}}", "1:15: model.path: expected text, got a map"},
    {"workers: 3", "1:10: workers: expected a list, got '3'"},
    {"workers: [a]", "1:11: workers[0]: expected a map of keys, got 'a'"},
    // Values
    {"#\n#\nkv:\n    type: 'f61'", "4:11: kv.type: 'f61' is not one of f16, f32"},
    {"kv: {type: F16}", "1:12: kv.type: 'F16' is not one of f16, f32"},
    {"kv: {context: -1}", "1:15: kv.context: '-1' is not a whole number"},
    {"kv: {context: 4194305}", "1:15: kv.context: 4194305 is not in 1 … 4194304"},
    {"kv: {context: 1.5}", "1:15: kv.context: '1.5' is not a whole number"},
    {"kv: {context: 0x10}", "1:15: kv.context: '0x10' is not a whole number"},
    {"kv: {context: 1e3}", "1:15: kv.context: '1e3' is not a whole number"},
    {"kv: {context: 99999999999999999999}",
     "1:15: kv.context: '99999999999999999999' is too large"},
    {"kv: {block_tokens: 12}", "1:20: kv.block_tokens: 12 is not a multiple of 8"},
    {"kv: {block_tokens: auto}", "1:20: kv.block_tokens: 'auto' is not a whole number"},
    {"parallel: {tensor: 65}", "1:20: parallel.tensor: 65 is not in 1 … 64"},
    {"parallel: {engine: nccl}", "1:20: parallel.engine: 'nccl' is not one of auto, shm, gloo"},
    {"parallel: {shares: [1, .nan]}", "1:24: parallel.shares: '.nan' is not a number"},
    {"parallel: {shares: [1, nan]}", "1:24: parallel.shares: 'nan' is not finite"},
    {"parallel: {shares: [1, .inf]}", "1:24: parallel.shares: '.inf' is not a number"},
    {"parallel: {shares: [0]}", "1:21: parallel.shares: 0 is not above 0"},
    {"parallel: {shares: [[1]]}", "1:21: parallel.shares: expected a list of numbers above 0, at most 64, got a list"},
    {"parallel: {int8_activations: yes}",
     "1:30: parallel.int8_activations: 'yes' is not true or false"},
    {"metrics: {enabled: 1}", "1:20: metrics.enabled: '1' is not true or false"},
    {"coordinator: {listen: 8080}", "1:23: coordinator.listen: '8080' is not an address such as"},
    {"coordinator: {listen: 'a:70000'}", "1:23: coordinator.listen: 'a:70000' is not an address"},
    {"coordinator: {listen: '127.1:80'}",
     "1:23: coordinator.listen: not a host: '127.1' is no IPv4"},
    {"coordinator: {control: 'tcp://a:7070'}",
     "1:24: coordinator.control: 'tcp://a:7070' is not an address such as"},
    {"workers: [{name: a, host: 'http://a'}]",
     "1:27: workers[0].host: not a host: 'http://a' is a URL"},
    {"coordinator: {limits: {max_body: 16 mb}}",
     "1:34: coordinator.limits.max_body: '16 mb' is not a size such as"},
    {"coordinator: {limits: {max_body: -1 MiB}}",
     "1:34: coordinator.limits.max_body: '-1 MiB' is not a size such as"},
    {"coordinator: {limits: {max_body: 2 GiB}}",
     "1:34: coordinator.limits.max_body: '2 GiB' is not in 1 KiB … 1 GiB"},
    {"coordinator: {limits: {max_body: 99999999999 GiB}}",
     "1:34: coordinator.limits.max_body: '99999999999 GiB' is too large"},
    {"timeouts: {step: 20}", "1:18: timeouts.step: '20' is not a duration such as"},
    {"timeouts: {step: -1s}", "1:18: timeouts.step: '-1s' is not a duration such as"},
    {"timeouts: {step: 1ms}", "1:18: timeouts.step: '1ms' is not in 100ms … 1h"},
    {"scheduler: {steps_in_flight: 0}", "1:30: scheduler.steps_in_flight: 0 is not in 1 … 4"},
    // Workers
    {"workers:\n  - share: 1", "2:5: workers[0]: needs a name"},
    {"workers:\n  - name: a\n  - name: a b", "3:11: workers[1].name: 'a b' is no worker name"},
    {"workers: [{name: coordinator}]", "1:18: workers[0].name: 'coordinator' is no worker name"},
    {"workers: [{name: a, device: gpu}]",
     "1:29: workers[0].device: 'gpu' is not cpu, cuda:N or auto:N"},
    {"workers: [{name: a, device: 'cuda:x'}]", "1:29: workers[0].device: 'cuda:x' is not cpu"},
    {"workers: [{name: a, cores: 3-1}]", "1:28: workers[0].cores: '3-1' is not a list of cores"},
    {"workers: [{name: a, share: -1}]", "1:28: workers[0].share: -1 is not above 0"},
    {"workers: [{name: a, role: gpu}]", "1:27: workers[0].role: 'gpu' is not one of full, experts"},
    {"parallel: {experts: both}",
     "1:21: parallel.experts: 'both' is not one of auto, sliced, placed"},
    {"workers: [{name: a, threads: 9999}]", "1:30: workers[0].threads: 9999 is not in 1 … 1024"},
    {"workers: [{name: a, public_key: short}]",
     "1:33: workers[0].public_key: is not a CURVE public"},
    {"workers: [{name: a, devise: cpu}]",
     "1:21: workers[0]: unknown key 'devise'; did you mean 'device'?"},
};

TEST(BadConfig, IsRefusedWithPlaceAndKey) {
  EXPECT_GE(std::size(kBad), 35u);
  for (const Case& c : kBad) {
    const auto settings = parse(c.text, "c.yaml");
    ASSERT_FALSE(settings.is_ok()) << c.text;
    const std::string expected = std::string("c.yaml:") + c.expected;
    EXPECT_EQ(settings.status().message().substr(0, expected.size()), expected) << c.text;
    EXPECT_EQ(settings.status().code(), Code::kInvalidArgument) << c.text;
  }
  EXPECT_EQ(parse("model: {path: \xff}", "c.yaml").status().message(), "c.yaml: not valid UTF-8");
}

// Each key alone is fine; together they are not.
const Case kInconsistent[] = {
    {"coordinator: {listen: '0.0.0.0:80'}", "1:23: coordinator.listen: 0.0.0.0 is not loopback"},
    {"coordinator: {listen: '[::]:80'}", "1:23: coordinator.listen: :: is not loopback"},
    {"coordinator: {control: '[fd00::7]:80'}",
     "1:24: coordinator.control: fd00::7 is not loopback"},
    {"coordinator: {control: '10.0.0.1:80'}",
     "1:24: coordinator.control: 10.0.0.1 is not loopback: set coordinator.keys"},
    {"coordinator: {listen: '127.0.0.1:7070'}", "coordinator.control: the same address"},
    {"metrics: {require_key: true}", "1:24: metrics.require_key: needs coordinator.api_keys"},
    {"workers: [{name: a}, {name: b}, {name: a}]",
     "1:40: workers[2].name: 'a' is workers[0]'s name already"},
    {"workers: [{name: a, device: 'cuda:0'}, {name: b, device: 'cuda:0'}]",
     "1:58: workers[1].device: workers[0] has cuda:0 already"},
    {"workers:\n- {name: a, public_key: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa}\n"
     "- {name: b, public_key: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa}",
     "3:25: workers[1].public_key: the same key as workers[0]'s"},
    {"workers: [{name: a, host: other}]",
     "1:27: workers[0].host: cannot reach coordinator.control, which listens on 127.0.0.1 only"},
    {"parallel: {tensor: 3}\nworkers: [{name: a}]",
     "1:20: parallel.tensor: 3 ranks, but only 1 workers"},
    {"parallel: {tensor: 2}\nworkers: [{name: a}, {name: b, role: experts}]",
     "1:20: parallel.tensor: 2 ranks, but only 1 workers of role full"},
    {"workers: [{name: a, role: experts}]", "1:27: workers[0].role: no worker has role full"},
    {"parallel: {experts: sliced, placement: p.yaml}",
     "1:40: parallel.placement: needs parallel.experts placed or auto"},
    {"parallel: {shares: [1, 1]}\nworkers: [{name: a}, {name: b, role: experts, share: 2}]",
     "1:20: parallel.shares: 2 entries for 1 ranks"},
    {"parallel: {tensor: 3, shares: [1, 2]}", "1:31: parallel.shares: 2 entries for 3 ranks"},
    {"parallel: {shares: [1]}\nworkers: [{name: a, share: 2}]",
     "2:28: workers[0].share: parallel.shares is set too"},
    {"coordinator: {control: '10.0.0.1:1', keys: /k}\nparallel: {engine: shm}\n"
     "workers: [{name: a, host: x}, {name: b, host: y}]",
     "2:20: parallel.engine: shm works on one host; the workers are on 2"},
    {"kv: {context: 1000, blocks: 10}",
     "1:29: kv.blocks: 10 blocks of 32 tokens cannot hold kv.context = 1000"},
    {"scheduler: {max_batch_rows: 100}",
     "scheduler.prefill_chunk: 256 is above scheduler.max_batch_rows = 100"},
    {"timeouts: {heartbeat: 1500ms}", "timeouts.worker_lost: 2s is below two heartbeats of 1500ms"},
};

TEST(BadConfig, InconsistentKeysAreRefused) {
  for (const Case& c : kInconsistent) {
    auto settings = parse(std::string("model: {path: /m}\n") + c.text, "c.yaml");
    ASSERT_TRUE(settings.is_ok()) << c.text << ": " << settings.status().message();
    const Status status = check(*settings);
    ASSERT_FALSE(status.is_ok()) << c.text;
    // The line with the model path comes first.
    std::string expected = c.expected;
    if (expected[0] >= '0' && expected[0] <= '9') {
      expected = "c.yaml:" + std::to_string(expected[0] - '0' + 1) + expected.substr(1);
    }
    EXPECT_EQ(status.message().substr(0, expected.size()), expected) << c.text;
  }
}

TEST(BadConfig, WhatIsAllowedOnPurposePasses) {
  for (const char* text :
       {"coordinator: {listen: '0.0.0.0:80', allow_unauthenticated: true}",
        "coordinator: {listen: '0.0.0.0:80', api_keys: /k}",
        "coordinator: {control: '10.0.0.1:80', keys: /k}",
        "coordinator: {listen: 'localhost:80', control: '[::1]:81'}",
        "coordinator: {listen: '[::ffff:127.0.0.1]:80', control: 'a.localhost:81'}",
        "kv: {context: 320, blocks: 10}", "timeouts: {heartbeat: 450ms}",
        "workers: [{name: a, host: localhost, device: 'cuda:0'}, {name: b, device: 'cuda:1'}]"}) {
    auto settings = parse(std::string("model: {path: /m}\n") + text, "c.yaml");
    ASSERT_TRUE(settings.is_ok()) << settings.status().message();
    EXPECT_TRUE(check(*settings).is_ok()) << text << ": " << check(*settings).message();
  }
}

}  // namespace
}  // namespace shoal::config
