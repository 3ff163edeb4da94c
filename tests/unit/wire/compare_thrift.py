"""Compares the codec with Apache's Thrift library: compare_thrift.py <thrift_echo> <clymq.thrift>.

The tables of src/wire/rpc.h with the IDL file as the Thrift compiler reads it; then every call and every reply, filled at
random, written by python3-thrift in both protocols, unframed, framed and inside TTHeader (made here by hand), decoded and
encoded again by thrift_echo, and read back by python3-thrift. Ends with 77 (skipped) where the compiler or library is missing.
"""
import json
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile

SEED = 20260101
ROUNDS = 4
SERVICES = {"Server_Operations": 1, "ZkServer_Operations": 2, "Client_Operations": 4}
TYPES = {"bool": 2, "i8": 3, "byte": 3, "i32": 8, "i64": 10, "string": 11, "binary": 11}


def skip(why):
    print("skipped:", why)
    sys.exit(77)


try:
    from thrift.Thrift import TApplicationException, TMessageType, TType
    from thrift.protocol.TBinaryProtocol import TBinaryProtocol
    from thrift.protocol.TCompactProtocol import TCompactProtocol
    from thrift.transport.TTransport import TFramedTransport, TMemoryBuffer
except ImportError:
    skip("python3-thrift is not installed")
if not shutil.which("thrift"):
    skip("the Thrift compiler is not installed")


