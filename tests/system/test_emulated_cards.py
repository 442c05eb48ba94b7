"""Servers whose workers compute on emulated cards: the path of a real one, from the library that is opened to the
tokens, in real processes."""
import os
import signal
import unittest

import harness

LIBRARY = harness.BUILD / "tests" / "simt" / "libshoal-emulated-cards.so"
QUESTION = "What is 1 plus 8?"


def server(model, devices, *args):
    if not LIBRARY.exists():
        raise unittest.SkipTest("sanitizer builds have no library of emulated cards")
    return harness.Server(model=model, workers=len(devices), args=["--device", *devices, *args], ready_seconds=120,
                          env={"SHOAL_CUDA_LIBRARY": str(LIBRARY)})


class EmulatedCards(unittest.TestCase):
    def ask(self, running):
        return running.client.chat_text(QUESTION, max_tokens=16, temperature=0)

    def expected(self, model):
        with harness.Server(model=model, workers=1) as running:
            return self.ask(running)

    def check(self, model, devices, *args):
        with server(model, devices, *args) as running:
            workers = running.client.get("/cluster").json()["workers"]
            self.assertEqual([w["device"].split(":")[0] for w in workers], [d.split(":")[0] for d in devices])
            self.assertTrue(all(w["weight_bytes"] > 0 for w in workers))
            # More tokens than it takes to record a graph and start it again; the second turn meets cached blocks.
            answers = [self.ask(running) for _ in range(2)]
            self.assertEqual(answers, [self.expected(model)] * 2)
            several = harness.parallel([lambda: self.ask(running)] * 4)
            self.assertEqual(several, answers[:1] * 4)

    def test_one_card(self):
        self.check(harness.TINY_DENSE, ["cuda:0"])

    def test_two_cards(self):
        self.check(harness.TINY_DENSE, ["cuda:0", "cuda:1"])

    def test_experts_of_a_card_and_a_cpu(self):
        self.check(harness.TINY_MOE, ["cuda:0", "cpu"], "--experts", "placed")

    def test_experts_sliced_over_two_cards(self):
        self.check(harness.TINY_MOE, ["cuda:0", "cuda:1"], "--experts", "sliced")

    def test_a_worker_with_a_card_that_dies(self):
        with server(harness.TINY_DENSE, ["cuda:0", "cuda:1"]) as running:
            answer = self.ask(running)
            os.kill(running.worker_pids()[1], signal.SIGKILL)
            harness.wait_until(lambda: running.client.get("/ready").status == 503, 4, "/ready says 503")
            harness.wait_until(lambda: running.client.get("/ready").status == 200, 60, "ready again")
            self.assertEqual(self.ask(running), answer)

    def test_auto_takes_the_cards_there_are(self):
        if not LIBRARY.exists():
            self.skipTest("sanitizer builds have no library of emulated cards")
        with harness.Server(workers=2, args=["--device", "auto"], ready_seconds=120,
                            env={"SHOAL_CUDA_LIBRARY": str(LIBRARY), "SHOAL_EMULATED_CARDS": "1"}) as running:
            devices = [w["device"].split(":")[0] for w in running.client.get("/cluster").json()["workers"]]
            self.assertEqual(devices, ["cuda", "cpu"])
            self.assertIn("9", self.ask(running))


if __name__ == "__main__":
    harness.main()
