"""The foreign clients: how each one is built, which forms of the wire it speaks, and how a running one is told what to call.

A driver is a program in the client's language that calls generated code. It is started as `PROGRAM FORM COORDINATOR BROKER`,
reads calls from standard input and writes answers to standard output, a line each, words separated by tabs:

    ID  SERVICE  METHOD  FIELD=VALUE …        SERVICE: coordinator, broker, or stranger (the coordinator's methods, asked of the broker)
    ID  ok  FIELD=VALUE …
    ID  exception  TYPE  MESSAGE              a TApplicationException; MESSAGE in hexadecimal
    ID  error  TEXT                           anything else; TEXT in hexadecimal

FIELD is the name in the IDL; VALUE is s:HEX (string, binary), i:NUMBER, t:0 or t:1. Fields that are not named are not set. A client that
can have several calls under way makes each call as its line comes and answers in any order; others go line by line.
"""

import itertools
import json
import os
import queue
import shutil
import subprocess
import sys
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
IDL = os.path.join(HERE, "..", "..", "idl", "clymq.thrift")
ANSWER_LIMIT_S = 120


class Missing(Exception):
    """Something that this machine has not got: counted as skipped."""


class Refused(Exception):
    def __init__(self, type_, message):
        super().__init__(f"exception of type {type_}: {message}")
        self.type, self.message = type_, message


class Driver:
    """A running driver in one form."""

    control = False  # answers are given changed, to see that the checks find it

    def __init__(self, command, form, coordinator_address, broker_address, ordered):
        self.broker_address = broker_address
        self.ordered = ordered
        self.ids = itertools.count()
        self.process = subprocess.Popen(
            [*command, form, coordinator_address, broker_address], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT)
        self.answers = queue.SimpleQueue()
        self.noise = []
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            words = line.decode(errors="replace").rstrip("\n").split("\t")
            if len(words) > 1 and words[0].isdigit() and words[1] in ("ok", "exception", "error"):
                self.answers.put(words)
            else:
                self.noise.append(line.decode(errors="replace"))
        self.answers.put(None)

    @staticmethod
    def encode(value):
        if isinstance(value, bool):
            return f"t:{int(value)}"
        if isinstance(value, int):
            return f"i:{value}"
        return "s:" + (value.encode() if isinstance(value, str) else value).hex()

    def decode(self, words):
        if words[1] == "exception":
            raise Refused(int(words[2]) + self.control, bytes.fromhex(words[3]).decode(errors="replace"))
        if words[1] == "error":
            raise AssertionError("the client says: " + bytes.fromhex(words[2]).decode(errors="replace"))
        fields = {}
        for word in words[2:]:
            name, value = word.split("=", 1)
            kind, value = value[:2], value[2:]
            if kind == "s:":
                fields[name] = bytes.fromhex(value) + b"!" * self.control
            elif kind == "i:":
                fields[name] = int(value) + self.control
            else:
                fields[name] = (value == "1") != self.control
        return fields

    def write(self, calls):
        """Sends calls (service, method, fields); their ids."""
        ids = [str(next(self.ids)) for _ in calls]
        lines = ["\t".join([id_, service, method, *(f"{name}={self.encode(value)}" for name, value in fields.items())]) + "\n"
                 for id_, (service, method, fields) in zip(ids, calls)]
        try:
            self.process.stdin.write("".join(lines).encode())
            self.process.stdin.flush()
        except OSError:
            pass  # it has ended, which the reader sees
        return ids

    def call_all(self, calls):
        """Makes calls (service, method, fields) without waiting between them; their answers, in the order of the calls."""
        writer = queue.SimpleQueue()
        # Answers are read meanwhile: a client may stop reading while nobody takes its answers.
        threading.Thread(target=lambda: writer.put(self.write(calls)), daemon=True).start()
        got = {}
        while len(got) < len(calls):
            try:
                words = self.answers.get(timeout=ANSWER_LIMIT_S)
            except queue.Empty:
                raise AssertionError("no answer to " + calls[0][1]) from None
            if words is None:
                raise AssertionError("the client ended: " + "".join(self.noise[-20:]))
            got[words[0]] = words
        return [self.decode(got[id_]) for id_ in writer.get()]

    def coordinator(self, method, **fields):
        return self.call_all([("coordinator", method, fields)])[0]

    def broker(self, method, **fields):
        return self.call_all([("broker", method, fields)])[0]

    def stranger(self, method, **fields):
        return self.call_all([("stranger", method, fields)])[0]

    def close(self):
        try:
            self.process.stdin.close()
        except OSError:
            pass  # what it did not read any more
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


# ---- building ----


def run(*command, cwd=None, env=None, missing=None):
    """Runs a command; its output where it fails, as a Missing with this reason where one is given."""
    done = subprocess.run(command, cwd=cwd, env={**os.environ, **(env or {})}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=1500)
    if done.returncode == 0:
        return done.stdout
    text = f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-4000:]}"
    if missing:
        print(text)
        raise Missing(missing)
    raise AssertionError(text)


