"""Accuracy of the tiny models on their held-out prompts at several layouts, and batch independence of the answers."""
import json
import pathlib
import unittest

import harness

# llama.cpp's exact-match accuracy on the same file and prompts (models/README.md).
DENSE = (harness.TINY_DENSE, 0.8650)
MIXTURE = (harness.TINY_MOE, 0.8575)
TOLERANCE = 0.01


def prompts():
    return [json.loads(line) for line in (harness.MODELS / "eval.jsonl").read_text().splitlines()]


def answer(client, prompt):
    return client.chat_text(prompt, max_tokens=96, temperature=0)


class Eval(unittest.TestCase):
    def answers(self, model, workers, args, limit, items):
        with harness.Server(model, workers, args) as server:
            return harness.parallel([lambda p=item["prompt"]: answer(server.client, p) for item in items],
                                    limit)

    def check(self, model_and_accuracy, workers, args=()):
        model, expected = model_and_accuracy
        items = prompts()
        batched = self.answers(model, workers, args, 32, items)
        right = sum(a.strip() == item["answer"].strip() for a, item in zip(batched, items))
        accuracy = right / len(items)
        print(f"{pathlib.Path(model).name}, {workers} workers {' '.join(args)}: {accuracy:.4f} (llama.cpp {expected:.4f})")
        self.assertLessEqual(abs(accuracy - expected), TOLERANCE)
        some = items[::8]
        alone = self.answers(model, workers, args, 1, some)
        self.assertEqual(alone, batched[::8], "an answer depends on its batch mates")

    def test_dense_1(self):
        self.check(DENSE, 1)

    def test_dense_2(self):
        self.check(DENSE, 2)

    def test_mixture_1(self):
        self.check(MIXTURE, 1)

    def test_mixture_sliced(self):
        self.check(MIXTURE, 2, ("--experts", "sliced"))

    def test_mixture_placed(self):
        self.check(MIXTURE, 3, ("--experts", "placed"))

    def test_mixture_with_expert_worker(self):
        self.check(MIXTURE, 2, ("--expert-workers", "1"))


if __name__ == "__main__":
    harness.main()
