"""The rows: each a function of the context, which measures in pairs, limit and case in turn, and reports."""

import os
import shutil
import subprocess
import time

from . import processes
from .clymq import Server, end_offset_call
from .report import median, spread

BATCH = ["--batch-bytes", "64K"]


def messages(size, each):
    return max(1, size // each)


def bulk(context):
    """pushBatch of 1 KiB messages with ack 1 against the network, the page cache and the bare loop; then pullBatch of the
    same data."""
    runs = []
    for pair in range(context.pairs):
        context.report.note(f"bulk, pair {pair + 1}")
        run = {"loopback": context.limits.loopback(context.bytes), "page_cache": context.limits.page_cache(context.bytes),
               "bare_loop": context.limits.bare_loop(context.bytes)}
        run["push"] = context.server.bench("produce", "bulk", "--method", "pushBatch", "--size", "1K", *BATCH, "--ack", 1,
                                           "--connections", 4, "--depth", 8, "--messages", messages(context.bytes, 1024))
        processes.settle()
        run["pull"] = context.server.bench("consume", "bulk", "--method", "pullBatch", "--connections", 2)
        context.server.delete("bulk")
        runs.append(run)
    pushed = [run["push"]["mb_per_s"] for run in runs]
    context.report.share_row("pushBatch, 1 KiB, 64 KiB batches, ack 1", pushed,
                             [min(run["loopback"], run["page_cache"]) for run in runs], "smaller of loopback, page cache", 60,
                             {"runs": runs})
    cpu = [run["push"]["server"]["cpu_s_per_gb"] for run in runs]
    bare = [run["bare_loop"]["cpu_s_per_gb"] for run in runs]
    beyond = [a - b for a, b in zip(cpu, bare)]
    context.report.row("  its CPU time", spread(cpu, "{:.2f} s/GB"), f"bare loop {median(bare):.2f} s/GB",
                       spread(beyond, "{:+.2f}"), "≤ + 0.40", median(beyond) <= 0.4)
    context.report.share_row("pullBatch of the same", [run["pull"]["mb_per_s"] for run in runs],
                             [run["loopback"] for run in runs], "loopback", 60, {})


def durable(context):
    """ack -1: every answer behind an fdatasync."""
    for partitions, connections, depth, target in ((1, 4, 64, 70), (16, 8, 64, 70), (1000, 16, 64, 35)):
        runs = []
        for pair in range(context.pairs):
            context.report.note(f"durable, {partitions} partitions, pair {pair + 1}")
            limit, batches = context.limits.durable(context.bytes, context.seconds)
            push = context.server.bench("produce", "durable", "--method", "pushBatch", "--size", "1K", *BATCH, "--ack", -1,
                                        "--partitions", partitions, "--connections", connections, "--depth", depth,
                                        "--messages", messages(context.bytes, 1024))
            context.server.delete("durable")
            runs.append({"durable": limit, "batches": batches, "push": push})
        context.report.share_row(f"the same, ack −1, {partitions} partition{'s' if partitions > 1 else ''}",
                                 [run["push"]["mb_per_s"] for run in runs], [run["durable"] for run in runs],
                                 "write + fdatasync", target, {"runs": runs})


def small(context):
    """100-byte messages in batches, pushed and pulled: by prepared calls, and by libclymq."""
    runs = []
    count = messages(context.bytes, 100)
    for pair in range(context.pairs):
        context.report.note(f"100-byte messages, pair {pair + 1}")
        run = {"push": context.server.bench("produce", "small", "--method", "pushBatch", "--size", 100, *BATCH, "--ack", 1,
                                            "--connections", 4, "--depth", 8, "--messages", count)}
        processes.settle()
        run["pull"] = context.server.bench("consume", "small", "--method", "pullBatch", "--connections", 2)
        context.server.delete("small")
        run["library_push"] = context.server.bench("produce", "small", "--size", 100, "--ack", 1, "--messages", count // 4)
        processes.settle()
        run["library_pull"] = context.server.bench("consume", "small")
        context.server.delete("small")
        runs.append(run)
    for name, key, target in (("100 bytes, batched: pushBatch, ack 1", "push", 2e6), ("  pullBatch", "pull", 4e6),
                              ("  pushed through libclymq", "library_push", 0), ("  pulled through libclymq", "library_pull", 0)):
        rates = [run[key]["messages_per_s"] for run in runs]
        context.report.row(name, spread(rates, "{:,.0f}/s"), target=f"≥ {target:,.0f}/s" if target else "",
                           met=median(rates) >= target if target else None, figures={"runs": [run[key] for run in runs]})


def single(context):
    for ack, target in ((1, 500000), (-1, 300000)):
        runs = []
        for pair in range(context.pairs):
            context.report.note(f"single calls, ack {ack}, pair {pair + 1}")
            runs.append(context.server.bench("produce", "single", "--method", "push", "--size", 100, "--ack", ack,
                                             "--connections", 16, "--depth", 64, "--messages", 0, "--duration",
                                             f"{context.seconds * 4}s"))
            context.server.delete("single")
        rates = [run["messages_per_s"] for run in runs]
        cpu = [run["server"]["cpu_us_each"] for run in runs]
        context.report.row(f"push, 64 deep × 16 connections, 100 bytes, ack {ack}".replace("-", "−"),
                           spread(rates, "{:,.0f}/s"), share=spread(cpu, "{:.2f} µs CPU"), target=f"≥ {target:,}/s",
                           met=median(rates) >= target, figures={"runs": runs})


def end_to_end(context):
    runs, rate, seconds = [], 10000, 2 * context.seconds
    for pair in range(context.pairs):
        context.report.note(f"end to end, pair {pair + 1}")
        sync = context.limits.one_sync(context.seconds)
        paced = context.limits.paced(seconds, 1 << 10, rate)
        relayed = context.limits.relayed(seconds, 1 << 10, rate)
        runs.append({"sync_ms": sync, "paced_ms": paced, "relayed_ms": relayed,
                     "e2e": context.server.bench("e2e", "e2e", "--rate", rate, "--size", "1K", "--ack", -1,
                                                 "--messages", rate * seconds)})
        context.server.delete("e2e")
    p99 = [run["e2e"]["latency_ms"]["p99"] for run in runs]
    result = "end to end, 10,000/s, 1 KiB, ack −1: p99"
    for key, limit, target in (("sync_ms", "p99 of one fdatasync", 3),
                               ("paced_ms", "p99 of the same load by write + fdatasync alone", 3),
                               ("relayed_ms", "p99 of the same load through a bare relay", None)):
        base = [run[key]["p99"] for run in runs]
        times = [a / b for a, b in zip(p99, base)]
        context.report.row(result, spread(p99, "{:.2f} ms"), f"{limit} {median(base):.2f} ms", spread(times, "{:.1f} ×"),
                           f"≤ {target} ×" if target else "", median(times) <= target if target else None, {"runs": runs})
        result = "  held against that load without a broker"


def starting(context):
    times = []
    for i in range(context.pairs):
        server = Server(context, f"start{i}")
        times.append(server.start() * 1000)
        server.stop()
        server.remove()
    context.report.row("start to first answer: empty", spread(times, "{:.1f} ms"), target="≤ 20 ms", met=median(times) <= 20,
                       figures={"ms": times})
    medians = {}
    for size in context.log_sizes:
        name = f"  1,000 partitions, {size / 1e9:g} GB, after kill −9"
        context.report.note(f"starting with {size / 1e9:g} GB")
        server = Server(context, "start-full")
        server.start()
        first, every = [], []
        for i in range(3):
            # Again before each kill: there is always something to recover.
            server.bench("produce", "log", "--method", "pushBatch", "--size", "1K", *BATCH, "--ack", 1, "--partitions", 1000,
                         "--connections", 8, "--depth", 16, "--messages", messages(size if i == 0 else min(size, 10**9), 1024))
            server.kill()
            server.start()
            server.first_answer(server.broker_port, end_offset_call("log", "0"))
            first.append((time.monotonic() - server.began) * 1000)
            server.all_answer("log", 1000)
            every.append((time.monotonic() - server.began) * 1000)
        server.kill()
        server.remove()
        processes.settle()
        medians[size] = median(first)
        context.report.row(name, spread(first, "{:.0f} ms"), f"all 1,000 answer {median(every):.0f} ms", "", "≤ 500 ms",
                           median(first) <= 500, {"first_ms": first, "all_ms": every})
    small_log, large_log = medians[context.log_sizes[0]], medians[context.log_sizes[-1]]
    context.report.row("  growth from the smaller log to the larger", f"{large_log - small_log:+.0f} ms", target="≤ a quarter",
                       met=large_log <= small_log * 1.25 + 5)


def idle(context):
    """Memory of a server that has nothing to do; then with connections, or with partitions."""
    resident, each_connection, each_partition = [], [], []
    for i in range(min(3, context.pairs)):
        server = Server(context, f"idle{i}")
        server.start()
        time.sleep(0.5)  # what is put off until after the start has been done
        resident.append(processes.memory(server.pid)[0])
        each_connection.append(server.bench("connections", "--address", f"127.0.0.1:{server.broker_port}", "--connections",
                                            10000)["rss_bytes_per_connection"])
        server.stop()
        server.remove()
        server = Server(context, f"many{i}")
        server.start()
        before = processes.memory(server.pid)[0]
        server.bench("produce", "many", "--method", "pushBatch", "--size", 100, "--batch-bytes", 1, "--partitions", 10000,
                     "--depth", 64, "--messages", 10000, "--ack", 1, "--timeout", "5m")
        each_partition.append((processes.memory(server.pid)[0] - before) / 10000)
        server.stop()
        server.remove()
    mib = [value / (1 << 20) for value in resident]
    context.report.row("resident memory, idle", spread(mib, "{:.1f} MiB"), target="≤ 16 MiB", met=median(mib) <= 16)
    context.report.row("10,000 connections: memory each", spread(each_connection, "{:.0f} B"), target="≤ 4,096 B",
                       met=median(each_connection) <= 4096)
    context.report.row("10,000 partitions, one batch each: memory each", spread(each_partition, "{:.0f} B"),
                       target="≤ 8,192 B", met=median(each_partition) <= 8192)


def loaded(context):
    """Comes after all that loads the server."""
    mib = processes.memory(context.server.pid)[1] / (1 << 20)
    context.report.row("resident memory, at most under all of the load", f"{mib:.1f} MiB", target="≤ 128 MiB", met=mib <= 128)


def size(context):
    if not shutil.which("strip"):
        return context.report.skip("clymqd stripped", "strip is not installed")
    stripped = os.path.join(context.dir, "clymqd.stripped")
    subprocess.run(["strip", "-o", stripped, os.path.join(context.bin, "clymqd")], check=True, timeout=60)
    mib = os.path.getsize(stripped) / (1 << 20)
    context.report.row("clymqd stripped", f"{mib:.2f} MiB", target="≤ 2 MiB", met=mib <= 2)
    return None
