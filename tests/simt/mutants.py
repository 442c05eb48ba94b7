#!/usr/bin/env python3
"""Proves that the tests of GPU kernels notice wrong kernels (docs/testing-on-the-emulator.md, "Mutants").

usage: mutants.py places BUILD [SUITE…]   every barrier, wait and fence of every kernel left out, one at a time
       mutants.py edits BUILD [SUITE…]    the edits of mutant_edits.py, compiled into the kernels
       mutants.py check                   whether what those edits replace is still there

BUILD is a build directory with the test programs; SUITE is one of SUITES. A mutant is caught if one of the
suites whose kernels came to its place fails. Exits with 1 if one is not caught.
"""
import concurrent.futures
import os
import pathlib
import re
import resource
import subprocess
import sys
import tempfile
import time

import mutant_edits

# Program and tests. Tests on the checked emulator with every seed come first: they end soonest.
SUITES = {
    "attention": ("gpu_attention_test", "GpuAttention.*Checked*:GpuStoreKv.MatchesTheCpu"),
    "elementwise": ("gpu_elementwise_test", "*"),
    "sample": ("gpu_sample_test", "*"),
    "tiles": ("tile_gemv_test", "*"),
    "products": ("gpu_product_test", "*"),
    "experts": ("gpu_experts_test", "*"),
    "far": ("gpu_far_test", "*"),
}
# What a helper does for others.
NOT_NEEDED = {
    "sample_chunks drop_sync_threads reduce.h": "its reductions have cells of their own",
}
LIMIT_S = 300  # of one run


def without_core():
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def run(folder, suite, **variables):
    """(passed, first complaint, seconds) of a suite's tests with these environment variables."""
    program, tests = SUITES[suite]
    began = time.monotonic()
    try:
        done = subprocess.run([str(folder / program), f"--gtest_filter={tests}",
                               "--gtest_break_on_failure"], env={**os.environ, **variables}, capture_output=True,
                              text=True, errors="replace", timeout=LIMIT_S, preexec_fn=without_core)
    except subprocess.TimeoutExpired:
        return False, f"no end within {LIMIT_S} s", LIMIT_S
    seconds = time.monotonic() - began
    if done.returncode == 0:
        return True, "", seconds
    output = done.stdout + done.stderr
    complaint = re.search(r"kernel \w+, launch [^\n]*?thread \d+: ([^\n]*)|(no thread can go on)", output)
    if complaint:
        return False, (complaint[1] or complaint[2])[:60], seconds
    if "Failure" in output:
        return False, "wrong result", seconds
    return False, f"exit {done.returncode}", seconds


def places(programs, suites):
    """{place: suites that come to it}; every suite must pass as it is."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for suite in suites:
            path = pathlib.Path(folder, suite)
            passed, complaint, _ = run(programs, suite, SHOAL_MUTANT_SITES=str(path))
            if not passed:
                sys.exit(f"{suite} fails without a mutant: {complaint}")
            for place in sorted(set(path.read_text().splitlines())) if path.exists() else []:
                found.setdefault(place, []).append(suite)
    if not found:
        sys.exit("no kernel came to a barrier: these programs have no mutants")
    return found


def catch(programs, mutant, suites):
    """(mutant, how it was noticed or None, seconds)."""
    total = 0.0
    for suite in suites:
        passed, complaint, seconds = run(programs, suite, SHOAL_MUTANT=mutant)
        total += seconds
        if not passed:
            return mutant, f"{suite}: {complaint}", total
    return mutant, None, total


def judge(programs, mutants):
    """Runs {mutant: suites}; returns how many survived."""
    survived = spared = 0
    with concurrent.futures.ThreadPoolExecutor(int(os.environ.get("SHOAL_JOBS", os.cpu_count() or 1))) as pool:
        for mutant, how, seconds in pool.map(lambda m: catch(programs, m, mutants[m]), mutants):
            spare = NOT_NEEDED.get(mutant.split(":")[0])
            verdict = "caught" if how else "spared" if spare else "SURVIVED"
            survived += verdict == "SURVIVED"
            spared += verdict == "spared"
            name = mutant_edits.describe(mutant) if mutant.startswith("edit:") else mutant
            print(f"{verdict:8} {name}  {how or spare or ''}  {seconds:.1f} s", flush=True)
    print(f"{len(mutants) - survived - spared} of {len(mutants)} mutants caught, {spared} not needed by their kernel")
    return survived


def main():
    if sys.argv[1:] == ["check"]:
        with tempfile.TemporaryDirectory() as folder:
            mutant_edits.write_overlay(pathlib.Path(folder))
        return
    if len(sys.argv) < 3 or sys.argv[1] not in ("places", "edits"):
        sys.exit(__doc__)
    build, suites = pathlib.Path(sys.argv[2]).resolve(), sys.argv[3:] or list(SUITES)
    if sys.argv[1] == "places":
        survived = judge(build / "tests/simt", places(build / "tests/simt", suites))
    else:
        mutants, programs = mutant_edits.build(build, {suite: SUITES[suite][0] for suite in suites})
        for suite in suites:
            passed, complaint, _ = run(programs, suite)
            if not passed:
                sys.exit(f"{suite} fails without a mutant: {complaint}")
        survived = judge(programs, mutants)
    sys.exit(1 if survived else 0)


main()
