"""One clymqd with a folder of its own, and what is asked of it: by the program clymq, and by two calls put together here,
since the time to the first answer is not that of a program's start."""

import os
import shutil
import socket
import struct
import time

from . import processes

STRING, I64, STRUCT = 11, 10, 12


def call_bytes(method, fields):
    """A framed call of a method whose request has these fields: (id, text or number)."""
    body = struct.pack(">Ii", 0x80010001, len(method)) + method.encode() + struct.pack(">iBh", 1, STRUCT, 1)
    for number, value in fields:
        if isinstance(value, str):
            body += struct.pack(">Bhi", STRING, number, len(value.encode())) + value.encode()
        else:
            body += struct.pack(">Bhq", I64, number, value)
    body += b"\0\0"
    return struct.pack(">i", len(body)) + body


def end_offset_call(topic, partition):
    return call_bytes("listOffset", [(1, topic), (2, partition), (3, -1)])


def read_frame(connection):
    data = b""
    while len(data) < 4 or len(data) < 4 + struct.unpack(">i", data[:4])[0]:
        more = connection.recv(65536)
        if not more:
            raise processes.Failed("the server closed a connection")
        data += more
    return data


class Server:
    def __init__(self, context, name, **options):
        self.bin = context.bin
        self.dir = os.path.join(context.dir, name)
        self.coordinator_port, self.broker_port = processes.free_port(), processes.free_port()
        self.options = options
        self.process = None
        shutil.rmtree(self.dir, ignore_errors=True)
        os.makedirs(self.dir)

    @property
    def pid(self):
        return self.process.pid

    def start(self):
        """Seconds from before the start until a coordinator's call is answered."""
        command = [os.path.join(self.bin, "clymqd"), "--data-dir", os.path.join(self.dir, "data"),
                   "--coordinator-listen", f"127.0.0.1:{self.coordinator_port}",
                   "--broker-listen", f"127.0.0.1:{self.broker_port}", "--admin-listen", "off"]
        for name, value in self.options.items():
            command += ["--" + name.replace("_", "-"), value]
        with open(os.path.join(self.dir, "log"), "ab") as log:
            self.began = time.monotonic()
            self.process = processes.start(command, stdout=log, stderr=log, close_fds=False)
        self.first_answer(self.coordinator_port, call_bytes("listTopics", [(1, "none")]))
        return time.monotonic() - self.began

    def first_answer(self, port, call, limit_s=120):
        """Waits until a call is answered, whose connections are refused at first."""
        end = time.monotonic() + limit_s
        while True:
            with socket.socket() as connection:
                connection.settimeout(limit_s)
                try:
                    connection.connect(("127.0.0.1", port))
                    connection.sendall(call)
                    return read_frame(connection)
                except ConnectionError:
                    if self.process.poll() is not None or time.monotonic() > end:
                        with open(os.path.join(self.dir, "log")) as log:
                            raise processes.Failed("clymqd does not serve: " + log.read()[-500:]) from None
                    time.sleep(0.0005)

    def all_answer(self, topic, count):
        """Asks every partition for its end, at once."""
        with socket.create_connection(("127.0.0.1", self.broker_port), 120) as connection:
            connection.sendall(b"".join(end_offset_call(topic, str(i)) for i in range(count)))
            data, seen = b"", 0
            while seen < count:
                more = connection.recv(1 << 20)
                if not more:
                    raise processes.Failed("the server closed a connection")
                data += more
                while len(data) >= 4 and len(data) >= 4 + struct.unpack(">i", data[:4])[0]:
                    data = data[4 + struct.unpack(">i", data[:4])[0]:]
                    seen += 1

    def stop(self):
        if self.process:
            self.process.terminate()
            processes.ended(self.process)
            self.process = None

    def kill(self):
        self.process.kill()
        processes.ended(self.process)
        self.process = None

    def remove(self):
        if self.process:
            self.kill()
        shutil.rmtree(self.dir, ignore_errors=True)

    def clymq(self, *arguments, limit_s=900):
        environment = {**os.environ, "CLYMQ_COORDINATOR": f"127.0.0.1:{self.coordinator_port}"}
        return processes.json_of([os.path.join(self.bin, "clymq"), *arguments, "--json"], limit_s, env=environment)

    def bench(self, what, *arguments):
        return self.clymq("bench", what, *arguments, "--server-pid", self.pid)

    def delete(self, topic):
        """Waits until its files are gone too, which the server removes when it has answered: there is one topic at a time."""
        self.clymq("topic", "delete", topic, "--yes")
        logs = os.path.join(self.dir, "data", "data")
        processes.wait_until(lambda: not any(files for _, _, files in os.walk(logs)), f"the files of {topic} are removed", 120, 0.05)
        processes.settle()
