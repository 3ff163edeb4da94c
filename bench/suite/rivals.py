"""NATS JetStream and Redis Streams beside ClyMQ, in turn, each by a small driver on its own client library, ClyMQ by
libclymq. Messages a second, and CPU time of the server a message. What is not installed is skipped and counted."""

import os
import shutil
import socket
import time

from . import processes
from .report import median, spread


class Rival:
    """A server of theirs with a folder of its own, started anew for every measurement: Redis keeps all in memory."""

    def __init__(self, context, name, command):
        self.dir = os.path.join(context.dir, name)
        self.port = processes.free_port()
        shutil.rmtree(self.dir, ignore_errors=True)
        os.makedirs(self.dir)
        with open(os.path.join(self.dir, "log"), "wb") as log:
            self.process = processes.start(command(self), stdout=log, stderr=log, cwd=self.dir)
        processes.wait_until(self.answers, f"{name} serves")

    def answers(self):
        try:
            socket.create_connection(("127.0.0.1", self.port), 5).close()
        except OSError:
            return False
        time.sleep(0.2)  # NATS takes connections a little before JetStream is there
        return True

    def measure(self, driver):
        result = processes.json_of([*driver, self.process.pid], 300)
        result["cpu_us_each"] = result["server_cpu_s"] / result["messages"] * 1e6
        result["rss_max_bytes"] = processes.memory(self.process.pid)[1]
        return result

    def remove(self):
        self.process.terminate()
        processes.ended(self.process)
        shutil.rmtree(self.dir, ignore_errors=True)
        processes.settle()


def redis(context, appendfsync, size, count):
    def command(rival):
        return ["redis-server", "--port", rival.port, "--bind", "127.0.0.1", "--dir", rival.dir, "--appendonly", "yes",
                "--appendfsync", appendfsync, "--save", "", "--daemonize", "no"]

    rival = Rival(context, "redis", command)
    try:
        return rival.measure([os.path.join(context.bin, "rival_redis"), "127.0.0.1", rival.port, count, size, 16, 256, 4])
    finally:
        rival.remove()


def nats(context, size, count):
    def command(rival):
        path = os.path.join(rival.dir, "nats.conf")
        with open(path, "w") as file:
            file.write(f'listen: "127.0.0.1:{rival.port}"\njetstream {{ store_dir: "{rival.dir}/store", max_file_store: 64GB }}\n')
        return ["nats-server", "-c", path]

    rival = Rival(context, "nats", command)
    try:
        return rival.measure([os.path.join(context.bin, "rival_nats"), f"nats://127.0.0.1:{rival.port}", count, size, 4, 4000, 1])
    finally:
        rival.remove()


def ours(context, size, count, ack, *method):
    try:
        done = context.server.bench("produce", "rivals", "--size", size, "--ack", ack, "--messages", count, *method)
        return {**done, "cpu_us_each": done["server"]["cpu_us_each"]}
    finally:
        context.server.delete("rivals")


def missing(context, server, driver):
    if not shutil.which(server):
        return f"{server} is not installed"
    if not os.path.exists(os.path.join(context.bin, driver)):
        return f"{driver} is not built: its client library is missing"
    return None


# Name, what it must have, how it runs, and its durability; our ack level with the same.
RIVALS = (
    ("Redis, appendfsync everysec", "redis-server", "rival_redis", lambda c, s, n: redis(c, "everysec", s, n), 1),
    ("NATS JetStream, its default (fsync every 2 min)", "nats-server", "rival_nats", nats, 1),
    ("Redis, appendfsync always", "redis-server", "rival_redis", lambda c, s, n: redis(c, "always", s, n), -1),
)


def compare(context, name, measure, ack, size):
    theirs, mine = [], []
    for pair in range(context.pairs):
        context.report.note(f"{name}, {size} bytes, pair {pair + 1}")
        count = context.rival_messages[size]
        theirs.append(measure(context, size, count))
        mine.append(ours(context, size, count * 4, ack))
    rate = [run["messages_per_s"] for run in theirs]
    times = [a["messages_per_s"] / b["messages_per_s"] for a, b in zip(mine, theirs)]
    cpu = [a["cpu_us_each"] / b["cpu_us_each"] for a, b in zip(mine, theirs)]
    figures = {"theirs": theirs, "ours": mine}
    context.report.row(f"{size} bytes, libclymq, ack {ack}".replace("-", "−"),
                       spread([run["messages_per_s"] for run in mine], "{:,.0f}/s"), f"{name} {median(rate):,.0f}/s",
                       spread(times, "{:.1f} ×"), "≥ 3 ×", median(times) >= 3, figures)
    context.report.row("  CPU a message", f"{median([run['cpu_us_each'] for run in mine]):.2f} µs",
                       f"{median([run['cpu_us_each'] for run in theirs]):.2f} µs", spread(cpu, "{:.2f} ×"), "≤ 0.5 ×",
                       median(cpu) <= 0.5)


def rivals(context):
    for name, server, driver, measure, ack in RIVALS:
        reason = missing(context, server, driver)
        if reason:
            context.report.skip(name, reason)
            continue
        for size in context.rival_messages:
            compare(context, name, measure, ack, size)
    if not missing(context, "nats-server", "rival_nats"):
        context.report.skip("NATS JetStream, fsync before every answer", "no such option before NATS 2.10; Debian 12 has 2.9")
