"""bench/run by itself, with little data: every row that was asked for is there with its limit, and nothing stays behind."""

import json
import os
import subprocess
import sys
import tempfile
import unittest

import harness


class BenchRun(unittest.TestCase):
    def setUp(self):
        for program in ("bench_limits", "bare_loop", "bare_relay"):
            if not os.path.exists(os.path.join(harness.BIN, program)):
                self.skipTest(f"{program} is not built")

    def run_bench(self, *flags):
        with tempfile.TemporaryDirectory(prefix="clymq-bench-", dir=os.path.abspath(harness.BIN)) as own:
            data, result = os.path.join(own, "data"), os.path.join(own, "result.json")
            os.mkdir(data)
            with open(os.path.join(data, "theirs"), "w"):
                pass
            done = subprocess.run([sys.executable, os.path.join(harness.SOURCE, "bench", "run"), "--quick", "--bin",
                                   os.path.abspath(harness.BIN), "--dir", data, "--json", result, *flags],
                                  capture_output=True, text=True, timeout=250, check=False)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(os.listdir(data), ["theirs"], "its data is removed, and nothing else")
            with open(result) as file:
                return done.stdout, json.load(file)

    def test_rows(self):
        table, result = self.run_bench("--bytes", "10M", "--pairs", "2", "--only", "bulk", "small", "end_to_end", "loaded", "size")
        rows = {row["row"].strip(): row for row in result["rows"]}
        self.assertEqual(result["about"]["pairs"], 2)
        self.assertEqual(result["skipped"], [])
        for name in ("pushBatch, 1 KiB, 64 KiB batches, ack 1", "pullBatch of the same", "100 bytes, batched: pushBatch, ack 1",
                     "end to end, 10,000/s, 1 KiB, ack −1: p99", "clymqd stripped"):
            self.assertIn(name, rows)
            self.assertIn(name, table)
            self.assertIsInstance(rows[name]["met"], bool)
        runs = rows["pushBatch, 1 KiB, 64 KiB batches, ack 1"]["figures"]["runs"]
        self.assertEqual(len(runs), 2)
        for run in runs:
            self.assertGreater(min(run["loopback"], run["page_cache"], run["bare_loop"]["mb_per_s"]), 0)
            self.assertGreaterEqual(run["push"]["bytes"], 10**7 - 1024)
            self.assertEqual(run["push"]["messages"], run["pull"]["messages"])
        for run in rows["end to end, 10,000/s, 1 KiB, ack −1: p99"]["figures"]["runs"]:
            self.assertGreater(run["relayed_ms"]["p50"], run["sync_ms"]["p50"] / 2, "a relayed message waits for its sync")
        # The share is that of the smaller limit, of the pairs' median.
        shares = sorted(100 * run["push"]["mb_per_s"] / min(run["loopback"], run["page_cache"]) for run in runs)
        self.assertTrue(rows["pushBatch, 1 KiB, 64 KiB batches, ack 1"]["share"].startswith(f"{sum(shares) / 2:.0f} %"))

    def test_failures_are_told(self):
        done = subprocess.run([sys.executable, os.path.join(harness.SOURCE, "bench", "run"), "--only", "nonsense"],
                              capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(done.returncode, 2)
        self.assertIn("nonsense", done.stderr)


if __name__ == "__main__":
    harness.main()
