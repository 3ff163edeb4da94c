"""A disk that fills up: pushes wait, pulls go on, and pushing resumes by itself when there is room.

The disk is a small file system of its own, mounted for the test (needs root; skipped otherwise).
"""

import atexit
import os
import shutil
import subprocess
import tempfile
import threading
import unittest

import harness

brokers, coordinators, types = harness.generated()
from thrift.Thrift import TApplicationException  # noqa: E402


def push(message, ack=-1):
    return types.PushRequest(
        producer="p", topic="t", key="0", message=message, Ack=ack, Cmdindex=0, StartIndex=0, EndIndex=0, Size=0)


class DiskFull(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="clymq-small-disk-")
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", self.folder], capture_output=True)
        if mounted.returncode != 0:
            os.rmdir(self.folder)
            raise unittest.SkipTest("cannot mount a small file system: " + mounted.stderr.decode().strip())
        self.addCleanup(self.unmount)
        atexit.register(self.unmount)  # a run that is told to end does no clean-ups

    def unmount(self):
        subprocess.run(["umount", "-l", self.folder], capture_output=True)
        shutil.rmtree(self.folder, ignore_errors=True)
        atexit.unregister(self.unmount)

    def fill(self):
        """Takes all the room that is left."""
        with open(os.path.join(self.folder, "filler"), "ab", buffering=0) as filler:
            try:
                while True:
                    filler.write(b"\0" * 65536)
            except OSError:
                pass

    def start(self, **options):
        server = harness.Server(os.path.join(self.folder, "data"), segment_bytes="1M", **options).start()
        self.addCleanup(server.close)
        harness.clymq(server, "topic", "create", "t", "--partitions", 1)
        return server

    def fill_log(self, server):
        """Pushes until one is refused; the number stored."""
        stored = 0
        with harness.broker(server) as client:
            try:
                while client.push(push(b"%08d" % stored + b"x" * 60000)).ret:
                    stored += 1
                    assert stored < 1000, "a disk of 24 MB took 60 MB"
            except TApplicationException as refusal:
                self.assertIn("disk is full", refusal.message)
        return stored

    def count(self, server):
        return len(harness.clymq(server, "consume", "t", "--from", "beginning", "--exit-at-end").stdout.splitlines())

    def test_pushes_wait_and_resume(self):
        server = self.start(push_wait_ms="60s")
        with harness.broker(server) as client:
            self.assertTrue(client.push(push(b"before")).ret)
        self.fill()
        answered = threading.Event()
        answers = []

        def push_much():
            with harness.broker(server, timeout_s=100) as client:
                for i in range(100):
                    answers.append(client.push(push(b"%08d" % i + b"x" * 60000)))
                answered.set()

        pusher = threading.Thread(target=push_much, daemon=True)
        pusher.start()
        # It must come to a stand: the log's preallocated room ends.
        harness.wait_until(lambda: "full" in server.log_text(), "the server says that the disk is full")
        self.assertFalse(answered.is_set())
        self.assertGreaterEqual(self.count(server), 1)
        os.unlink(os.path.join(self.folder, "filler"))
        self.assertTrue(answered.wait(60), "pushing did not resume:\n" + server.log_text())
        pusher.join()
        self.assertEqual([a.err for a in answers if not a.ret], [])
        self.assertEqual(self.count(server), 101)
        self.assertEqual(server.stop(), 0)

    def test_refused_with_the_reason_after_the_wait(self):
        server = self.start(push_wait_ms="300ms")
        stored = self.fill_log(server)
        with harness.broker(server) as client:
            # It may succeed later, so it is no ret=false, which tells clients that it never can.
            with self.assertRaises(TApplicationException) as refusal:
                client.push(push(b"x" * 60000))
        self.assertIn("disk is full", refusal.exception.message)
        self.assertEqual(self.count(server), stored)
        # What was refused stays away, what was acknowledged stays, also through a crash on the full disk.
        server.kill()
        server.start()
        self.assertEqual(self.count(server), stored)
        self.assertEqual(server.stop(), 0)

    def test_starts_on_a_full_disk(self):
        """After a kill and after a clean stop, with another number of shards: what is stored can be read."""
        server = self.start(push_wait_ms="300ms", shards=1)
        with harness.broker(server) as client:
            for i in range(20):
                self.assertTrue(client.push(push(b"%d" % i)).ret)
        self.fill()
        server.kill()
        for shards in (2, 3):
            server.options["shards"] = shards
            server.start()
            self.assertEqual(self.count(server), 20)
            self.fill()
            self.assertEqual(server.stop(), 0)
        os.unlink(os.path.join(self.folder, "filler"))
        server.start()
        with harness.broker(server) as client:
            self.assertTrue(client.push(push(b"20")).ret)
        self.assertEqual(self.count(server), 21)

    def test_topics_are_refused_with_the_reason(self):
        server = self.start(push_wait_ms="300ms")
        self.fill()
        done = harness.clymq(server, "topic", "create", "u", "--partitions", 1, check=False, limit_s=100)
        if done.returncode != 0:
            self.assertIn("full", done.stderr.decode())
        os.unlink(os.path.join(self.folder, "filler"))
        harness.wait_until(
            lambda: harness.clymq(server, "topic", "create", "v", "--partitions", 1, check=False).returncode == 0,
            "topics can be created again")


if __name__ == "__main__":
    harness.main()
