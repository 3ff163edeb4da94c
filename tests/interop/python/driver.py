"""The interop driver on Apache Thrift's library for Python, and code generated from the IDL beside it (see ../drivers.py)."""

import sys

from clymq.idl import Server_Operations, ZkServer_Operations, ttypes
from thrift.protocol import TBinaryProtocol, TCompactProtocol
from thrift.Thrift import TApplicationException, TType
from thrift.transport import TSocket, TTransport

PROTOCOLS = {
    "binary": TBinaryProtocol.TBinaryProtocol,
    "compact": TCompactProtocol.TCompactProtocol,
    "binary-accelerated": TBinaryProtocol.TBinaryProtocolAccelerated,
    "compact-accelerated": TCompactProtocol.TCompactProtocolAccelerated,
}


def connect(service, form, address):
    host, port = address.rsplit(":", 1)
    socket = TSocket.TSocket(host, int(port))
    framed = form.endswith("-framed")
    transport = (TTransport.TFramedTransport if framed else TTransport.TBufferedTransport)(socket)
    transport.open()
    return service.Client(PROTOCOLS[form.removesuffix("-framed")](transport))


def parse(spec, text):
    """A value for the field that this row of a struct's thrift_spec tells of."""
    kind, text = text[:2], text[2:]
    if kind == "s:":
        raw = bytes.fromhex(text)
        return raw if spec[3] == "BINARY" else raw.decode()
    return int(text) if kind == "i:" else text == "1"


def show(value, type_):
    if type_ == TType.STRING:
        return "s:" + (value.encode() if isinstance(value, str) else value).hex()
    return f"t:{int(value)}" if type_ == TType.BOOL else f"i:{value}"


def call(client, method, words):
    name = method[0].upper() + method[1:]
    # CreateTopic's struct is CreateTopicRequest; some names are shorter than their method's.
    struct = getattr(ttypes, {"ConInfo": "Info", "StarttoGet": "InfoGet", "ProGetBroker": "ProGetBrok",
                              "ConStartGetBroker": "ConStartGetBrok", "ListTopics": "ListTopics"}.get(name, name) + "Request")
    specs = {spec[2]: spec for spec in struct.thrift_spec if spec}
    request = struct()
    for word in words:
        field, value = word.split("=", 1)
        setattr(request, field, parse(specs[field], value))
    response = getattr(client, method)(request)
    fields = [(spec[2], getattr(response, spec[2]), spec[1]) for spec in response.thrift_spec if spec]
    return "\t".join(["ok", *(f"{field}={show(value, type_)}" for field, value, type_ in fields if value is not None)])


def main():
    _, form, coordinator, broker = sys.argv
    clients = {
        "coordinator": connect(ZkServer_Operations, form, coordinator),
        "broker": connect(Server_Operations, form, broker),
        "stranger": connect(ZkServer_Operations, form, broker),
    }
    for line in sys.stdin:
        id_, service, method, *words = line.rstrip("\n").split("\t")
        try:
            answer = call(clients[service], method, words)
        except TApplicationException as refusal:
            answer = f"exception\t{refusal.type}\t{refusal.message.encode().hex()}"
        except Exception as error:
            answer = "error\t" + repr(error).encode().hex()
        print(f"{id_}\t{answer}", flush=True)


main()
