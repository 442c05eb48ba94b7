"""Mixed abuse beside well-behaved streams: soak.py [SECONDS [SEED]].

A coordinator and two workers serve twenty streams that do nothing wrong. First alone, then, for
SECONDS, while abuse.py does everything it knows at random. The streams' answers must be those of the
quiet run, no stream may fail, the 99th percentile of their gaps may be at most three times the quiet
one, no worker may be replaced, and memory, descriptors and threads must not grow."""
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import harness
from abuse import FileTarget
from test_duplicates import free_port

STREAMS = 20
QUIET_SECONDS = 20
MAX_GAP_RATIO = 3.0
WARM_UP = 0.2  # of the time: what grows until then has not leaked
MEMORY_SLACK = (1.15, 48 << 20)  # × and + bytes
COUNT_SLACK = 8  # descriptors and threads at rest


def prompts():
    lines = (harness.MODELS / "eval.jsonl").read_text().splitlines()
    return [json.loads(line)["prompt"] for line in lines]


class Streams:
    """Twenty clients, one stream after the other each. Run in a process of its own: see main()."""

    def __init__(self, client, seconds):
        self.client, self.end = client, time.monotonic() + seconds
        self.answers, self.gaps, self.errors = {}, [], []
        self.lock = threading.Lock()

    def one(self, prompt, seed):
        text, gaps, last = "", [], None
        body = {"model": "m", "messages": [{"role": "user", "content": prompt}], "max_tokens": 40, "seed": seed,
                "temperature": 0.7, "ignore_eos": True}
        done = False
        for event in self.client.stream("/v1/chat/completions", body, timeout=60):
            now = time.monotonic()
            done = event == "[DONE]"
            if not done and "error" in event:
                raise AssertionError(f"an error event: {event}")
            if not done and event["choices"] and event["choices"][0]["delta"].get("content"):
                text += event["choices"][0]["delta"]["content"]
                if last is not None:
                    gaps.append(now - last)
                last = now
        if not done:
            raise AssertionError("a stream without an end")
        return text, gaps

    def work(self, index, texts):
        turn = 0
        while time.monotonic() < self.end:
            number = (index * 7 + turn) % len(texts)
            turn += 1
            try:
                text, gaps = self.one(texts[number], number)
            except (AssertionError, OSError, ValueError) as error:
                with self.lock:
                    self.errors.append(f"prompt {number}: {error}")
                continue
            with self.lock:
                if self.answers.setdefault(str(number), text) != text:
                    self.errors.append(f"prompt {number}: {text!r} after {self.answers[str(number)]!r}")
                self.gaps += gaps

    def run(self):
        texts = prompts()[:60]
        threads = [threading.Thread(target=self.work, args=(index, texts)) for index in range(STREAMS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        gaps = sorted(self.gaps)
        return {"answers": self.answers, "errors": self.errors, "tokens": len(gaps),
                "gap_median_ms": 1000 * gaps[len(gaps) // 2], "gap_p99_ms": 1000 * gaps[len(gaps) * 99 // 100]}


def run_streams(url, key, seconds):
    return subprocess.Popen([sys.executable, __file__, "streams", url, key, str(seconds)], stdout=subprocess.PIPE,
                            text=True)


class Cluster:
    """A coordinator and two workers with key files, which abuse may try to use as well."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.run("keygen", "--dir", f"{folder}/keys", "--workers", "w0", "w1", "spare", "--api-keys", f"{folder}/api-keys")
        self.run("keygen", "--dir", f"{folder}/strangers", "--workers", "unknown")
        for name, source in (("w0", "keys"), ("w1", "keys"), ("spare", "keys"), ("unknown", "strangers")):
            (self.folder / f"{name}.key").write_bytes((self.folder / source / f"{name}.key").read_bytes())
            (self.folder / f"{name}.key").chmod(0o600)
        self.key = [line for line in (self.folder / "api-keys").read_text().split() if not line.startswith("#")][-1]
        self.control = free_port()
        config = self.folder / "cluster.yaml"
        config.write_text("\n".join([
            "model:", f"  path: {harness.TINY_DENSE}", "coordinator:", "  listen: 127.0.0.1:0",
            f"  control: 127.0.0.1:{self.control}", f"  keys: {folder}/keys", f"  api_keys: {folder}/api-keys",
            "workers:", "  - name: w0", "    host: 127.0.0.1", "  - name: w1", "    host: 127.0.0.1"]) + "\n")
        self.coordinator = harness.Process([harness.SHOAL, "coordinator", "--config", str(config)])
        describe = {"port": 0, "control": self.control, "key": self.key, "coordinator_pid": self.coordinator.pid,
                    "folder": folder}
        self.target = self.folder / "target.json"
        self.target.write_text(json.dumps(describe))
        own = FileTarget(self.target)
        self.workers = [harness.Process(own.worker_argv(name, name)) for name in ("w0", "w1")]
        self.url = self.coordinator.wait_for_line(r"ready.*(http://[^\s/]+)", 60).group(1)
        describe["port"] = int(self.url.rsplit(":", 1)[1])
        self.target.write_text(json.dumps(describe))
        self.client = harness.Client(self.url, {"Authorization": f"Bearer {self.key}"})

    @staticmethod
    def run(*argv):
        subprocess.run([harness.SHOAL, *argv], check=True, capture_output=True)

    def processes(self):
        return {"coordinator": self.coordinator.pid, "w0": self.workers[0].pid, "w1": self.workers[1].pid}

    def usage(self):
        return {name: usage(pid) for name, pid in self.processes().items()}

    def close(self):
        self.coordinator.signal(signal.SIGCONT)
        for process in [*self.workers, self.coordinator]:
            process.stop(10)


def usage(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        fields = dict(line.split(":", 1) for line in file if ":" in line)
    return {"rss": int(fields["VmRSS"].split()[0]) * 1024, "threads": int(fields["Threads"]),
            "descriptors": len(os.listdir(f"/proc/{pid}/fd"))}


def watch(cluster, abuse, seconds):
    """Samples while abuse goes on: [(share of the time, usage of each process)]."""
    samples, begin = [], time.monotonic()
    while abuse.poll() is None:
        time.sleep(min(2.0, seconds / 30))
        samples.append(((time.monotonic() - begin) / seconds, cluster.usage()))
    return samples


def growth(samples, before, after, problems):
    for name in before:
        late = [sample[name]["rss"] for share, sample in samples if share > 0.8]
        early = [sample[name]["rss"] for share, sample in samples if WARM_UP < share < 0.4]
        allowed = statistics.median(early) * MEMORY_SLACK[0] + MEMORY_SLACK[1]
        if statistics.median(late) > allowed:
            problems.append(f"{name}: RSS grew from {statistics.median(early)} to {statistics.median(late)}")
        for kind in ("threads", "descriptors"):
            if after[name][kind] > before[name][kind] + COUNT_SLACK:
                problems.append(f"{name}: {kind} grew from {before[name][kind]} to {after[name][kind]}")


def compare(quiet, loud, problems):
    problems += quiet["errors"][:5] + loud["errors"][:5]
    for number, text in loud["answers"].items():
        if quiet["answers"].get(number, text) != text:
            problems.append(f"prompt {number}: {text!r}, undisturbed {quiet['answers'][number]!r}")
    if loud["gap_p99_ms"] > MAX_GAP_RATIO * quiet["gap_p99_ms"]:
        problems.append(f"p99 of gaps: {loud['gap_p99_ms']:.1f} ms, quiet {quiet['gap_p99_ms']:.1f} ms")


def soak(seconds, seed, quiet_seconds=QUIET_SECONDS):
    """(figures, problems)"""
    problems = []
    with tempfile.TemporaryDirectory() as folder:
        cluster = Cluster(folder)
        try:
            quiet = json.loads(run_streams(cluster.url, cluster.key, quiet_seconds).communicate()[0])
            before = cluster.usage()
            epoch = cluster.client.get("/cluster").json()["epoch"]
            streams = run_streams(cluster.url, cluster.key, seconds)
            abuse = subprocess.Popen([sys.executable, str(harness.ROOT / "tests/system/abuse.py"), str(cluster.target),
                                      str(seconds), str(seed)], stdout=subprocess.PIPE, text=True)
            samples = watch(cluster, abuse, seconds)
            loud = json.loads(streams.communicate()[0])
            done = json.loads(abuse.communicate()[0])
            harness.wait_until(lambda: cluster.client.get("/ready").status == 200, 10, "ready at the end")
            time.sleep(3)
            after = cluster.usage()
            compare(quiet, loud, problems)
            growth(samples, before, after, problems)
            state = cluster.client.get("/cluster").json()
            if state["epoch"] != epoch:
                problems.append(f"the plan changed: epoch {epoch}, then {state['epoch']}\n{cluster.coordinator.output()[-4000:]}")
            metrics = cluster.client.metrics()
        except BaseException:
            sys.stderr.write(cluster.coordinator.output()[-8000:])
            raise
        finally:
            cluster.close()
    faults = {name: value for name, value in metrics.items() if name.startswith("shoal_handler_faults_total")}
    if any("exception" in name for name in faults):
        problems.append(f"exceptions in handlers: {faults}")
    for figures in (quiet, loud):
        figures["answers"] = len(figures["answers"])
    return {"seconds": seconds, "seed": seed, "quiet": quiet, "loud": loud, "actions": done, "before": before,
            "after": after, "faults": faults}, problems


def main():
    if sys.argv[1:2] == ["streams"]:
        client = harness.Client(sys.argv[2], {"Authorization": f"Bearer {sys.argv[3]}"})
        print(json.dumps(Streams(client, float(sys.argv[4])).run()))
        return
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 1800
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else int(time.time())
    print(f"seed {seed}, {seconds:.0f} s", flush=True)
    figures, problems = soak(seconds, seed)
    print(json.dumps(figures, indent=1))
    for problem in problems:
        print("PROBLEM:", problem)
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
