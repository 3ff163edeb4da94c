"""The commands of clymq against a real server: every option of topic, partition, produce, consume and bench, and how they end."""

import json
import os
import signal
import subprocess
import tempfile
import unittest

import harness

RECORD_WORDS = [b"plain", b"", b"with\0nul", b"\xff\xfe not text", "北京".encode(), b"tab\there", b'quote " and \\']


class CommandLine(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = harness.Server().start()
        cls.count = 0

    @classmethod
    def tearDownClass(cls):
        cls.server.close()

    def clymq(self, *arguments, **more):
        return harness.clymq(self.server, *arguments, **more)

    def topic(self, partitions=1, **options):
        CommandLine.count += 1
        name = f"topic-{CommandLine.count}"
        flags = [word for key, value in options.items() for word in ("--" + key, str(value))]
        self.clymq("topic", "create", name, "--partitions", partitions, *flags)
        return name

    def read(self, topic, *flags):
        return self.clymq("consume", topic, "--from", "beginning", "--exit-at-end", *flags).stdout

    def test_topics(self):
        name = self.topic(partitions=3)
        again = self.clymq("topic", "create", name, check=False)
        self.assertEqual(again.returncode, 1)
        self.assertIn(b"already exists", again.stderr)
        self.assertIn(f"{name}\t3\n".encode(), self.clymq("topic", "list").stdout)
        self.assertEqual(self.clymq("topic", "list", "no-such").stdout, b"")
        topics = json.loads(self.clymq("topic", "list", name, "--json").stdout)["topics"]
        self.assertEqual([(topic["name"], topic["partitions"]) for topic in topics], [(name, 3)])
        self.clymq("partition", "create", name, "north")
        described = json.loads(self.clymq("topic", "describe", name, "--json").stdout)
        self.assertEqual([p["name"] for p in described["partitions"]], ["0", "1", "2", "north"])
        text = self.clymq("topic", "describe", name).stdout.decode()
        self.assertIn("north", text)
        self.clymq("partition", "set", name, "north", "--ack", "1")
        described = json.loads(self.clymq("topic", "describe", name, "--json").stdout)
        self.assertEqual(described["partitions"][3]["ack"], 1)
        self.clymq("partition", "delete", name, "north", "--yes")
        self.assertEqual(json.loads(self.clymq("topic", "delete", name, "--yes", "--json").stdout),
                         {"topic": name, "deleted": True})
        gone = self.clymq("topic", "describe", name, check=False)
        self.assertEqual(gone.returncode, 1)
        self.assertIn(b"unknown topic", gone.stderr)

    def test_any_bytes(self):
        name = self.topic()
        self.clymq("produce", name, stdin=b"\n".join(RECORD_WORDS))
        self.assertEqual(self.read(name), b"\n".join(RECORD_WORDS) + b"\n")
        self.assertEqual(self.read(name, "--format", "hex").split(b"\n")[2], b"with\0nul".hex().encode())
        lines = [json.loads(line) for line in self.read(name, "--json").splitlines()]
        self.assertEqual([line["offset"] for line in lines], sorted(line["offset"] for line in lines))
        self.assertEqual(lines[0]["value"], "plain")
        self.assertEqual(lines[1]["value"], "")
        self.assertNotIn("value", lines[3])
        self.assertEqual(lines[4]["value"], "北京")
        self.assertEqual(lines[6]["value"], 'quote " and \\')
        self.assertEqual(self.read(name, "--format", "none"), b"")

    def test_whole_file(self):
        name = self.topic()
        data = os.urandom(3_000_000)
        with tempfile.NamedTemporaryFile() as file:
            file.write(data)
            file.flush()
            self.clymq("produce", name, "--file", file.name, "--whole-file", "--header", "a=1", "--header=b=2=3")
        self.assertEqual(self.read(name), data + b"\n")
        line = json.loads(self.read(name, "--json"))
        self.assertEqual(line["headers"], [{"key": "a", "value": "1"}, {"key": "b", "value": "2=3"}])

    def test_keys(self):
        name = self.topic(partitions=4)
        lines = [b"key%d=value=%d" % (i % 10, i) for i in range(1000)] + [b"no key here"]
        self.clymq("produce", name, "--key-separator", "=", stdin=b"\n".join(lines))
        seen = {}
        for line in self.read(name, "--print-key", "--print-partition").splitlines():
            partition, key, value = line.split(b"\t")
            if value == b"no key here":
                self.assertEqual(key, b"")
                continue
            seen.setdefault(key, []).append((partition, int(value[6:])))
        self.assertEqual(len(seen), 10)
        for key, messages in seen.items():
            self.assertEqual(len({partition for partition, _ in messages}), 1, key)
            self.assertEqual([number for _, number in messages], list(range(int(key[3:]), 1000, 10)))

    def test_spread_and_compressions(self):
        name = self.topic(partitions=4)
        expected = []
        for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
            lines = [b"%s line %d" % (codec.encode(), i) for i in range(20000)]
            expected += lines
            done = self.clymq("produce", name, "--compression", codec, "--batch-bytes", "16K", "--json",
                              stdin=b"\n".join(lines))
            summary = json.loads(done.stdout)
            self.assertEqual((summary["acknowledged"], summary["failed"]), (20000, 0))
        rows = [line.split(b"\t") for line in self.read(name, "--print-partition").splitlines()]
        self.assertEqual(sorted(value for _, value in rows), sorted(expected))
        self.assertEqual({partition for partition, _ in rows}, {b"0", b"1", b"2", b"3"})

    def test_places(self):
        name = self.topic()
        self.clymq("produce", name, "--partition", "0", stdin=b"".join(b"%d\n" % i for i in range(100)))
        offsets = [int(line.split(b"\t")[0]) for line in self.read(name, "--print-offset").splitlines()]
        stamps = [int(line.split(b"\t")[0]) for line in self.read(name, "--print-timestamp").splitlines()]
        middle = self.clymq("consume", name, "--partition", "0", "--from", offsets[50], "--count", "3").stdout
        self.assertEqual(middle, b"50\n51\n52\n")
        for place in (f"@{stamps[0]}", "-1h", "2020-01-01T00:00:00Z"):
            out = self.clymq("consume", name, "--from", place, "--no-follow").stdout
            self.assertEqual(out.splitlines()[0], b"0", place)
        late = self.clymq("consume", name, "--from", f"@{stamps[-1] + 1}", "--exit-at-end").stdout
        self.assertEqual(late, b"")
        out = self.clymq("consume", name, "--from", offsets[-1] + 1000, "--count", "1", check=False)
        self.assertEqual(out.returncode, 1)
        self.assertIn(b"offset out of range", out.stderr)

    def test_follow_and_interrupt(self):
        name = self.topic(partitions=2)
        consumer = harness.clymq_start(self.server, "consume", name, "--from", "beginning", stdout=subprocess.PIPE)
        for i in range(3):
            self.clymq("produce", name, stdin=b"message %d\n" % i)
            self.assertEqual(consumer.stdout.readline(), b"message %d\n" % i)
        consumer.send_signal(signal.SIGINT)
        self.assertEqual(consumer.wait(30), 130)
        consumer.stdout.close()

    def test_interrupted_producer_finishes_what_it_took(self):
        name = self.topic()
        producer = harness.clymq_start(self.server, "produce", name, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        producer.stdin.write(b"one\ntwo\n")
        producer.stdin.flush()
        self.assertEqual(self.clymq("consume", name, "--from", "beginning", "--count", "2").stdout, b"one\ntwo\n")
        producer.send_signal(signal.SIGINT)
        self.assertEqual(producer.wait(30), 130)
        self.assertIn(b"2 messages were sent and all of them acknowledged", producer.stderr.read())
        producer.stdin.close()
        producer.stderr.close()

    def test_closed_pipe(self):
        name = self.topic()
        self.clymq("produce", name, stdin=b"line\n" * 200000)
        consumer = harness.clymq_start(self.server, "consume", name, "--from", "beginning", stdout=subprocess.PIPE,
                                       stderr=subprocess.PIPE)
        self.assertEqual(consumer.stdout.readline(), b"line\n")
        consumer.stdout.close()
        self.assertEqual(consumer.wait(30), 0)
        self.assertEqual(consumer.stderr.read(), b"")
        consumer.stderr.close()

    def test_rate(self):
        name = self.topic()
        done = self.clymq("produce", name, "--rate", "100", "--json", stdin=b"x\n" * 51)
        self.assertGreaterEqual(json.loads(done.stdout)["seconds"], 0.49)

    def test_refusals(self):
        name = self.topic(ack=1)
        done = self.clymq("produce", name, "--ack", "-1", stdin=b"x\n", check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"0 of 1 messages were acknowledged", done.stderr)
        self.assertIn(b"ack level", done.stderr)
        done = self.clymq("produce", name, "--ack", "1", "--partition", "nowhere", stdin=b"x\n", check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"unknown partition", done.stderr)
        self.assertEqual(self.read(name), b"")

    def test_bench(self):
        done = json.loads(self.clymq("bench", "produce", "bench", "--messages", "20000", "--partitions", "2", "--json").stdout)
        self.assertEqual((done["messages"], done["failed"]), (20000, 0))
        self.assertLessEqual(done["latency_ms"]["p50"], done["latency_ms"]["p99"])
        done = json.loads(self.clymq("bench", "consume", "bench", "--json").stdout)
        self.assertEqual((done["messages"], done["bytes"]), (20000, 2000000))
        self.assertIn(b"messages/s", self.clymq("bench", "consume", "bench").stdout)

    def test_examples(self):
        produce, consume = (os.path.join(harness.BIN, name) for name in ("example-produce", "example-consume"))
        if not os.path.exists(produce):
            self.skipTest("the examples are not built")
        name = self.topic()
        subprocess.run([produce, name, self.server.coordinator], input=b"one\ntwo\n", check=True, timeout=60)
        with subprocess.Popen([consume, name, "0", self.server.coordinator], stdout=subprocess.PIPE) as consumer:
            self.assertEqual([consumer.stdout.readline().split(b"\t")[1] for _ in range(2)], [b"one\n", b"two\n"])
            consumer.kill()


if __name__ == "__main__":
    harness.main()
