"""A minute of mixed abuse; `./dev soak` does half an hour of it."""
import os
import unittest

import harness
import soak


class Soak(unittest.TestCase):
    def test_a_minute_of_abuse(self):
        seed = int(os.environ.get("SHOAL_TEST_SEED", "1"))
        figures, problems = soak.soak(seconds=40, seed=seed, quiet_seconds=10)
        print(figures)
        self.assertEqual(problems, [], f"SHOAL_TEST_SEED={seed}")


if __name__ == "__main__":
    harness.main()
