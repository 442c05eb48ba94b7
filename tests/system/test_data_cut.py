"""The data network between two hosts is cut for 8 s while the control network stays: noticed, named, healed."""
import json
import pathlib
import sys
import tempfile
import threading
import time
import unittest

import harness
import test_failure
import test_gloo_hosts


class TwoNetworks(test_gloo_hosts.Hosts):
    """Besides the network of test_gloo_hosts one for data, 10.78.0.0/24 on eth1."""

    def __init__(self, count):
        super().__init__(count)
        run = test_gloo_hosts.run
        self.switch("ip", "link", "add", "br1", "type", "bridge")
        self.switch("ip", "link", "set", "br1", "up")
        for i in range(count):
            name = f"{self.tag}h{i}"
            self.switch("ip", "link", "add", f"q{i}", "type", "veth", "peer", "name", "eth1", "netns", name)
            self.switch("ip", "link", "set", f"q{i}", "master", "br1", "up")
            run("ip", "-n", name, "addr", "add", f"10.78.0.{i + 1}/24", "dev", "eth1")
            run("ip", "-n", name, "link", "set", "eth1", "up")

    def data_cable(self, host, state):
        # The switch's end: the hosts see silence, as with a broken switch, and no address disappears.
        self.switch("ip", "link", "set", f"q{host}", "nomaster" if state == "cut" else "master",
                    *([] if state == "cut" else ["br1"]))


class DataCut(unittest.TestCase):
    def test_cut_for_8_seconds(self):
        hosts = TwoNetworks(2)
        processes = []
        try:
            with tempfile.TemporaryDirectory() as folder:
                self.start(hosts, folder, processes)
                self.cut(hosts, processes)
        except AssertionError as error:
            raise AssertionError(f"{error}\n" + "\n".join(p.output()[-3000:] for p in processes)) from None
        finally:
            for process in reversed(processes):
                process.stop(10)
            hosts.close()

    def start(self, hosts, folder, processes):
        names = ["node0", "node1"]
        test_gloo_hosts.run(harness.SHOAL, "keygen", "--dir", f"{folder}/keys", "--workers", *names)
        path = pathlib.Path(folder) / "cluster.yaml"
        path.write_text(test_gloo_hosts.config(harness.TINY_DENSE, f"{folder}/keys", names))
        coordinator = harness.Process(hosts.argv(0, [harness.SHOAL, "coordinator", "--config", str(path)]))
        processes.append(coordinator)
        for i, name in enumerate(names):
            processes.append(harness.Process(hosts.argv(i, [
                harness.SHOAL, "worker", "--coordinator", "tcp://10.77.0.1:7070", "--server-key-file",
                f"{folder}/keys/coordinator.pub", "--key-file", f"{folder}/keys/{name}.key", "--name", name,
                "--threads", "1", "--data-address", f"10.78.0.{i + 1}"])))
        coordinator.wait_for_line(r"ready: http", 60)

    def cut(self, hosts, processes):
        child = harness.Process(hosts.argv(0, [sys.executable, __file__, "--child"]),
                                env={"SHOAL_BUILD_DIR": str(harness.BUILD), "PYTHONUNBUFFERED": "1"})
        processes.append(child)
        child.wait_for_line("flows", 120)
        cut = time.monotonic()
        hosts.data_cable(1, "cut")
        child.wait_for_line('"ready": 503', 40)
        processes[0].wait_for_line(r"plan epoch \d+ ended: .*did not return", 40)
        given_up = time.monotonic() - cut
        time.sleep(max(0.0, cut + 8 - time.monotonic()))
        hosts.data_cable(1, "whole")
        healed = time.monotonic()
        child.wait_for_line("answer", 90)
        seen = [json.loads(line) for line in child.output().splitlines() if line.startswith("{")]
        noticed = next(s["t"] for s in seen if s.get("ready") == 503) - cut
        ended = next(s for s in seen if s.get("what") == "stream ended")
        flowed = next(s for s in seen if s.get("what") == "flows")
        again = next(s["t"] for s in seen if s.get("what") == "ready again") - healed
        overdue = max(1.0, 8 * flowed["slowest"])  # what is promised: see docs/operations.md
        print(f"slowest step {1000 * flowed['slowest']:.0f} ms; cut noticed after {noticed:.2f} s, ready {again:.2f} s after the repair")
        self.assertLess(noticed, (overdue + 1) * harness.SLOWDOWN)
        self.assertLess(given_up, (2 * overdue + 1) * harness.SLOWDOWN)
        self.assertEqual(ended["last"], "[DONE]", "the stream goes on after the repair")
        self.assertEqual(ended["text"], flowed["undisturbed"], "nothing is missing, nothing comes twice")
        self.assertIn("9", next(s["text"] for s in seen if s.get("what") == "answer"))
        for process in processes[:3]:
            self.assertIsNone(process.process.poll(), "no process had to go")


def say(**what):
    print(json.dumps({"t": time.monotonic(), **what}))


def child():
    client = harness.Client("http://10.77.0.1:8080")
    client.chat_text("What is 1 plus 8?", max_tokens=40, ignore_eos=True)  # the first steps are not judged
    body = {"model": "m", "max_tokens": 1200, "ignore_eos": True, "temperature": 0,
            "messages": [{"role": "user", "content": "Tell me a story about a brave fox and a lamp."}]}
    undisturbed, times = [], []
    for event in client.stream("/v1/chat/completions", body):
        undisturbed.append(event)
        times.append(time.monotonic())
    slowest = max(b - a for a, b in zip(times, times[1:]))
    events = []

    def consume():
        for event in client.stream("/v1/chat/completions", body):
            events.append(event)
            if len(events) == 20:
                say(what="flows", slowest=slowest, undisturbed=test_failure.content(undisturbed))
        say(what="stream ended", last=events[-1], text=test_failure.content(events))

    thread = threading.Thread(target=consume)
    thread.start()
    status = lost = 0
    while not (lost and status == 200 and not thread.is_alive()):
        was, status = status, client.get("/ready").status
        if status != was:
            say(ready=status)
        lost = lost or status == 503
        time.sleep(0.02)
    say(what="ready again")
    say(what="answer", text=client.chat_text("What is 1 plus 8?", max_tokens=16, temperature=0))


if __name__ == "__main__":
    if "--child" in sys.argv:
        child()
    else:
        harness.main()
