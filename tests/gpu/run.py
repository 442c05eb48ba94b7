#!/usr/bin/env python3
"""Everything that wants a card, in stages that can be resumed. Standard library only; runs from a build or a bundle.

usage: run.py [--build FOLDER] [--out FOLDER] [--again] [STAGE …]

A stage that passed is not run again with the same programs unless --again. Without a card
the stages that need one are skipped, with the reason, and the exit status is 0. OUT gets report.json and report.md.
"""
import argparse
import concurrent.futures
import csv
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Each below nine minutes, all within 25.
STAGE_SECONDS = {"machine": 60, "tests": 300, "oracles": 280, "kernels": 360, "decode": 200, "profile": 60,
                 "sanitizer": 230}
DEVICE = "cuda:0"
SKIPPED = 77
HOT = ["Q4_K", "Q6_K", "Q8_0", "MXFP4", "F16"]
SANITIZERS = ["memcheck", "racecheck", "synccheck", "initcheck"]


class Skip(Exception):
    """A stage that cannot run here."""


class Failed(Exception):
    """A stage whose checks do not hold."""


class Run:
    def __init__(self, build, out):
        self.build, self.out = build, out
        self.shoal = build / "cli" / "shoal"
        self.cuda_library = build / "cli" / "libshoal-cuda.so"
        self.deadline = 0.0
        self.log = None
        self.no_card = self.why_no_card()

    def why_no_card(self):
        if not self.shoal.exists():
            sys.exit(f"{self.shoal} has not been built")
        if not self.cuda_library.exists():
            return "this build has no CUDA kernels (nvcc makes them: SHOAL_CUDA)"
        done = subprocess.run([self.shoal, "worker", "--probe-device", DEVICE], capture_output=True, text=True,
                              timeout=120, check=False)
        return "" if done.returncode == 0 else (done.stdout + done.stderr).strip()

    def need_card(self):
        if self.no_card:
            raise Skip(self.no_card)

    def left(self):
        return self.deadline - time.monotonic()

    def command(self, argv, limit=None, **environment):
        """(exit status or None if it ran out of time, what it printed); everything goes to the stage's log."""
        limit = max(min(limit or self.left(), self.left()), 1)
        argv = [str(argument) for argument in argv]
        try:
            done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                                  timeout=limit, check=False, env={**os.environ, **environment})
            status, said = done.returncode, done.stdout
        except subprocess.TimeoutExpired as late:
            said = late.stdout or ""
            status, said = None, said if isinstance(said, str) else said.decode(errors="replace")
        self.log.write(f"$ {' '.join(argv)}\n{said}\n[status {status}]\n")
        self.log.flush()
        return status, said

    def json_of(self, argv, limit=None):
        status, said = self.command(argv, limit)
        if status is None:
            raise Failed(f"out of time: {' '.join(map(str, argv))}")
        if status != 0:
            raise Failed(said.strip()[-2000:])
        return json.loads(said[said.index("{"):])

    def programs(self):
        return sorted((self.build / "tests" / "simt").glob("card_*_test"))


def stage_machine(run):
    """What this is; without a card, that the program says why."""
    facts = {"programs": [program.name for program in run.programs()], "no_card": run.no_card}
    smi = shutil.which("nvidia-smi")
    if smi:
        status, said = run.command([smi, "--query-gpu=name,driver_version,memory.total,memory.free,clocks.max.mem,"
                                         "power.limit", "--format=csv,noheader"], 60)
        if status == 0:
            facts["cards"] = said.strip().splitlines()
    if run.no_card and run.cuda_library.exists() and "driver" not in run.no_card and "card" not in run.no_card:
        raise Failed(f"neither driver nor card is named as what is missing: {run.no_card}")
    return facts