def need(*programs):
    for program in programs:
        if shutil.which(program) is None:
            raise Missing(f"{program} is not installed")


def need_modules(*modules):
    need("pkg-config", "thrift")
    for module in modules:
        if subprocess.run(["pkg-config", "--exists", module]).returncode != 0:
            raise Missing(f"{module} is not installed")


def copy(folder, out, *names):
    os.makedirs(out, exist_ok=True)
    for name in names:
        shutil.copy(os.path.join(HERE, folder, name), out)


def generate(language, out):
    os.makedirs(out, exist_ok=True)
    run("thrift", "--gen", language, "-out", out, IDL)


def kitex(module):
    """Kitex's own generator of that version makes the client. module: the folder with its go.mod."""

    def build(out):
        need("go")
        copy("kitex", out, "main.go")
        copy(os.path.join("kitex", module), out, "go.mod", "go.sum")
        if os.path.isdir(os.path.join(HERE, "kitex", module, "pid")):
            shutil.copytree(os.path.join(HERE, "kitex", module, "pid"), os.path.join(out, "pid"), dirs_exist_ok=True)
        bin_ = os.path.join(out, "bin")
        env = {"GOFLAGS": "-mod=mod", "GOBIN": bin_, "GOTOOLCHAIN": "local", "PATH": bin_ + ":" + os.environ["PATH"]}
        run("go", "mod", "download", "github.com/cloudwego/kitex", cwd=out, env=env, missing="the Go modules cannot be fetched")
        run("go", "build", "-o", os.path.join(bin_, "kitex"), "github.com/cloudwego/kitex/tool/cmd/kitex", cwd=out, env=env)
        run("go", "build", "-o", os.path.join(bin_, "thriftgo"), "github.com/cloudwego/thriftgo", cwd=out, env=env)
        run(os.path.join(bin_, "kitex"), "-module", "clymq-interop", IDL, cwd=out, env=env)
        run("go", "build", "-ldflags=-checklinkname=0", "-o", os.path.join(bin_, "driver"), ".", cwd=out, env=env)
        return [os.path.join(bin_, "driver")]

    return build


def python(out):
    need("thrift")
    if subprocess.run([sys.executable, "-c", "import thrift.Thrift"], stderr=subprocess.DEVNULL).returncode != 0:
        raise Missing("python3-thrift is not installed")
    copy("python", out, "driver.py")
    generate("py", out)
    return [sys.executable, os.path.join(out, "driver.py")]


def node(out):
    need("node", "npm", "thrift")
    copy("node", out, "driver.js", "package.json")
    generate("js:node,es6", out)
    run("npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", cwd=out, missing="the npm package thrift cannot be fetched")
    return ["node", os.path.join(out, "driver.js")]


def cpp(out):
    need("c++")
    need_modules("thrift")
    copy("cpp", out, "driver.cpp")
    generate("cpp:no_skeleton", out)
    flags = run("pkg-config", "--cflags", "--libs", "thrift").split()
    run("c++", "-std=c++17", "-O1", "-o", "driver", "driver.cpp", "Server_Operations.cpp", "ZkServer_Operations.cpp",
        "clymq_types.cpp", "-I.", *flags, cwd=out)
    return [os.path.join(out, "driver")]


def java(out):
    need("java", "javac", "mvn", "thrift")
    copy("java", out, "Driver.java", "pom.xml")
    generate("java:generated_annotations=suppress", out)
    run("mvn", "-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=jars", cwd=out,
        missing="the Maven artifacts cannot be fetched")
    sources = [name for name in os.listdir(out) if name.endswith(".java")]
    run("javac", "-nowarn", "-d", "classes", "-cp", "jars/*", *sources, cwd=out)
    return ["java", "-cp", f"{out}/classes:{out}/jars/*", "Driver"]


def c_glib(out):
    need("cc")
    need_modules("thrift_c_glib", "gobject-2.0")
    copy("c_glib", out, "driver.c")
    generate("c_glib", out)
    flags = run("pkg-config", "--cflags", "--libs", "thrift_c_glib", "gobject-2.0").split()
    sources = [name for name in os.listdir(out) if name.endswith(".c")]
    run("cc", "-O1", "-w", "-o", "driver", *sources, "-I.", *flags, cwd=out)
    return [os.path.join(out, "driver")]


APACHE_FORMS = ("binary", "binary-framed", "compact", "compact-framed")
# name, how it is built, forms, whether its calls keep their order
CLIENTS = (
    ("Kitex 0.4.2", kitex("v0.4.2"), ("default", "unframed", "framed", "ttheader", "ttheader-framed", "ttheader-mux"), False),
    ("Kitex 0.16.3", kitex("v0.16.3"), ("default", "unframed", "framed", "ttheader", "ttheader-framed", "ttheader-mux"), False),
    ("Node thrift", node, APACHE_FORMS, True),
    ("Python", python, (*APACHE_FORMS, "binary-accelerated", "compact-accelerated"), True),
    ("C++", cpp, APACHE_FORMS, True),
    ("Java", java, APACHE_FORMS, True),
    ("c_glib", c_glib, APACHE_FORMS, True),
)
