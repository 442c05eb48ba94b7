"""What processes inherit from each other and leave behind."""
import http.client
import json
import os
import signal
import socket
import subprocess
import threading
import time
import unittest

import harness

STORY = "Tell me a story about a brave fox and a lamp."
CLOSE_ON_EXEC = 0o2000000


def descriptors(pid):
    """{number: what it is, as in "socket:[4711]"}."""
    out = {}
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            out[int(name)] = os.readlink(f"/proc/{pid}/fd/{name}")
        except FileNotFoundError:
            pass  # closed meanwhile
    return out


def sockets(pid):
    return {what for what in descriptors(pid).values() if what.startswith("socket:")}


def tcp_sockets(port):
    """{inode as in /proc/PID/fd: state} of the sockets of this machine with this local port."""
    out = {}
    for table in ("tcp", "tcp6"):
        with open(f"/proc/net/{table}") as lines:
            next(lines)
            for line in lines:
                words = line.split()
                if int(words[1].split(":")[1], 16) == port:
                    out[f"socket:[{words[9]}]"] = words[3]
    return out


LISTEN = "0A"


def kept_on_exec(pid):
    """[(pid, number, what it is)] of the descriptors that a program started by this process would inherit."""
    out = []
    for number, what in descriptors(pid).items():
        if number <= 2 or (number == 3 and "memfd" in what):  # a worker's key was given on purpose
            continue
        try:
            with open(f"/proc/{pid}/fdinfo/{number}") as info:
                flags = next(int(line.split()[1], 8) for line in info if line.startswith("flags"))
        except FileNotFoundError:
            continue
        if not flags & CLOSE_ON_EXEC:
            out.append((pid, number, what))
    return out


def long_stream(client):
    """A connection on which tokens flow for a long time."""
    connection = client.connect()
    connection.request("POST", "/v1/chat/completions", json.dumps({
        "model": "m", "stream": True, "max_tokens": 1800, "ignore_eos": True,
        "messages": [{"role": "user", "content": STORY}]}), {"Content-Type": "application/json"})
    response = connection.getresponse()
    assert response.status == 200, response.status
    response.readline()
    return connection, response


def read_on(response):
    """Reads in the background until the stream ends."""
    def run():
        try:
            while response.readline():
                pass
        except (OSError, http.client.HTTPException, AttributeError, ValueError):
            pass
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def restart_of(server, victim):
    """Kills a worker and waits until another serves in its place."""
    os.kill(victim, signal.SIGKILL)
    harness.wait_until(lambda: server.client.get("/ready").status == 200 and
                       victim not in server.worker_pids(), 30, "the worker is back")


class Inheritance(unittest.TestCase):
    def test_workers_hold_nothing_of_the_http_side(self):
        spare = os.open("/dev/null", os.O_RDONLY)  # what a careless parent leaves open
        with harness.Server(workers=2, args=["--drain", "20s"], pass_fds=[spare]) as server:
            idle = [server.client.connect() for _ in range(4)]
            for connection in idle:
                connection.connect()
            first, response = long_stream(server.client)
            reader = read_on(response)
            restart_of(server, server.worker_pids()[1])
            reader.join(30 * harness.SLOWDOWN)
            second, response = long_stream(server.client)
            reader = read_on(response)
            http_side = tcp_sockets(server.client.port)
            own = sockets(server.pid) & set(http_side)
            self.assertGreaterEqual(len(own), 6, "a listener and five connections")
            for pid in server.worker_pids():
                self.assertEqual(sockets(pid) & set(http_side), set(), f"worker {pid}")
                # The key, and what the worker opened by itself.
                self.assertNotIn("/dev/null", [what for number, what in descriptors(pid).items() if number > 0])
            # While it drains nobody else listens, and afterwards nobody does.
            server.signal(signal.SIGTERM)
            time.sleep(0.3)
            for inode, state in tcp_sockets(server.client.port).items():
                if state == LISTEN:
                    self.assertIn(inode, sockets(server.pid))
            for connection in [first, second, *idle]:
                connection.close()
            self.assertEqual(server.process.wait(20 * harness.SLOWDOWN), 0)
            with self.assertRaises(ConnectionRefusedError):
                socket.create_connection((server.client.host, server.client.port), 2).close()

    def test_every_descriptor_is_closed_on_exec(self):
        with harness.Server(workers=2) as server:
            pids = [server.pid, *server.worker_pids()]
            connection, _ = long_stream(server.client)

            def kept():
                return [item for pid in pids for item in kept_on_exec(pid)]

            # What a connection that ends just now leaves for a moment does not count.
            harness.wait_until(lambda: not kept(), 3, f"closed on exec: {kept()}")
            connection.close()


if __name__ == "__main__":
    harness.main()
