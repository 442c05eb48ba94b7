"""Sampled tokens follow the exact distribution, and a seed gives the same text, on every layout."""
import math
import unittest

import harness

PROMPT = "Tell me a story about a"


def chi_square_limit(degrees):
    """The 1e-6 quantile of chi-square, Wilson–Hilferty: a correct sampler fails once in a million."""
    z = 4.7534
    return degrees * (1 - 2 / (9 * degrees) + z * math.sqrt(2 / (9 * degrees))) ** 3


def exact_distribution(client, params):
    """{token id: probability} from the model's own log-probabilities and the documented rule."""
    reply = client.ok("/v1/completions", {"prompt": PROMPT, "max_tokens": 1, "temperature": 0,
                                          "logprobs": 64, "ignore_eos": True})
    top = reply["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
    temperature = params.get("temperature", 1.0)
    raw = sorted(((t["id"], t["logprob"] / temperature) for t in top), key=lambda x: (-x[1], x[0]))
    truncated = any(k in params for k in ("top_k", "top_p", "min_p"))
    if not truncated:
        # The rest of the vocabulary is one cell.
        assert temperature == 1.0
        kept = {token: math.exp(value) for token, value in raw}
        kept[None] = max(0.0, 1 - sum(kept.values()))
        return kept
    if params.get("top_k"):
        raw = raw[:params["top_k"]]
    peak = raw[0][1]
    weights = [(token, math.exp(value - peak)) for token, value in raw]
    total = sum(w for _, w in weights)
    if "top_p" in params:
        kept, mass = [], 0.0
        for token, weight in weights:
            kept.append((token, weight))
            mass += weight / total
            if mass >= params["top_p"]:
                break
        weights = kept
    if "min_p" in params:
        weights = [(t, w) for t, w in weights if w >= params["min_p"] * weights[0][1]]
    total = sum(w for _, w in weights)
    return {token: weight / total for token, weight in weights}


class Sampling(unittest.TestCase):
    CASES = ({}, {"temperature": 0.7, "top_k": 12}, {"top_k": 20, "top_p": 0.8},
             {"temperature": 1.5, "top_k": 40, "min_p": 0.1})

    def counts(self, client, params, samples, seed):
        found = {}
        per_request = 16
        requests = [lambda s=seed + i: client.ok("/v1/completions", {
            "prompt": PROMPT, "max_tokens": 1, "n": per_request, "seed": s, "ignore_eos": True,
            "return_token_ids": True, **params}) for i in range(samples // per_request)]
        for reply in harness.parallel(requests, 24):
            for choice in reply["choices"]:
                token = choice["token_ids"][0]
                found[token] = found.get(token, 0) + 1
        return found

    def test_chi_square(self):
        samples = 3200
        for workers in (1, 2, 3):
            with harness.Server(workers=workers, args=["--kv-type", "f32"]) as server:
                for params in self.CASES:
                    expected = exact_distribution(server.client, params)
                    found = self.counts(server.client, params, samples, seed=1000 * workers)
                    cells, rest_expected, rest_found = [], 0.0, 0
                    for token, probability in expected.items():
                        seen = found.pop(token, 0) if token is not None else 0
                        if token is None:
                            rest_expected += probability * samples
                        elif probability * samples >= 5:
                            cells.append((probability * samples, seen))
                        else:
                            rest_expected += probability * samples
                            rest_found += seen
                    if params:
                        self.assertFalse(found, f"tokens outside the kept set: {found} with {params}")
                    rest_found += sum(found.values())
                    if rest_expected >= 5:
                        cells.append((rest_expected, rest_found))
                    statistic = sum((seen - want) ** 2 / want for want, seen in cells)
                    limit = chi_square_limit(max(1, len(cells) - 1))
                    print(f"{workers} workers {params}: chi-square {statistic:.1f} of {limit:.1f}, "
                          f"{len(cells)} cells")
                    self.assertLess(statistic, limit)

    def test_a_seed_gives_the_same_text_on_every_layout(self):
        texts = {}
        for workers in (1, 2, 3):
            with harness.Server(workers=workers, args=["--kv-type", "f32"]) as server:
                texts[workers] = [server.client.chat_text(PROMPT, max_tokens=48, seed=seed, **params)
                                  for seed in (7, 8) for params in self.CASES]
        self.assertEqual(texts[1], texts[2])
        self.assertEqual(texts[1], texts[3])
        self.assertNotEqual(texts[1][0], texts[1][len(self.CASES)], "two seeds, one text")


if __name__ == "__main__":
    harness.main()
