"""What docs/operations.md promises operators: options, metrics, health, log files, reloading, backup, ends."""

import fcntl
import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest
import unittest.mock
import urllib.error
import urllib.request

import harness


def fetch(server, path):
    """The status and body of a page of the admin port."""
    url = f"http://{server.options['admin-listen']}{path}"
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as answer:
        return answer.code, answer.read().decode()


def unanswered(server):
    return sum(int(value) for value in re.findall(r"^clymq_net_inflight_bytes\{.*\} (\d+)$", fetch(server, "/metrics")[1], re.MULTILINE))


def takes_signals(pid):
    """clymqd blocks the signals that it then waits for."""
    with open(f"/proc/{pid}/status") as file:
        blocked = re.search(r"^SigBlk:\s*(\w+)$", file.read(), re.MULTILINE)
    return blocked and int(blocked.group(1), 16) & 1 << (signal.SIGHUP - 1)


class Documents(unittest.TestCase):
    def check(self, tool):
        done = subprocess.run(
            [os.path.join(harness.SOURCE, "tools", tool), "--check"], capture_output=True, timeout=120,
            env={**os.environ, "CLYMQ_BIN": os.path.abspath(harness.BIN)})
        self.assertEqual(done.returncode, 0, done.stdout.decode() + done.stderr.decode())

    def test_options_page_is_up_to_date(self):
        self.check("options-reference")

    def test_metrics_page_is_up_to_date(self):
        self.check("metrics-reference")

    def test_operators_are_told_of_metrics_that_exist(self):
        def named(page):
            with open(os.path.join(harness.SOURCE, "docs", page)) as file:
                return set(re.findall(r"`(clymq_[a-z_]+)", file.read()))

        self.assertEqual(named("operations.md") - named("metrics.md"), set())

    def test_every_metric_is_explained(self):
        """Also those that only appear once something has happened."""
        server = harness.Server(admin_listen=f"127.0.0.1:{harness.free_port()}").start()
        self.addCleanup(server.close)
        harness.clymq(server, "topic", "create", "t")
        harness.clymq(server, "produce", "t", stdin=b"x\n")
        harness.clymq(server, "consume", "t", "--from", "99", "--exit-at-end", check=False)
        with open(os.path.join(harness.SOURCE, "docs", "metrics.md")) as page:
            explained = set(re.findall(r"^\| `(clymq_[a-z_]+)`", page.read(), re.MULTILINE))
        served = set(re.findall(r"^# TYPE (\S+)", fetch(server, "/metrics")[1], re.MULTILINE))
        self.assertIn("clymq_request_errors_total", served)
        self.assertEqual(served, explained)


