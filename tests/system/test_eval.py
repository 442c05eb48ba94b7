"""Accuracy of the tiny dense model on its held-out prompts, and batch independence of the answers."""
import json
import unittest

import harness

# llama.cpp's exact-match accuracy on the same file and prompts (models/README.md).
PEER_ACCURACY = 0.8650
TOLERANCE = 0.01


def prompts():
    return [json.loads(line) for line in (harness.MODELS / "eval.jsonl").read_text().splitlines()]


def answer(client, prompt):
    return client.chat_text(prompt, max_tokens=96, temperature=0)


class Eval(unittest.TestCase):
    def answers(self, workers, limit, items):
        with harness.Server(harness.TINY_DENSE, workers) as server:
            return harness.parallel([lambda p=item["prompt"]: answer(server.client, p) for item in items],
                                    limit)

    def test_accuracy_and_batch_independence(self):
        items = prompts()
        for workers in (1, 2):
            batched = self.answers(workers, 32, items)
            right = sum(a.strip() == item["answer"].strip() for a, item in zip(batched, items))
            accuracy = right / len(items)
            print(f"{workers} workers: {accuracy:.4f} (llama.cpp {PEER_ACCURACY:.4f})")
            self.assertLessEqual(abs(accuracy - PEER_ACCURACY), TOLERANCE)
            some = items[::8]
            alone = self.answers(workers, 1, some)
            self.assertEqual(alone, batched[::8], "an answer depends on its batch mates")


if __name__ == "__main__":
    harness.main()
