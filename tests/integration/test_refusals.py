"""What clymqd says when it cannot start or work: one sentence that says what to do, and an exit code that scripts can trust."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import unittest

import harness


class Refusals(unittest.TestCase):
    def setUp(self):
        self.server = harness.Server()
        self.addCleanup(self.server.close)

    def run_server(self, *extra, environment=None):
        done = subprocess.run(
            self.server.command() + list(extra), capture_output=True, timeout=60, env={**os.environ, **(environment or {})})
        return done.returncode, done.stderr.decode()

    def make_data(self):
        self.server.start()
        harness.clymq(self.server, "topic", "create", "t", "--partitions", 1)
        harness.clymq(self.server, "produce", "t", stdin=b"".join(b"%d\n" % i for i in range(1000)))
        self.assertEqual(self.server.stop(), 0)

    def logs(self):
        return [
            os.path.join(folder, name)
            for folder, _, names in os.walk(os.path.join(self.server.data_dir, "data"))
            for name in names if name.endswith(".log")]

    def test_data_folder_in_use(self):
        self.server.start()
        other = harness.Server(self.server.data_dir)
        done = subprocess.run(other.command(), capture_output=True, timeout=60)
        self.assertEqual(done.returncode, 1)
        self.assertIn("in use", done.stderr.decode())
        self.assertIn(self.server.data_dir, done.stderr.decode())

    def test_newer_format(self):
        self.make_data()
        with open(os.path.join(self.server.data_dir, "FORMAT"), "w") as file:
            file.write("clymq-data 99\n")
        code, stderr = self.run_server()
        self.assertEqual(code, 1)
        self.assertIn("newer", stderr)

    def test_foreign_folder(self):
        os.makedirs(self.server.data_dir)
        with open(os.path.join(self.server.data_dir, "precious.txt"), "w") as file:
            file.write("not ours")
        code, stderr = self.run_server()
        self.assertEqual(code, 1)
        self.assertIn(self.server.data_dir, stderr)
        self.assertEqual(os.listdir(self.server.data_dir).count("precious.txt"), 1)

    def test_folder_that_cannot_be(self):
        for folder, word in (("/proc/nope", "cannot be made"), ("/etc/passwd", "not a folder")):
            server = harness.Server(folder)
            done = subprocess.run(server.command(), capture_output=True, timeout=60)
            self.assertEqual(done.returncode, 1)
            self.assertIn(folder, done.stderr.decode())
            self.assertIn(word, done.stderr.decode())

    def test_damaged_metadata(self):
        self.make_data()
        for folder, _, names in os.walk(os.path.join(self.server.data_dir, "meta")):
            for name in names:
                with open(os.path.join(folder, name), "r+b") as file:
                    file.write(b"garbage" * 50)
        code, stderr = self.run_server()
        self.assertEqual(code, 1)
        self.assertIn("meta", stderr)

    def test_lost_metadata(self):
        self.make_data()
        path = os.path.join(self.server.data_dir, "meta")
        kept = self.server.data_dir + ".kept"
        self.addCleanup(shutil.rmtree, kept, ignore_errors=True)
        for lose in (lambda: open(os.path.join(path, "clymq.sqlite"), "w").close(), lambda: shutil.rmtree(path)):
            shutil.copytree(path, kept)
            lose()
            code, stderr = self.run_server()
            self.assertEqual(code, 1)
            self.assertIn("is missing or empty, but data/ holds 1 block", stderr)
            shutil.rmtree(path, ignore_errors=True)
            os.rename(kept, path)
        self.server.start()
        done = harness.clymq(self.server, "consume", "t", "--from", "beginning", "--exit-at-end")
        self.assertEqual(len(done.stdout.splitlines()), 1000)

    def test_damaged_log_is_reported_and_not_served(self):
        self.make_data()
        (log,) = self.logs()
        size = os.path.getsize(log)
        with open(log, "r+b") as file:
            file.seek(size // 2)
            byte = file.read(1)
            file.seek(size // 2)
            file.write(bytes([byte[0] ^ 0x40]))
        self.server.start()
        done = harness.clymq(self.server, "consume", "t", "--from", "beginning", "--exit-at-end", check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("damaged", done.stderr.decode())
        served = done.stdout.splitlines()
        self.assertEqual(served, [b"%d" % i for i in range(len(served))])
        self.server.stop()
        self.assertEqual(os.path.getsize(log), size, "damaged data is kept")
        done = subprocess.run(
            [os.path.join(harness.BIN, "clymq"), "fsck", self.server.data_dir], capture_output=True, timeout=60)
        self.assertEqual(done.returncode, 1)
        self.assertIn(os.path.basename(log), (done.stdout + done.stderr).decode())

    def test_indexes_are_made_again(self):
        self.make_data()
        for log in self.logs():
            for kind in (".index", ".timeindex"):
                path = log[: -len(".log")] + kind
                if os.path.exists(path):
                    with open(path, "wb") as file:
                        file.write(b"\xff" * 999)
        done = subprocess.run(
            [os.path.join(harness.BIN, "clymq"), "fsck", self.server.data_dir], capture_output=True, timeout=60)
        self.assertIn(done.returncode, (0, 1))
        self.server.start()
        out = harness.clymq(self.server, "consume", "t", "--from", "500", "--exit-at-end").stdout.splitlines()
        self.assertEqual(out, [b"%d" % i for i in range(500, 1000)])

    def test_wrong_options(self):
        for extra, word in (
            (["--shrads", "2"], "--shards"),
            (["--shards", "many"], "shards"),
            (["--fsync", "sometimes"], "commit"),
            (["--broker-listen", "nowhere"], "broker"),
            (["--metadata", "zookeeper://127.0.0.1:2181"], "cluster"),
        ):
            code, stderr = self.run_server(*extra)
            self.assertEqual(code, 2, (extra, stderr))
            self.assertIn(word, stderr)
        code, stderr = self.run_server(environment={"CLYMQ_SEGMENT_BYTES": "lots"})
        self.assertEqual(code, 2)
        self.assertIn("CLYMQ_SEGMENT_BYTES", stderr)

    def test_wrong_config_file(self):
        with tempfile.NamedTemporaryFile("w", suffix=".conf") as file:
            file.write("# a comment\nshards = 2\nnonsense = 1\n")
            file.flush()
            code, stderr = self.run_server("--config", file.name)
        self.assertEqual(code, 2)
        self.assertIn(":3:", stderr)

    def test_port_in_use(self):
        self.server.start()
        other = harness.Server()
        self.addCleanup(other.close)
        other.options["broker-listen"] = self.server.options["broker-listen"]
        done = subprocess.run(other.command(), capture_output=True, timeout=60)
        self.assertEqual(done.returncode, 1)
        self.assertIn(str(self.server.broker_port), done.stderr.decode())

    def test_addresses_that_cannot_be(self):
        for option in ("coordinator-listen", "broker-listen", "admin-listen"):
            for address, code, word in (
                ("127.0.0.1: 78", 2, "HOST:PORT"),
                ("::1:7878", 2, "[::1]"),
                ("192.0.2.1:7878", 1, "no such address"),
                ("nobody.invalid:7878", 1, "unknown"),
                (f"127.0.0.1:{self.taken_port()}", 1, "in use"),
            ):
                server = harness.Server()
                self.addCleanup(server.close)
                server.options[option] = address
                done = subprocess.run(server.command(), capture_output=True, timeout=60)
                stderr = done.stderr.decode()
                self.assertEqual(done.returncode, code, (option, address, stderr))
                self.assertIn(word, stderr, (option, address))
                self.assertIn(option if code == 1 else option.replace("-", "_"), stderr)

    def taken_port(self):
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)
        return listener.getsockname()[1]

    def test_read_only_folder(self):
        """Refused with the reason; what only looks may still look."""
        self.make_data()
        folder = tempfile.mkdtemp(prefix="clymq-test-")
        self.addCleanup(os.rmdir, folder)
        bound = subprocess.run(["mount", "--bind", self.server.data_dir, folder], capture_output=True)
        if bound.returncode != 0:
            raise unittest.SkipTest("cannot mount: " + bound.stderr.decode().strip())
        self.addCleanup(subprocess.run, ["umount", "-l", folder])
        subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)
        done = subprocess.run([*self.server.command()[:1], "--data-dir", folder], capture_output=True, timeout=60)
        self.assertEqual(done.returncode, 1)
        self.assertIn("read-only", done.stderr.decode())
        done = subprocess.run([os.path.join(harness.BIN, "clymq"), "fsck", folder], capture_output=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn(b" 0 damaged places", done.stdout)
        done = subprocess.run([os.path.join(harness.BIN, "clymq"), "block", "dump", os.path.dirname(self.logs()[0])],
                              capture_output=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.server.start()  # whoever looks must not keep the server out for longer
        self.assertEqual(self.server.stop(), 0)

    def test_unsafe_fsync_warns(self):
        self.server.options["fsync"] = "never"
        self.server.start()
        self.assertIn("fsync", self.server.log_text())

    def test_second_signal_ends_at_once(self):
        self.server.start()
        self.server.signal(signal.SIGTERM)
        self.server.signal(signal.SIGTERM)
        self.assertIsNotNone(self.server.wait(30))

    def test_a_copy_of_the_folder_serves(self):
        """Backup by copying a stopped folder."""
        self.make_data()
        copy = os.path.join(self.server.own_dir, "copy")
        shutil.copytree(self.server.data_dir, copy)
        server = harness.Server(copy).start()
        self.addCleanup(server.close)
        out = harness.clymq(server, "consume", "t", "--from", "beginning", "--exit-at-end").stdout.splitlines()
        self.assertEqual(out, [b"%d" % i for i in range(1000)])


if __name__ == "__main__":
    harness.main()
