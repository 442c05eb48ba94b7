"""A worker's peak memory, loading included, stays within its shard, its KV cache, 10 % and 64 MiB."""
import json
import os
import pathlib
import subprocess
import unittest

import harness

SLACK_BYTES = 64 << 20


def peak_bytes(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"no VmHWM for {pid}")


class Memory(unittest.TestCase):
    def test_peak_of_each_worker(self):
        model = str(harness.BUILD / "synth-1b.gguf")
        subprocess.run([harness.SHOAL, "synth", "llama-3.2-1b", model], check=True, stdout=subprocess.DEVNULL)
        try:
            described = subprocess.run([harness.SHOAL, "inspect", model, "--workers", "2", "--json"], check=True,
                                       capture_output=True, text=True)
            shards = {rank["rank"]: rank["weight_bytes"] for rank in json.loads(described.stdout)["ranks"]}
            with harness.Server(model, 2, ["--context", "4096", "--kv-blocks", "128"], ready_seconds=120) as server:
                prompt = [i % 200 for i in range(1500)]
                server.client.ok("/v1/completions", {"prompt": prompt, "max_tokens": 8, "ignore_eos": True},
                                 timeout=300)
                for worker in server.client.get("/cluster").json()["workers"]:
                    peak = peak_bytes(worker["pid"])
                    limit = (shards[worker["rank"]] + worker["kv_bytes"]) * 1.1 + SLACK_BYTES
                    print(f"rank {worker['rank']}: peak {peak / 2**20:.0f} MiB of {limit / 2**20:.0f} MiB "
                          f"(shard {shards[worker['rank']] / 2**20:.0f}, KV {worker['kv_bytes'] / 2**20:.0f})")
                    self.assertLessEqual(peak, limit)
        finally:
            os.unlink(model)


if __name__ == "__main__":
    harness.main()
