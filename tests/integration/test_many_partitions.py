"""10,000 partitions with data in each: created, written, read, recovered after kill -9, within bounded memory and files."""

import json
import unittest

import harness

PARTITIONS = 10000


class ManyPartitions(unittest.TestCase):
    def test_ten_thousand(self):
        server = harness.Server(max_open_files=256).start()
        self.addCleanup(server.close)
        harness.clymq(server, "topic", "create", "t", "--partitions", PARTITIONS, limit_s=200)
        described = harness.describe(server, "t")
        self.assertEqual(len(described["partitions"]), PARTITIONS)
        lines = b"".join(b"%d:message %d\n" % (i, i) for i in range(3 * PARTITIONS))
        harness.clymq(server, "produce", "t", "--key-separator", ":", stdin=lines, limit_s=200)
        before = server.rss_bytes()
        print(f"{before / 1e6:.0f} MB resident with {PARTITIONS} partitions")
        server.kill()
        server.start()
        out = harness.clymq(server, "consume", "t", "--from", "beginning", "--exit-at-end", limit_s=200).stdout.splitlines()
        self.assertEqual(len(out), 3 * PARTITIONS)
        self.assertEqual(sorted(out), sorted(b"message %d" % i for i in range(3 * PARTITIONS)))
        harness.clymq(server, "topic", "delete", "t", "--yes", "--timeout", "180s", limit_s=200)
        topics = json.loads(harness.clymq(server, "topic", "list", "--json").stdout)
        self.assertEqual(topics["topics"], [])
        self.assertEqual(server.stop(), 0)


if __name__ == "__main__":
    harness.main()
