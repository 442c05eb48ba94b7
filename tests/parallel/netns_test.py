#!/usr/bin/env python3
"""Gloo between hosts: every rank in a network namespace of its own, joined by a bridge.

Shows that a group forms over named addresses, that all results are right, and that a rank whose
link is cut (no FIN, no RST: only silence) costs the others their deadline and no more.
Needs root and `ip netns`; exits with 77 (skipped) where it may not make namespaces.
usage: netns_test.py PATH_OF_collective_rank
"""
import os
import shutil
import subprocess
import sys
import tempfile

WORLD = 3
TAG = f"shoal{os.getpid()}"
SWITCH = f"{TAG}sw"


def ip(*words, check=True):
    return subprocess.run(["ip", *words], check=check, capture_output=True, text=True)


def namespace(rank):
    return f"{TAG}r{rank}"


def address(rank):
    return f"10.213.7.{rank + 1}"


def skip(why):
    print(f"SKIPPED: {why}")
    sys.exit(77)


def make_network():
    if os.geteuid() != 0:
        skip("network namespaces need root")
    if shutil.which("ip") is None:
        skip("there is no ip command (iproute2)")
    try:
        ip("netns", "add", SWITCH)
        ip("-n", SWITCH, "link", "add", "br0", "type", "bridge")
        ip("-n", SWITCH, "link", "set", "br0", "up")
        for rank in range(WORLD):
            name = namespace(rank)
            ip("netns", "add", name)
            ip("-n", name, "link", "add", "eth0", "type", "veth", "peer", "name", f"p{rank}",
               "netns", SWITCH)
            ip("-n", SWITCH, "link", "set", f"p{rank}", "master", "br0", "up")
            ip("-n", name, "addr", "add", f"{address(rank)}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
            ip("-n", name, "link", "set", "lo", "up")
    except subprocess.CalledProcessError as error:
        skip(f"cannot make network namespaces: {error.stderr.strip()}")


def remove_network():
    for name in [SWITCH] + [namespace(rank) for rank in range(WORLD)]:
        ip("netns", "del", name, check=False)


def start(program, rank, place, seed, steps, seconds, timeout):
    words = ["ip", "netns", "exec", namespace(rank), program, str(rank), str(WORLD), address(rank),
             place, str(seed), str(steps), str(seconds), str(timeout)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def expect(condition, what):
    if not condition:
        print(f"FAILED: {what}")
        sys.exit(1)


def check_results(program):
    with tempfile.TemporaryDirectory() as place:
        ranks = [start(program, r, place, 11, 150, 0.2, 20) for r in range(WORLD)]
        for rank, process in enumerate(ranks):
            out, _ = process.communicate(timeout=60)
            expect(process.returncode == 0 and out.split() == ["checked", "done"],
                   f"rank {rank} exited with {process.returncode}: {out}")
    print("results between namespaces: right")


def check_cut(program):
    with tempfile.TemporaryDirectory() as place:
        ranks = [start(program, r, place, 12, 20, 60, 1.0) for r in range(WORLD)]
        for process in ranks:
            expect(process.stdout.readline() == "checked\n", "a rank failed before the cut")
        ip("-n", SWITCH, "link", "set", "p2", "down")
        for rank, process in enumerate(ranks):
            out, _ = process.communicate(timeout=30)
            expect(process.returncode == 3, f"rank {rank} exited with {process.returncode}: {out}")
            took = float(out.split("failed after ")[1].split()[0])
            expect(took < 2.0, f"rank {rank} took {took} s for a deadline of 1 s: {out}")
            expect("for rank" in out, f"rank {rank} does not name whom it missed: {out}")
            print(f"cut: rank {rank} {out.strip()}")
        ip("-n", SWITCH, "link", "set", "p2", "up")


def main():
    program = sys.argv[1]
    try:
        make_network()
        check_results(program)
        check_cut(program)
    finally:
        remove_network()


main()
