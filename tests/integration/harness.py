"""What the integration tests share: starting and ending clymqd, running clymq, and Thrift clients generated from the IDL.

Every server listens on 127.0.0.1 on ports of its own, has a temporary data folder, and is ended by its process id when the
test ends. Waiting is for events (a line of output, an answer), never for a time to pass.
"""

import atexit
import json
import os
import resource
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

BIN = os.environ.get("CLYMQ_BIN", "build/release/bin")
SOURCE = os.environ.get("CLYMQ_SOURCE", os.path.join(os.path.dirname(__file__), "..", ".."))
START_LIMIT_S = 60

# What a program that is told to end must not leave running; servers and clients of clymq_start.
running = set()


def end_all():
    for process in list(running):
        if process.poll() is None:
            process.kill()
            process.wait()
        running.discard(process)


def on_end(number, frame):
    """As Ctrl-C: `finally` and atexit do the rest. SystemExit would be one failed test among others to unittest. Servers end
    before, since Python waits for threads, which may wait for them, before atexit."""
    for other in ENDING:
        signal.signal(other, signal.SIG_IGN)
    end_all()
    signal.default_int_handler(number, frame)


def leave_to_parent():
    for number in ENDING:
        signal.signal(number, signal.SIG_DFL)


ENDING = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) != signal.SIG_IGN]  # nohup ignores one
for ending in ENDING:
    signal.signal(ending, on_end)
os.register_at_fork(after_in_child=leave_to_parent)
atexit.register(end_all)


def free_port():
    """A port that nobody uses, below the range from which the kernel takes client ports, so that it stays free over a restart.

    It stays ours for the life of this program: the UDP port of the same number, which no server of ours uses, is kept. Otherwise
    two test programs could be given the same one, both before either's server listens there.
    """
    start = 20000 + (os.getpid() * 7) % 10000
    for port in range(start, start + 2000):
        reservation = socket.socket(type=socket.SOCK_DGRAM)
        try:
            reservation.bind(("127.0.0.1", port))
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
        except OSError:
            reservation.close()
            continue
        free_port.reservations.append(reservation)
        return port
    raise RuntimeError("no free port")


free_port.reservations = []


