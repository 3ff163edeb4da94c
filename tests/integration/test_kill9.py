"""kill -9 in a loop under load, and a checker: what was acknowledged is there once, in order, with its content.

SIGKILL keeps the page cache, so this proves recovery and idempotence, not fsync: that is the simulator's and the
crash test's work.
"""

import base64
import json
import os
import random
import re
import subprocess
import threading
import unittest
import urllib.request

import harness

brokers, coordinators, types = harness.generated()

KILLS = int(os.environ.get("KILLS", "8"))


class KillNine(unittest.TestCase):
    def test_cli_stream_survives(self):
        """One `clymq produce` over many crashes: every line once, in order within its partition."""
        server = harness.Server(shards=2).start()
        self.addCleanup(server.close)
        harness.clymq(server, "topic", "create", "t", "--partitions", 4, "--ack", -1)
        read_end, write_end = os.pipe()
        producer = harness.clymq_start(server, "produce", "t", stdin=read_end, stderr=subprocess.PIPE)
        os.close(read_end)
        rng = random.Random(20261122)
        number = 0
        with os.fdopen(write_end, "wb") as lines:
            for _ in range(KILLS):
                for _ in range(rng.randrange(20000, 60000)):
                    lines.write(b"%d %s\n" % (number, b"x" * (number % 97)))
                    number += 1
                server.kill()
                server.start()
        _, stderr = producer.communicate(timeout=120)
        self.assertEqual(producer.returncode, 0, stderr.decode())
        out = harness.clymq(
            server, "consume", "t", "--from", "beginning", "--exit-at-end").stdout.splitlines()
        self.assertEqual(len(out), number)
        self.assertEqual(sorted(int(line.split()[0]) for line in out), list(range(number)))
        for line in out:
            n, _, rest = line.partition(b" ")
            self.assertEqual(len(rest), int(n) % 97)
        for partition in harness.describe(server, "t")["partitions"]:
            lines = harness.clymq(
                server, "consume", "t", "--partition", partition["name"], "--from", "beginning", "--exit-at-end").stdout
            numbers = [int(line.split()[0]) for line in lines.splitlines()]
            self.assertEqual(numbers, sorted(numbers), "order within partition " + partition["name"])

    def test_foreign_pushes_survive(self):
        """Plain Thrift pushes at -1 and 1 from several threads: every acknowledged one is there; with a session, once."""
        server = harness.Server(shards=2).start()
        self.addCleanup(server.close)
        names = ["a", "b", "c"]
        with harness.coordinator(server) as zk:
            zk.CreateTopic(types.CreateTopicRequest(topic_name="t"))
            for name in names:
                harness.create_partition(zk, "t", name)
        stop = threading.Event()
        acknowledged = [[] for _ in names]
        problems = []

        def run(at, name):
            number = 0
            while not stop.is_set():
                try:
                    with harness.broker(server) as client:
                        while not stop.is_set():
                            message = b"%s %d" % (name.encode(), number)
                            answer = client.push(
                                types.PushRequest(
                                    producer="p" + name, topic="t", key=name, message=message, Ack=-1 if number % 2 else 1,
                                    Cmdindex=number, session=1000 + at, StartIndex=0, EndIndex=0, Size=0))
                            if answer.ret:
                                acknowledged[at].append(message)
                                number += 1
                            elif answer.err != "partition remove":
                                problems.append(answer.err)
                                return
                except Exception as error:  # the server died: the same push goes again on the next connection
                    if stop.is_set():
                        return
                    if "unknown" in str(error):
                        problems.append(str(error))

        threads = [threading.Thread(target=run, args=(at, name), daemon=True) for at, name in enumerate(names)]
        for thread in threads:
            thread.start()
        for _ in range(KILLS):
            before = [len(done) for done in acknowledged]
            harness.wait_until(
                lambda: problems or all(len(done) > b + 50 for done, b in zip(acknowledged, before)),
                "every producer has gone on")
            server.kill()
            server.start()
        stop.set()
        for thread in threads:
            thread.join(60)
            self.assertFalse(thread.is_alive())
        self.assertEqual(problems, [])
        with harness.broker(server) as client:
            for at, name in enumerate(names):
                found, offset = [], 0
                while True:
                    answer = client.pull(
                        types.PullRequest(consumer="c", topic="t", key=name, offset=offset, size=127, option=4))
                    batch = json.loads(answer.Msgs)
                    if not batch:
                        break
                    found += [base64.b64decode(entry["msg"]) for entry in batch]
                    offset = answer.End_index + 1
                expected = acknowledged[at]
                # The last push of each may have been stored without its answer having arrived.
                self.assertEqual(found[: len(expected)], expected)
                self.assertLessEqual(len(found), len(expected) + 1)

    def recovered_bytes(self, server):
        with urllib.request.urlopen(f"http://{server.options['admin-listen']}/metrics", timeout=60) as page:
            text = page.read().decode()
        return sum(int(value) for value in re.findall(r"^clymq_recovered_bytes_total\{.*\} (\d+)$", text, re.MULTILINE))

    def test_clean_stop_reads_nothing_again(self):
        server = harness.Server(admin_listen=f"127.0.0.1:{harness.free_port()}").start()
        self.addCleanup(server.close)
        harness.clymq(server, "topic", "create", "t", "--partitions", 2)
        harness.clymq(server, "produce", "t", stdin=b"".join(b"line %d\n" % i for i in range(1000)))
        server.kill()
        server.start()
        self.assertGreater(self.recovered_bytes(server), 0)
        self.assertEqual(server.stop(), 0)
        server.start()
        self.assertEqual(self.recovered_bytes(server), 0)
        out = harness.clymq(server, "consume", "t", "--from", "beginning", "--exit-at-end").stdout
        self.assertEqual(sorted(out.splitlines()), sorted(b"line %d" % i for i in range(1000)))


if __name__ == "__main__":
    harness.main()
