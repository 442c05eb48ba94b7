"""llama.cpp's answers, for comparison (logprobs.mjs)."""
import json
import os
import pathlib
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "system"))
import harness  # noqa: E402

MODULES = os.environ.get("SHOAL_PEER_MODULES", str(harness.BUILD.parent / "peer" / "node_modules"))


def logprobs(model, cases, top, **options):
    """What logprobs.mjs says of the token after each of `cases`, or a visible skip. Options: greedy, context."""
    if not (pathlib.Path(MODULES) / "node-llama-cpp").exists():
        raise unittest.SkipTest(f"needs npm's node-llama-cpp in {MODULES} (tests/peer/install.sh)")
    request = json.dumps({"model": model, "cases": cases, "top": top, **options})
    done = subprocess.run(["node", str(pathlib.Path(__file__).parent / "logprobs.mjs")], input=request,
                          capture_output=True, text=True, timeout=300,
                          env={**os.environ, "SHOAL_PEER_MODULES": str(pathlib.Path(MODULES).parent)}, check=False)
    if done.returncode != 0:
        raise AssertionError(f"the peer failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout)