class Running(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="clymq-operations-")
        self.addCleanup(self.folder.cleanup)
        self.config = os.path.join(self.folder.name, "clymq.conf")
        self.log = os.path.join(self.folder.name, "clymqd.log")

    def configure(self, **values):
        with open(self.config, "w") as file:
            for name, value in values.items():
                file.write(f"{name} = {value}\n")

    def server(self):
        server = harness.Server(
            os.path.join(self.folder.name, "data"), config=self.config,
            admin_listen=f"127.0.0.1:{harness.free_port()}")
        self.addCleanup(server.close)
        return server

    def start(self):
        return self.server().start()

    def logged(self, text):
        if not os.path.exists(self.log):
            return False
        with open(self.log) as file:
            return text in file.read()

    def test_health(self):
        self.configure()
        server = self.start()
        status, body = fetch(server, "/health")
        self.assertEqual(status, 200)
        health = json.loads(body)
        self.assertEqual((health["status"], health["serving"], health["partitions"]), ("ok", True, 0))
        harness.clymq(server, "topic", "create", "t", "--partitions", 3)
        harness.clymq(server, "produce", "t", stdin=b"x\n" * 100)
        for partition in range(3):  # whoever has answered is counted
            harness.clymq(server, "produce", "t", "--partition", partition, stdin=b"x\n")
        self.assertEqual(json.loads(fetch(server, "/health")[1])["partitions"], 3)
        harness.clymq(server, "partition", "create", "t", "north")
        harness.clymq(server, "produce", "t", "--partition", "north", stdin=b"x\n")
        self.assertEqual(json.loads(fetch(server, "/health")[1])["partitions"], 4)
        self.assertEqual(fetch(server, "/nonsense")[0], 404)
        metrics = fetch(server, "/metrics")[1]
        stored = sum(int(value) for value in re.findall(r"^clymq_push_messages_total\{.*\} (\d+)$", metrics, re.MULTILINE))
        self.assertEqual(stored, 104)

    def test_log_that_nobody_reads(self):
        """The server goes on although its standard error is a full pipe; it says later what is missing."""
        self.configure(log_level="trace")
        server = self.server()
        read_end, write_end = os.pipe()
        self.addCleanup(os.close, read_end)
        fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, 4096)
        server.log.close()
        server.log = os.fdopen(write_end, "wb")
        server.start()
        for number in range(100):
            harness.clymq(server, "topic", "create", f"topic{number}", "--partitions", 1, limit_s=20)
            dropped = re.search(r"^clymq_log_dropped_lines_total (\d+)$", fetch(server, "/metrics")[1], re.MULTILINE)
            if int(dropped.group(1)) > 100:
                break
        self.assertGreater(int(dropped.group(1)), 100)
        text = os.read(read_end, 1 << 20)
        harness.clymq(server, "topic", "create", "again")
        text += os.read(read_end, 1 << 20)
        self.assertEqual(server.stop(), 0)
        server.log.close()
        self.assertRegex(text, rb"\n[-0-9T:.]+Z WARN  base   \d+ lines were dropped: ")
        for line in text.splitlines():
            self.assertRegex(line, rb"^[-0-9T:.]+Z [A-Z]+ +[a-z]+ +.*$")

    def test_reload(self):
        self.configure(log_file=self.log, push_wait_ms="5s", segment_bytes="1M")
        server = self.start()
        harness.wait_until(lambda: self.logged("serving"), "it says that it serves")
        # Rotation: move the file away, then SIGHUP. Changed options count, or are named when only a restart changes them.
        os.rename(self.log, self.log + ".1")
        self.configure(log_file=self.log, push_wait_ms="6s", segment_bytes="2M", log_json="true")
        server.signal(signal.SIGHUP)
        harness.wait_until(lambda: self.logged("options read again"), "the new log file says so")
        with open(self.log) as file:
            line = json.loads(file.readline())
        self.assertIn("segment_bytes", json.dumps(line))
        self.assertNotIn("push_wait_ms", json.dumps(line))
        # A mistake changes nothing and is told.
        self.configure(log_file=self.log, push_wait_ms="soon")
        server.signal(signal.SIGHUP)
        harness.wait_until(lambda: self.logged("soon"), "the mistake is told")
        harness.clymq(server, "topic", "create", "t")
        self.assertEqual(server.stop(), 0)
        self.assertTrue(self.logged("stopped"))

    def test_reload_while_it_starts(self):
        """What is asked for before it serves is done once it serves."""
        self.configure(log_file=self.log, segment_bytes="1M")

        def signal_early(server, early):
            end = time.monotonic() + 60
            while not (server.process and takes_signals(server.process.pid)) and time.monotonic() < end:
                pass  # it serves some milliseconds later
            server.signal(signal.SIGHUP)
            early.append(not hasattr(server, "serving_line"))

        for _ in range(20):
            server, early = self.server(), []
            thread = threading.Thread(target=signal_early, args=(server, early))
            thread.start()
            server.start()
            thread.join()
            if early == [True]:
                break
            self.assertEqual(server.stop(), 0)
            os.unlink(self.log)
        self.assertEqual(early, [True])
        harness.wait_until(lambda: self.logged("options read again"), "it says so")

    def test_reload_of_the_grace(self):
        """A stop waits for requests under way as long as the options that were read last say."""
        self.configure(log_file=self.log, shutdown_grace_ms="10m", send_ms="10m")
        server = self.start()
        harness.clymq(server, "topic", "create", "t")
        harness.clymq(server, "produce", "t", stdin=b"".join(b"%d %s\n" % (i, b"x" * 10000) for i in range(127)))
        self.configure(log_file=self.log, shutdown_grace_ms="10ms", send_ms="10m")
        server.signal(signal.SIGHUP)
        harness.wait_until(lambda: self.logged("options read again"), "it has read them")
        types = harness.generated()[2]
        with harness.broker(server) as client:
            for _ in range(64):  # more than fits between the two, and nobody reads it
                client.send_pull(types.PullRequest(consumer="c", topic="t", key="0", offset=0, size=127, option=4))
            harness.wait_until(lambda: unanswered(server) > 0, "requests are under way")
            server.signal(signal.SIGTERM)
            server.wait(30)

    def test_retention_by_option_and_topic(self):
        self.configure(retention_check_ms="100ms", segment_bytes="1M", retention_bytes="2M")
        server = self.start()
        harness.clymq(server, "topic", "create", "short")
        harness.clymq(server, "produce", "short", stdin=b"".join(b"%d %s\n" % (i, b"x" * 1000) for i in range(10000)))

        def first():
            out = harness.clymq(server, "consume", "short", "--from", "beginning", "--count", 1, "--exit-at-end").stdout
            return int(out.split()[0])

        harness.wait_until(lambda: first() > 5000, "the oldest messages are removed")
        self.assertLess(first(), 9000)

    def test_service_manager_is_told(self):
        """systemd's Type=notify: more time while it starts, READY=1 once it serves, STOPPING=1 and the time that
        shutdown_grace_ms needs when it ends; by path and by abstract name."""
        self.configure()
        for name in (os.path.join(self.folder.name, "notify"), f"@clymq-test-{os.getpid()}"):
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
                manager.bind(name.replace("@", "\0"))
                manager.settimeout(60)
                with unittest.mock.patch.dict(os.environ, NOTIFY_SOCKET=name):
                    server = self.start()
                self.assertEqual(manager.recv(100), b"EXTEND_TIMEOUT_USEC=300000000")
                self.assertEqual(manager.recv(100), b"READY=1")
                self.assertEqual(server.stop(), 0)
                self.assertEqual(manager.recv(100), b"STOPPING=1\nEXTEND_TIMEOUT_USEC=70000000")
        with unittest.mock.patch.dict(os.environ, NOTIFY_SOCKET="/nowhere/at/all"):
            self.assertEqual(self.start().stop(), 0)

    def test_end_is_waited_for(self):
        """SIGTERM with a consumer that waits: it ends cleanly and at once, not after shutdown_grace_ms."""
        self.configure(shutdown_grace_ms="60s")
        server = self.start()
        harness.clymq(server, "topic", "create", "t")
        consumer = harness.clymq_start(server, "consume", "t", "--from", "beginning", stdout=subprocess.PIPE)
        harness.clymq(server, "produce", "t", stdin=b"x\n")
        self.assertEqual(consumer.stdout.readline(), b"x\n")
        server.signal(signal.SIGTERM)
        self.assertEqual(server.wait(30), 0)
        consumer.send_signal(signal.SIGINT)
        self.assertEqual(consumer.wait(60), 130)
        consumer.stdout.close()


if __name__ == "__main__":
    harness.main()
