"""The prefix cache through HTTP: what a second turn computes, that it computes the same, and who may share what."""
import os
import pathlib
import random
import tempfile
import unittest

import harness

BLOCK = 32  # tokens; the default of kv.block_tokens
KEYS = ("sk-" + "a" * 32, "sk-" + "b" * 32)


def complete(client, tokens, count, headers=None, **params):
    """Greedy tokens after `tokens`, log-probabilities of the 20 best at each, and cached prompt tokens."""
    response = client.post("/v1/completions", {
        "prompt": tokens, "max_tokens": count, "temperature": 0, "logprobs": 20, "ignore_eos": True,
        "return_token_ids": True, **params}, headers=headers)
    assert response.status == 200, response.body[:500]
    reply = response.json()
    choice = reply["choices"][0]
    tops = [[(t["id"], t["logprob"]) for t in entry["top_logprobs"]] for entry in choice["logprobs"]["content"]]
    return choice["token_ids"], tops, reply["usage"]["prompt_tokens_details"]["cached_tokens"]


def random_tokens(seed, count, vocabulary=990):
    rng = random.Random(seed)
    return [rng.randrange(vocabulary) for _ in range(count)]


class PrefixCache(unittest.TestCase):
    def second_turn(self, model, length, workers, args=()):
        """A prompt of `length`, an answer, a second turn: warm and cold must not differ in a bit."""
        common = ["--context", str(length + 1024), *args]
        first, new = random_tokens(1, length), random_tokens(2, 30)
        with harness.Server(model, workers, common) as server:
            answer, _, cached = complete(server.client, first, 40)
            self.assertEqual(cached, 0)
            second = first + answer + new
            warm, warm_tops, cached = complete(server.client, second, 8)
            self.assertLessEqual(len(first) + len(answer) - cached, BLOCK,
                                 "more than one block of what was known is computed again")
            self.assertLessEqual(cached, len(first) + len(answer))
            again, again_tops, hit = complete(server.client, second, 8)
            self.assertGreaterEqual(hit, cached)
            self.assertEqual((again, again_tops), (warm, warm_tops))
            metrics = server.client.metrics()
            hits = sum(v for k, v in metrics.items() if k.startswith("shoal_prefix_cache_hit"))
            self.assertEqual(hits, cached + hit, "the counter of hits")
        with harness.Server(model, workers, [*common, "--no-prefix-cache"]) as server:
            cold, cold_tops, cached = complete(server.client, second, 8)
            self.assertEqual(cached, 0)
        self.assertEqual(cold, warm, "another answer than a cold server's")
        self.assertEqual(cold_tops, warm_tops, "other log-probabilities than a cold server's")

    def oracle_turn(self, name, length, workers=2, args=()):
        self.second_turn(harness.oracle(name)[0], length, workers, args)

    def test_dense(self):
        self.oracle_turn("llama", 4096)

    def test_dense_f32_three_workers(self):
        self.oracle_turn("llama", 4096, 3, ("--kv-type", "f32"))

    def test_quantised(self):
        self.second_turn(harness.TINY_DENSE, 1500, 2)

    def test_window(self):
        self.oracle_turn("gptoss", 4096)

    def test_windows_of_several_layers(self):
        self.oracle_turn("gemma3", 4096)

    def test_within_a_chunk(self):
        self.oracle_turn("llama4", 4096)

    def test_across_chunks(self):
        self.oracle_turn("llama4", 8180, 1)  # the answer crosses position 8192

    def test_latent(self):
        self.oracle_turn("deepseek2", 4096)

    def test_choices_share_their_prompt(self):
        with harness.Server(workers=1) as server:
            prompt = random_tokens(3, 400)
            complete(server.client, prompt, 2)
            reply = server.client.ok("/v1/completions", {"prompt": prompt, "max_tokens": 4, "n": 3, "seed": 5})
            self.assertGreaterEqual(reply["usage"]["prompt_tokens_details"]["cached_tokens"], 400 - BLOCK)

    def test_keys_and_salts_share_nothing(self):
        prompt = random_tokens(4, 500)
        with tempfile.TemporaryDirectory() as folder:
            keys = pathlib.Path(folder) / "api-keys"
            keys.touch(mode=0o600)
            keys.write_text("\n".join(KEYS) + "\n")
            headers = [{"Authorization": f"Bearer {key}"} for key in KEYS]
            with harness.Server(workers=1, args=["--api-keys", str(keys)]) as server:
                mine = complete(server.client, prompt, 4, headers[0])
                self.assertEqual(mine[2], 0)
                self.assertGreater(complete(server.client, prompt, 4, headers[0])[2], 0)
                theirs = complete(server.client, prompt, 4, headers[1])
                self.assertEqual(theirs[2], 0, "a block of another key was used")
                self.assertEqual(theirs[:2], mine[:2])
                salted = complete(server.client, prompt, 4, headers[0], cache_salt="tenant 7")
                self.assertEqual(salted[2], 0, "a block of another salt was used")
                self.assertGreater(complete(server.client, prompt, 4, headers[0], cache_salt="tenant 7")[2], 0)

    def test_conversations_over_a_small_cache(self):
        """64 conversations of three turns, four at a time, over a cache that holds a few of them."""
        def converse(client, index):
            tokens, said = random_tokens(100 + index, 60 + index % 50), []
            for turn in range(3):
                answer = complete(client, tokens, 12)
                said.append(answer[:2])
                tokens = tokens + answer[0] + random_tokens(1000 * turn + index, 20)
            return said

        def run(args):
            with harness.Server(workers=2, args=["--context", "512", *args]) as server:
                said = harness.parallel([lambda i=i: converse(server.client, i) for i in range(64)], 4)
                return said, server.client.metrics()

        small, metrics = run(["--kv-blocks", "40"])
        evicted = sum(v for k, v in metrics.items() if k.startswith("shoal_prefix_cache_evict"))
        self.assertGreater(evicted, 0, "the cache was large enough: this tests nothing")
        self.assertEqual(small, run(["--no-prefix-cache"])[0])


if __name__ == "__main__":
    os.environ.setdefault("SHOAL_LOG_LEVEL", "warn")
    harness.main()