class Server:
    """One clymqd. It keeps its data folder and ports over kill() and start()."""

    def __init__(self, data_dir=None, **options):
        self.own_dir = None
        if data_dir is None:
            self.own_dir = tempfile.mkdtemp(prefix="clymq-test-")
            data_dir = os.path.join(self.own_dir, "data")
        self.data_dir = data_dir
        self.coordinator_port = free_port()
        self.broker_port = free_port()
        self.options = {
            "coordinator-listen": f"127.0.0.1:{self.coordinator_port}",
            "broker-listen": f"127.0.0.1:{self.broker_port}",
            "admin-listen": "off",
            **{name.replace("_", "-"): value for name, value in options.items()},
        }
        self.program = os.path.join(BIN, "clymqd")
        self.process = None
        self.open_files = None  # the limit that it is started with
        self.log = tempfile.TemporaryFile()
        atexit.register(self.close)

    @property
    def coordinator(self):
        return f"127.0.0.1:{self.coordinator_port}"

    def command(self):
        command = [self.program, "--data-dir", self.data_dir]
        for name, value in self.options.items():
            command += ["--" + name, str(value)]
        return command

    def start(self):
        assert self.process is None
        def limit():
            if self.open_files:
                resource.setrlimit(resource.RLIMIT_NOFILE, (self.open_files, self.open_files))

        self.process = subprocess.Popen(
            self.command(), stdout=subprocess.PIPE, stderr=self.log, stdin=subprocess.DEVNULL, preexec_fn=limit)
        running.add(self.process)
        readable, _, _ = select.select([self.process.stdout], [], [], START_LIMIT_S)
        self.serving_line = self.process.stdout.readline().decode() if readable else ""
        if not self.serving_line:
            self.kill()
            raise AssertionError("clymqd did not serve:\n" + self.log_text())
        return self

    def log_text(self):
        self.log.seek(0)
        return self.log.read().decode(errors="replace")

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self, limit_s=60):
        """The exit code."""
        code = self.process.wait(limit_s)
        running.discard(self.process)
        self.process.stdout.close()
        self.process = None
        return code

    def stop(self):
        """A clean stop; the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self):
        if self.process is not None:
            self.process.kill()
            self.wait()

    def rss_bytes(self):
        with open(f"/proc/{self.process.pid}/statm") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def close(self):
        self.kill()
        if self.own_dir:
            shutil.rmtree(self.own_dir, ignore_errors=True)
            self.own_dir = None


def clymq(server, *arguments, stdin=b"", limit_s=120, check=True):
    """Runs the CLI against a server; the finished process. With check a non-zero exit code is a failure with its stderr."""
    done = subprocess.run(
        [os.path.join(BIN, "clymq"), *map(str, arguments)],
        input=stdin,
        capture_output=True,
        timeout=limit_s,
        env={**os.environ, "CLYMQ_COORDINATOR": server.coordinator},
    )
    if check and done.returncode != 0:
        raise AssertionError(f"clymq {' '.join(map(str, arguments))}: exit {done.returncode}: {done.stderr.decode()}")
    return done


def clymq_start(server, *arguments, **pipes):
    """Starts the CLI without waiting for it."""
    process = subprocess.Popen(
        [os.path.join(BIN, "clymq"), *map(str, arguments)],
        env={**os.environ, "CLYMQ_COORDINATOR": server.coordinator},
        **pipes,
    )
    running.add(process)
    return process


def describe(server, topic):
    return json.loads(clymq(server, "topic", "describe", topic, "--json").stdout)


def wait_until(condition, what, limit_s=60):
    """Polls a condition that no event tells of."""
    end = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > end:
            raise AssertionError("timed out waiting until " + what)
        time.sleep(0.02)


def generated():
    """The modules that the Thrift compiler makes from our IDL: (broker service, coordinator service, types)."""
    if generated.modules is None:
        try:
            import thrift.Thrift  # noqa: F401
        except ImportError:
            skip_all("python3-thrift is not installed")
        if shutil.which("thrift") is None:
            skip_all("the Thrift compiler is not installed")
        out = tempfile.mkdtemp(prefix="clymq-idl-")
        atexit.register(shutil.rmtree, out, True)
        subprocess.run(["thrift", "--gen", "py", "-out", out, os.path.join(SOURCE, "idl", "clymq.thrift")], check=True)
        sys.path.insert(0, out)
        from clymq.idl import Server_Operations, ZkServer_Operations, ttypes

        generated.modules = (Server_Operations, ZkServer_Operations, ttypes)
    return generated.modules


generated.modules = None


class ThriftClient:
    """A client of one service over TCP, in one of the forms."""

    def __init__(self, service, port, framed=False, compact=False, timeout_s=60):
        from thrift.protocol import TBinaryProtocol, TCompactProtocol
        from thrift.transport import TSocket, TTransport

        socket_ = TSocket.TSocket("127.0.0.1", port)
        socket_.setTimeout(timeout_s * 1000)
        self.transport = (TTransport.TFramedTransport if framed else TTransport.TBufferedTransport)(socket_)
        factory = TCompactProtocol.TCompactProtocol if compact else TBinaryProtocol.TBinaryProtocol
        self.client = service.Client(factory(self.transport))
        self.transport.open()

    def __getattr__(self, method):
        return getattr(self.client, method)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.transport.close()


def broker(server, **form):
    return ThriftClient(generated()[0], server.broker_port, **form)


def coordinator(server, **form):
    return ThriftClient(generated()[1], server.coordinator_port, **form)


def create_partition(zk, topic, name):
    """CreatePart, and then ProGetBroker, which waits until the partition is served: the way of every producer."""
    types = generated()[2]
    answer = zk.CreatePart(types.CreatePartRequest(topic_name=topic, part_name=name))
    assert answer.ret, answer.err
    assert zk.ProGetBroker(types.ProGetBrokRequest(topic_name=topic, part_name=name)).ret


def skip_all(reason):
    """Ends the whole test program as skipped. Only while it is loaded: a test raises unittest.SkipTest instead."""
    print("SKIP:", reason)
    sys.exit(77)


def main():
    """Runs the program's tests. Where each one was skipped the exit status is ctest's for "skipped"."""
    result = unittest.main(module="__main__", verbosity=2, exit=False).result
    if not result.wasSuccessful():
        sys.exit(1)
    # A class that is skipped as a whole counts as one skip and no run.
    sys.exit(77 if result.skipped and result.testsRun <= len(result.skipped) else 0)