class Echo:
    """The C program: one command, one answer."""

    def __init__(self, program):
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, *words):
        self.process.stdin.write(" ".join(str(word) for word in words).encode() + b"\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().decode(errors="surrogateescape").rstrip("\n")

    def end(self):
        self.process.stdin.close()
        assert self.process.wait(timeout=30) == 0, "thrift_echo failed"


def compare_tables(echo, idl, folder):
    subprocess.run(["thrift", "--strict", "--gen", "json", "-out", folder, idl], check=True)
    with open(os.path.join(folder, "clymq.json")) as file:
        parsed = json.load(file)
    structs = {item["name"]: item["fields"] for item in parsed["structs"]}
    expected = []
    for service in parsed["services"]:
        for function in service["functions"]:
            (argument,) = function["arguments"]
            assert (argument["key"], argument["name"]) == (1, "req"), function["name"]
            assert not function["oneway"] and not function["exceptions"], function["name"]
            pair = []
            for name in (argument["type"]["class"], function["returnType"]["class"]):
                fields = [[field["key"], TYPES[field["typeId"]], field["name"], int(field["required"] == "optional")]
                          for field in structs[name]]
                pair.append({"name": name, "fields": fields})
            expected.append({"service": SERVICES[service["name"]], "name": function["name"],
                             "request": pair[0], "response": pair[1]})
    tables = json.loads(echo.ask("dump"))
    for ours, theirs in zip(tables, expected):
        assert ours == theirs, f"rpc.h has\n{ours}\nclymq.thrift has\n{theirs}"
    assert len(tables) == len(expected)
    used = {entry[which]["name"] for entry in tables for which in ("request", "response")}
    assert used == set(structs), "a struct of clymq.thrift is in no method"
    return tables


def random_value(random_source, type_, is_binary):
    if type_ == TType.BOOL:
        return random_source.random() < 0.5
    if type_ == TType.STRING:
        length = random_source.choice([0, 1, 5, 40, 127, 128, 300, 20000])
        if is_binary:
            return random_source.randbytes(length)
        return "".join(random_source.choice("abc \u5317\u4eac\U0001f600\x00") for _ in range(length))
    bits = {TType.BYTE: 8, TType.I32: 32, TType.I64: 64}[type_]
    value = random_source.getrandbits(random_source.randint(1, bits - 1))
    return random_source.choice([value, -value, -1 << bits - 1, (1 << bits - 1) - 1])


def fill(random_source, class_, fields):
    values = {}
    for (_, type_, name, optional), spec in zip(fields, [spec for spec in class_.thrift_spec if spec]):
        if not optional or random_source.random() < 0.5:
            values[name] = random_value(random_source, type_, spec[3] == "BINARY")
    return class_(**values)


PROTOCOLS = {"binary": TBinaryProtocol, "compact": TCompactProtocol}


def write_message(protocol, name, kind, sequence, body):
    memory = TMemoryBuffer()
    writer = PROTOCOLS[protocol](memory)
    writer.writeMessageBegin(name, kind, sequence)
    body.write(writer)
    writer.writeMessageEnd()
    return memory.getvalue()


def framed(data):
    return struct.pack("!I", len(data)) + data


TTHEADER_INFO = b"\x01\x00\x01\x00\x03isn\x00\x05ClyMQ\x10\x00\x01\x00\x09\x00\x04push"


def wrap(envelope, protocol, sequence, data):
    if envelope == "unframed":
        return data
    if envelope == "framed":  # by Apache's own transport
        memory = TMemoryBuffer()
        transport = TFramedTransport(memory)
        transport.write(data)
        transport.flush()
        return memory.getvalue()
    header = bytes([2 if protocol == "compact" else 0, 0]) + TTHEADER_INFO
    header += bytes(-len(header) % 4)
    if envelope == "ttheader_framed":
        data = framed(data)
    return framed(struct.pack("!HHIH", 0x1000, 0, sequence & 0xFFFFFFFF, len(header) // 4) + header + data)


def unwrap(envelope, protocol, sequence, data):
    if envelope == "unframed":
        return data
    length, data = struct.unpack("!I", data[:4])[0], data[4:]
    assert length == len(data)
    if envelope == "framed":
        return data
    magic, flags, own_sequence, words = struct.unpack("!HHIH", data[:10])
    assert (magic, flags, own_sequence) == (0x1000, 0, sequence & 0xFFFFFFFF)
    header, data = data[10:10 + words * 4], data[10 + words * 4:]
    assert header[:2] == bytes([2 if protocol == "compact" else 0, 0]) and not any(header[2:])
    return unwrap("framed", protocol, 0, data) if envelope == "ttheader_framed" else data


ENVELOPES = ["unframed", "framed", "ttheader", "ttheader_framed"]


def read_message(protocol, data, body):
    memory = TMemoryBuffer(data)
    reader = PROTOCOLS[protocol](memory)
    name, kind, sequence = reader.readMessageBegin()
    body.read(reader)
    reader.readMessageEnd()
    assert memory.read(1) == b"", "bytes left over"
    return name, kind, sequence


def compare_messages(echo, tables, modules, random_source):
    count = 0
    for entry in tables * ROUNDS:
        module = modules[entry["service"]]
        for protocol in PROTOCOLS:
            for envelope in ENVELOPES:
                for call in (True, False):
                    which = entry["request" if call else "response"]
                    outer = getattr(module, entry["name"] + ("_args" if call else "_result"))
                    inner = fill(random_source, getattr(module, which["name"]), which["fields"])
                    sent = outer(req=inner) if call else outer(success=inner)
                    kind = TMessageType.CALL if call else TMessageType.REPLY
                    sequence = random_source.randint(-2**31, 2**31 - 1)
                    data = wrap(envelope, protocol, sequence,
                                write_message(protocol, entry["name"], kind, sequence, sent))
                    answer = echo.ask("echo", entry["service"], int(call), (data + b"\x80\x01").hex()).split()
                    context = (SEED, entry["name"], protocol, envelope, sent, answer)
                    assert answer[0] == "ok" and int(answer[1]) == len(data), context
                    got = outer()
                    head = read_message(protocol, unwrap(envelope, protocol, sequence, bytes.fromhex(answer[2])), got)
                    assert head == (entry["name"], kind, sequence), context
                    assert got == sent, context
                    count += 1
    return count


def compare_exceptions(echo, random_source):
    for protocol in PROTOCOLS:
        for envelope in ENVELOPES:
            sequence = random_source.randint(-2**31, 2**31 - 1)
            call = wrap(envelope, protocol, sequence, write_message(
                protocol, "nonsense", TMessageType.CALL, sequence, TApplicationException()))
            answer = echo.ask("exception", call.hex(), 6, "it failed: \u5317").split()
            assert answer[0] == "ok", answer
            exception = TApplicationException()
            head = read_message(protocol, unwrap(envelope, protocol, sequence, bytes.fromhex(answer[1])), exception)
            assert head == ("nonsense", TMessageType.EXCEPTION, sequence)
            assert (exception.type, exception.message) == (6, "it failed: \u5317")

            data = wrap(envelope, protocol, sequence, write_message(
                protocol, "push", TMessageType.EXCEPTION, sequence, TApplicationException(7, "why not")))
            assert echo.ask("text", data.hex()) == "ok 3 7 why not"


def main():
    program, idl = sys.argv[1:]
    echo = Echo(program)
    with tempfile.TemporaryDirectory() as folder:
        tables = compare_tables(echo, idl, folder)
        subprocess.run(["thrift", "--gen", "py", "-out", folder, idl], check=True)
        sys.dont_write_bytecode = True
        sys.path.insert(0, folder)
        from clymq.idl import Client_Operations, Server_Operations, ZkServer_Operations
        modules = {1: Server_Operations, 2: ZkServer_Operations, 4: Client_Operations}
        random_source = random.Random(SEED)
        count = compare_messages(echo, tables, modules, random_source)
        compare_exceptions(echo, random_source)
    echo.end()
    print(f"{len(tables)} methods equal clymq.thrift; {count} messages equal python3-thrift's, seed {SEED}")


main()
