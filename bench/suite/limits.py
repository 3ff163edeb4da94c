"""What the machine itself can do, asked by bench_limits, bare_loop and bare_relay."""

import os

from . import processes

BATCH = 64 << 10


class Limits:
    def __init__(self, context):
        self.context = context

    def measure(self, name, size, seconds=1000, *more):
        return processes.json_of([os.path.join(self.context.bin, "bench_limits"), name, self.context.dir, size, seconds, *more])

    def touch(self, size):
        """Memory that the machine's host never gave it before is slow the first time: take it once."""
        self.measure("touch", size)
        processes.settle()

    def loopback(self, size):
        return self.measure("loopback", size)["mb_per_s"]

    def page_cache(self, size):
        rate = self.measure("page-cache", size)["mb_per_s"]
        processes.settle()
        return rate

    def bare_loop(self, size):
        result = processes.json_of([os.path.join(self.context.bin, "bare_loop"), self.context.dir, size])
        processes.settle()
        return result

    def durable(self, size, seconds):
        """The best of 1 to 16 batches a sync: (MB/s, batches)."""
        best = max((self.measure("sync", size, seconds, BATCH * batches)["mb_per_s"], batches) for batches in (1, 2, 4, 8, 16))
        processes.settle()
        return best

    def one_sync(self, seconds, size=16 << 10):
        """Milliseconds of one fdatasync behind a small write: {"p50", "p99", "max"}."""
        return self.measure("sync", 1 << 40, seconds, size)["sync_ms"]

    def paced(self, seconds, size, rate):
        """Milliseconds until a chunk is durable, with RATE a second due at their times, by write and fdatasync alone."""
        return self.measure("paced", 1 << 40, seconds, size, rate)["durable_ms"]

    def relayed(self, seconds, size, rate):
        """Milliseconds from when a message was due until it was durable and a receiver had it, with no more than a relay between."""
        program = os.path.join(self.context.bin, "bare_relay")
        return processes.json_of([program, self.context.dir, rate * seconds, size, rate])["latency_ms"]