def stage_tests(run):
    """The emulator's tests of every op, on the card, against the CPU."""
    run.need_card()
    programs = [program for program in run.programs() if program.name != "card_oracle_test"]
    if not programs:
        raise Failed("there are no card_*_test programs: build the target card_tests")
    results = {}
    # Their time is the CPU's, which computes what the card is compared with.
    with concurrent.futures.ThreadPoolExecutor(max(1, (os.cpu_count() or 1) // 2)) as pool:
        done = list(pool.map(lambda program: run.command([program, "--gtest_brief=1"]), programs))
    for program, (status, said) in zip(programs, done):
        count = re.search(r"(\d+) tests? from \d+ test suites? ran", said)
        results[program.name] = {"status": status, "tests": int(count[1]) if count else 0,
                                 "failed": re.findall(r"^\[  FAILED  \] ([\w/.]+)", said, re.M)}
    bad = [name for name, result in results.items() if result["status"] != 0 or result["tests"] == 0]
    if bad:
        raise Failed(f"failed: {', '.join(bad)}; see the log", results)
    return results


def stage_sanitizer(run):
    """compute-sanitizer over the ops; what does not end in time is said, not passed."""
    run.need_card()
    tool = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
    if not os.path.exists(tool):
        raise Skip("compute-sanitizer is not on this machine")
    programs = [program for program in run.programs()
                if program.name not in ("card_oracle_test", "card_recorder_test", "card_measure_test")]
    results = {}
    for index, check in enumerate(SANITIZERS):
        for place, program in enumerate(programs):
            rounds = (len(SANITIZERS) - index) * len(programs) - place
            limit = run.left() / rounds
            status, _ = run.command([tool, "--tool", check, "--error-exitcode", "9", program, "--gtest_brief=1"], limit)
            results[f"{check} {program.name}"] = {0: "clean", None: f"not done within {limit:.0f} s"}.get(
                status, "errors")
    if "errors" in results.values():
        raise Failed("errors; see the log", results)
    if "clean" not in results.values():
        raise Failed("nothing ended in time", results)
    return results


def stage_oracles(run):
    """Reference models: in one process, and through the server."""
    run.need_card()
    program = run.build / "tests" / "simt" / "card_oracle_test"
    status, said = run.command([program], 140)
    if status != 0:
        raise Failed("card_oracle_test failed; see the log")
    worst = {name: float(value) for name, value in re.findall(r"^(\w+): worst ([\d.e+-]+)$", said, re.M)}
    if not worst:
        raise Skip("the reference models are not here (SHOAL_SHARED names their folder)")
    status, said = run.command([sys.executable, "-W", "ignore", ROOT / "tests/system/test_oracle.py"],
                               SHOAL_BUILD_DIR=str(run.build), SHOAL_ORACLE_LAYOUTS="1",
                               SHOAL_TEST_SERVE_ARGS=f"--device {DEVICE}")
    if status != 0:
        raise Failed("test_oracle.py on the card failed or did not end; see the log", worst)
    served = {name: float(value) for name, value in re.findall(r"^(\w+, .*): worst ([\d.e+-]+)$", said, re.M)}
    return {"one process": worst, "served": served}


def stage_kernels(run):
    """shoal bench kernels: the shapes of a 70B for hot types, one shape for the others, attention at 32k."""
    run.need_card()
    bench = [run.shoal, "bench", "kernels", "--device", DEVICE, "--json"]
    layer = run.json_of([*bench, "--types", *HOT, "--shapes", "70b", "--ops", "matmul"])
    others = run.json_of([*bench, "--ops", "matmul", "experts", "norm", "sampling"])
    attention = run.json_of([*bench, "--ops", "attention", "--context", "4096", "32768"])
    return {"layer": layer, "others": others, "attention": attention}


def stage_decode(run):
    """A 70B as Q4_K_M, made in the card's memory; of a smaller card as many layers as fit."""
    run.need_card()
    command = [run.shoal, "bench", "decode", "llama-3.3-70b", "--type", "Q4_K_M", "--device", DEVICE, "--json"]
    free = 0
    if shutil.which("nvidia-smi"):
        status, said = run.command(["nvidia-smi", "--query-gpu=memory.free", "--format=csv,noheader,nounits", "-i", "0"],
                                   60)
        free = int(said.split()[0]) << 20 if status == 0 and said.split()[0].isdigit() else 0
    layers, layer_bytes, rest = 80, 0.52e9, 3.5e9
    if free:
        layers = max(1, min(80, int((free - rest) / layer_bytes)))
    report = run.json_of([*command, "--layers", layers])
    if layers < 80:
        report["note"] = f"{layers} of 80 layers, which is what the card holds: not the whole model's speed"
    return report


def kernel_times(said):
    """[(kernel, µs)] of what ncu printed as CSV."""
    times = []
    for row in csv.DictReader(line for line in said.splitlines() if line.startswith('"')):
        if row["Metric Name"] != "gpu__time_duration.sum":
            continue
        name = re.sub(r"\(?(\w+::)*TensorType\)?|\(int\)|(\w+::)+|^void |kernel_entry|\(.*Params\)$", "", row["Kernel Name"])
        scale = {"ns": 1e-3, "us": 1.0, "usecond": 1.0, "nsecond": 1e-3, "ms": 1e3, "msecond": 1e3}[row["Metric Unit"]]
        times.append((name.strip("<>").rsplit(",", 1)[0], scale * float(row["Metric Value"].replace(",", ""))))
    return times


def stage_profile(run):
    """Where the time of a token goes: every kernel of three layers of a 70B, by ncu."""
    run.need_card()
    tool = shutil.which("ncu") or "/usr/local/cuda/bin/ncu"
    if not os.path.exists(tool):
        raise Skip("ncu is not on this machine")
    status, said = run.command([tool, "--cache-control", "none", "--clock-control", "none", "--csv",
                                "--metrics", "gpu__time_duration.sum", run.shoal, "bench", "decode", "llama-3.3-70b",
                                "--layers", "3", "--context", "1024", "--generate", "4", "--device", DEVICE])
    if status != 0:
        raise Failed("ncu failed or did not end; see the log")
    times = kernel_times(said)
    starts = [place for place, (name, _) in enumerate(times) if name.startswith("EmbedRows")]
    if len(starts) < 2:
        raise Failed("ncu saw no two tokens")
    kernels = {}
    for name, microseconds in times[starts[-2]:starts[-1]]:
        kernels.setdefault(name, []).append(microseconds)
    return {"layers": 3, "kernels": [{"kernel": name, "launches": len(all_of), "microseconds": round(sum(all_of), 2)}
                                     for name, all_of in sorted(kernels.items(), key=lambda item: -sum(item[1]))]}


STAGES = {"machine": stage_machine, "tests": stage_tests, "oracles": stage_oracles, "kernels": stage_kernels,
          "decode": stage_decode, "profile": stage_profile, "sanitizer": stage_sanitizer}


def stamp(run):
    """Of the programs: figures of others do not count as done."""
    digest = hashlib.sha256()
    for path in [run.shoal, run.cuda_library, *run.programs(), pathlib.Path(__file__)]:
        if path.exists():
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def run_stage(run, name):
    started = time.monotonic()
    run.deadline = started + STAGE_SECONDS[name]
    result = {"stage": name}
    with open(run.out / f"{name}.log", "w", encoding="utf-8") as run.log:
        try:
            result.update(status="passed", figures=STAGES[name](run))
        except Skip as skip:
            result.update(status="skipped", reason=str(skip))
        except Failed as failed:
            result.update(status="failed", reason=str(failed.args[0]), figures=failed.args[1:])
    result["seconds"] = round(time.monotonic() - started, 1)
    return result


def kernel_rows(report, ceiling):
    for row in report["kernels"]:
        share = row["share_of_ceiling"]
        yield (f"| {row['op']} | {row['type']} | {row['shape']} | {row['rows']} | {1e6 * row['seconds']:.1f} "
               f"| {row['gb_per_second']:.0f} | {'–' if share is None else f'{100 * share:.0f} % of {ceiling:.0f}'} |")


def markdown(results, programs):
    lines = ["# GPU run", "", f"Programs {programs}.", "", "| stage | result | seconds | |", "|---|---|---|---|"]
    by_name = {result["stage"]: result for result in results}
    for result in results:
        lines.append(f"| {result['stage']} | {result['status']} | {result['seconds']} "
                     f"| {result.get('reason', '').splitlines()[0] if result.get('reason') else ''} |")
    machine = by_name.get("machine", {}).get("figures") or {}
    lines += ["", *machine.get("cards", [])]
    decode = by_name.get("decode", {})
    if decode.get("status") == "passed":
        figures = decode["figures"]
        lines += ["", f"Decode of {figures['shape']} {figures['type']}, {figures['layers']} layers: "
                      f"{figures['decode_tokens_per_second']:.2f} tok/s, {figures['bytes_per_token'] / 1e9:.2f} GB per "
                      f"token, {100 * figures['share_of_ceiling']:.0f} % of reading alone. {figures.get('note', '')}"]
    profile = by_name.get("profile", {})
    if profile.get("status") == "passed":
        lines += ["", f"One token through {profile['figures']['layers']} layers of a 70B:", "",
                  "| kernel | launches | µs in all |", "|---|---|---|"]
        lines += [f"| {row['kernel']} | {row['launches']} | {row['microseconds']} |"
                  for row in profile["figures"]["kernels"]]
    kernels = by_name.get("kernels", {})
    if kernels.get("status") == "passed":
        lines += ["", "| op | type | shape | rows | µs | GB/s | of reading alone |", "|---|---|---|---|---|---|---|"]
        for report in kernels["figures"].values():
            lines += kernel_rows(report, report["read_ceiling_gb_per_second"])
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build" / "release")
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--again", action="store_true")
    parser.add_argument("stages", nargs="*", metavar="STAGE", help=", ".join(STAGES))
    options = parser.parse_args()
    unknown = [name for name in options.stages if name not in STAGES]
    if unknown:
        parser.error(f"no stage {', '.join(unknown)}; there are {', '.join(STAGES)}")
    build = options.build.resolve()
    out = (options.out or build / "gpu").resolve()
    out.mkdir(parents=True, exist_ok=True)
    run = Run(build, out)
    programs = stamp(run)
    results = []
    for name in options.stages or STAGES:
        kept = out / f"{name}.json"
        old = json.loads(kept.read_text()) if kept.exists() else {}
        if old.get("programs") == programs and old.get("status") == "passed" and not options.again and name != "machine":
            print(f"{name}: passed before ({old['seconds']} s)")
            results.append(old)
            continue
        result = {**run_stage(run, name), "programs": programs}
        kept.write_text(json.dumps(result, indent=1, ensure_ascii=False))
        print(f"{name}: {result['status']} ({result['seconds']} s) {result.get('reason', '')}", flush=True)
        results.append(result)
    (out / "report.json").write_text(json.dumps({"programs": programs, "stages": results}, indent=1,
                                                ensure_ascii=False))
    (out / "report.md").write_text(markdown(results, programs))
    print(f"{out}/report.json, {out}/report.md")
    sys.exit(1 if any(result["status"] == "failed" for result in results) else 0)


if __name__ == "__main__":
    main()
