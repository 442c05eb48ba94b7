"""shoal serve on a terminal and on none: log lines, progress and the ready line keep out of each other's way."""
import os
import pathlib
import re
import signal
import subprocess
import tempfile
import unittest

from harness import SHOAL, TINY_DENSE, Server, main
from terminal import Terminal

COLOURS = re.compile(r"\x1b\[[0-9;]*m")
LOG = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3} (debug|info|warning|error) \[[^\]]+\] \S.*")
CONFIG = 'workers:\n  - {name: w0, cores: "1000"}\n  - {name: w1, cores: "1000"}\n'  # cores that no machine has


def rows(raw, columns):
    """What stands on a wide enough screen in the end, and the longest text that was ever replaced."""
    done, row, column, replaced = [], "", 0, ""
    text = COLOURS.sub("", raw.decode(errors="replace"))
    at = 0
    while at < len(text):
        if text.startswith("\x1b[J", at) or text.startswith("\x1b[K", at):
            replaced = max(replaced, row, key=len)
            row, at = row[:column], at + 3
            continue
        char = text[at]
        at += 1
        if char == "\r":
            column = 0
        elif char == "\n":
            done.append(row)
            row, column = "", 0
        elif char == "\x1b":
            raise AssertionError(f"an escape sequence nobody expects: {text[at - 1:at + 10]!r}")
        else:
            if column < len(row):
                raise AssertionError(f"{text[at - 1:at + 40]!r} is written over {row!r}")
            row, column = row + char, column + 1
    if len(replaced) >= columns:
        raise AssertionError(f"progress of {len(replaced)} columns on a terminal of {columns}: {replaced!r}")
    return done + ([row] if row else []), replaced


class OnATerminal(unittest.TestCase):
    def check(self, lines, *others):
        for line in lines:
            if not LOG.fullmatch(line) and not any(re.fullmatch(other, line) for other in others):
                self.fail(f"neither a line of the log nor expected: {line!r}\n" + "\n".join(lines))

    def test_two_workers_start_serve_and_stop(self):
        with Terminal([SHOAL, "serve", TINY_DENSE, "--workers", "2", "--port", "0"], columns=60) as terminal:
            terminal.wait_for(r"ready: http://\S+", seconds=60)
            pid = int(terminal.wait_for(r"worker 'w1' joined: .*, pid (\d+)").group(1))
            mark = terminal.mark()
            os.kill(pid, signal.SIGKILL)
            terminal.wait_for(r"worker w1 \(pid \d+\) was killed by signal 9; starting it again", mark)
            terminal.wait_for(r"plan epoch \d+ serves", mark, seconds=60)
            terminal.type("\x03")
            self.assertEqual(terminal.wait(), 0)
            lines, _ = rows(terminal.raw, 60)
            self.check([line.removeprefix("^C") for line in lines], r"ready: http://\S+  \(2 workers, context \d+\)")
            text = terminal.text()
            self.assertEqual(len(re.findall("shutting down: the server stops", text)), 1, "both say it: once is enough")
            self.assertRegex(text, r"\[w[01], w[01]\] shutting down: the server stops")
            for name in ("w0", "w1"):
                self.assertRegex(text, rf"\[{name}\] rank \d/2 ready")

    def test_progress_gives_way_to_the_log(self):
        for columns in (30, 60, 200):
            with tempfile.TemporaryDirectory() as folder:
                path = pathlib.Path(folder, "c.yaml")
                path.write_text(CONFIG)
                with Terminal([SHOAL, "serve", TINY_DENSE, "--port", "0", "--config", str(path)],
                              columns=columns) as terminal:
                    self.assertEqual(terminal.wait(60), 2)
                    lines, progress = rows(terminal.raw, columns)
                    self.check(lines, r"shoal serve: worker w[01] exited with 2 at once, 5 times in a row.*")
                    self.assertTrue(progress, "no progress was shown")
                    self.assertGreaterEqual(len(lines), 10)

    def test_a_terminal_that_can_only_print(self):
        with Terminal([SHOAL, "serve", TINY_DENSE, "--workers", "2", "--port", "0"], env={"TERM": "dumb"}) as terminal:
            terminal.wait_for(r"ready: http://\S+", seconds=60)
            os.kill(terminal.pid, signal.SIGTERM)
            self.assertEqual(terminal.wait(), 0)
            self.assertNotIn(b"\x1b", terminal.raw)
            self.assertNotIn(b"\r", terminal.raw.replace(b"\r\n", b""))


class OnNoTerminal(unittest.TestCase):
    def test_lines_only(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "c.yaml")
            path.write_text(CONFIG)
            done = subprocess.run([SHOAL, "serve", TINY_DENSE, "--port", "0", "--config", str(path)],
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120)
        self.assertEqual((done.returncode, done.stdout), (2, b""))
        self.assertNotIn(b"\r", done.stderr)
        self.assertNotIn(b"\x1b", done.stderr)
        lines = done.stderr.decode().splitlines()
        why = [line for line in lines if not LOG.fullmatch(line)]
        self.assertEqual(len(why), 1, why)
        self.assertRegex(why[0], "^shoal serve: worker w[01] exited with 2 at once, 5 times in a row")

    def test_workers_log_as_much_as_the_server(self):
        with Server(workers=2, args=["--log-level", "warn"]) as server:
            server.client.chat_text("Hello", max_tokens=2)
        self.assertEqual([line for line in server.lines if not line.startswith("ready: ")], [])
        with Server(workers=2, args=["--log-level", "debug"]) as server:
            server.wait_for_line(r"\[w[01](, w[01])?\] ", 10)


if __name__ == "__main__":
    main()
