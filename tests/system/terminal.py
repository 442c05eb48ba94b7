"""A program in a pseudo-terminal, for tests that type and look. Standard library only."""
import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time

from harness import SLOWDOWN

ESCAPES = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][A-Z0-9]|\x1b[=>]")


class Terminal:
    """Whatever `argv` prints is kept; what it does not read within the time is no obstacle."""

    def __init__(self, argv, env=None, columns=80, rows=24, stdout=None):
        self.raw = b""
        self.status = None
        window = struct.pack("HHHH", rows, columns, 0, 0)
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, window)
            if stdout is not None:
                os.dup2(stdout, 1)
            full = {**os.environ, "TERM": "xterm-256color", "LANG": "C", **(env or {})}
            os.execve(argv[0], argv, {name: value for name, value in full.items() if value is not None})
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, window)

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        self.close()
        if kind is not None:
            print(f"--- terminal\n{self.text()[-6000:]}\n--- raw\n{self.raw[-3000:]!r}")

    def close(self):
        if self.status is None:
            try:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
            except (ProcessLookupError, ChildProcessError):
                pass
            self.status = -9
        if self.master >= 0:
            os.close(self.master)
            self.master = -1

    def type(self, text):
        data = text.encode() if isinstance(text, str) else text
        while data:
            self.pump(0)
            _, ready, _ = select.select([], [self.master], [], 10 * SLOWDOWN)
            if not ready:
                raise AssertionError("the program does not read what is typed")
            data = data[os.write(self.master, data[:512]):]

    def pump(self, seconds):
        """Reads what is there, waiting at most so long for something; whether something came."""
        ready, _, _ = select.select([self.master], [], [], seconds)
        if not ready:
            return False
        try:
            got = os.read(self.master, 65536)
        except OSError:
            got = b""
        self.raw += got
        return bool(got)

    def text(self, start=0):
        """What was printed from byte `start` of `raw` on, without escape sequences and returns."""
        return ESCAPES.sub(b"", self.raw[start:]).replace(b"\r", b"").decode(errors="replace")

    def mark(self):
        return len(self.raw)

    def wait_for(self, pattern, start=0, seconds=20):
        """Until text() from `start` matches; the match."""
        deadline = time.monotonic() + seconds * SLOWDOWN
        while True:
            match = re.search(pattern, self.text(start))
            if match:
                return match
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {seconds} s on the terminal: {pattern}\n{self.text(start)[-3000:]}")
            if not self.pump(0.1) and self.ended():
                while self.pump(0):
                    pass
                match = re.search(pattern, self.text(start))
                if match:
                    return match
                raise AssertionError(f"the program ended; not on the terminal: {pattern}\n{self.text(start)[-3000:]}")

    def settle(self, seconds=0.3):
        """Until nothing came for so long."""
        while self.pump(seconds):
            pass

    def ended(self):
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
        return self.status is not None

    def wait(self, seconds=20):
        """The exit code."""
        deadline = time.monotonic() + seconds * SLOWDOWN
        while not self.ended():
            self.pump(0.05)
            if time.monotonic() > deadline:
                raise AssertionError(f"it does not end\n{self.text()[-3000:]}")
        while self.pump(0):
            pass
        return self.status

    def resize(self, columns, rows=24):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def echoes(self):
        """Whether the terminal shows what is typed, and gives it line by line."""
        flags = termios.tcgetattr(self.master)[3]
        return bool(flags & termios.ECHO) and bool(flags & termios.ICANON)
