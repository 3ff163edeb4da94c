"""What clymq says to wrong commands, flags and values: the exit code, and a sentence that helps. No server is needed."""

import os
import re
import subprocess
import unittest

CLYMQ = os.path.join(os.environ.get("CLYMQ_BIN", "build/release/bin"), "clymq")


def run(*arguments, **environment):
    """Exit code, output and errors; asked are ports where nobody listens."""
    return subprocess.run([CLYMQ, *arguments], capture_output=True, timeout=60, stdin=subprocess.DEVNULL, text=True,
                          env={**os.environ, "CLYMQ_COORDINATOR": "127.0.0.1:1", **environment})


class Arguments(unittest.TestCase):
    def refused(self, code, words, *arguments, **environment):
        done = run(*arguments, **environment)
        self.assertEqual(done.returncode, code, done)
        self.assertEqual(done.stdout, "")
        for word in words:
            self.assertIn(word, done.stderr)

    def test_help(self):
        self.assertIn("topic create", run("help").stdout)
        self.assertIn("topic create", run("--help").stdout)
        self.assertRegex(run("--version").stdout, r"^clymq \d+\.\d+\.\d+\n$")
        names = [line.split("  ")[1] for line in run("help").stdout.split("Commands:\n")[1].split("\n\n")[0].splitlines()]
        self.assertGreaterEqual(len(names), 11)
        for name in names:
            for arguments in (["help", *name.split()], [*name.split(), "--help"]):
                done = run(*arguments)
                self.assertEqual((done.returncode, done.stderr), (0, ""))
                self.assertIn("Usage: clymq " + name, done.stdout)
                self.assertIn("Examples:", done.stdout)
                self.assertIn("--help", done.stdout)

    def test_commands(self):
        self.refused(2, ["Usage"])
        self.refused(2, ["topic needs one of", "create, set, list, describe, delete"], "topic")
        self.refused(2, ['did you mean "topic create"'], "topic", "craete", "t")
        self.refused(2, ['did you mean "consume"'], "consum", "t")
        self.refused(2, ["clymq help"], "frobnicate")
        self.refused(2, ["clymq help"], "help", "frobnicate")

    def test_flags_before_the_command(self):
        self.refused(2, ["before the command"], "--json")
        self.refused(2, ["before the command"], "-j", "topic", "list")
        self.refused(2, ["before the command"], "--partitions", "3", "topic", "create", "t")
        self.refused(2, ["before the command"], "--coordinator", "127.0.0.1:1")
        self.refused(2, ['did you mean "consume"'], "--json", "consum", "t")
        for before in (["--coordinator", "127.0.0.1:1"], ["--json", "--coordinator=127.0.0.1:1"]):
            self.refused(1, ["127.0.0.1:1"], *before, "--timeout", "100ms", "topic", "list")

    def test_arguments(self):
        self.refused(2, ["needs TOPIC"], "produce")
        self.refused(2, ['unexpected argument "b"'], "produce", "a", "b")
        self.refused(2, ["needs TOPIC PARTITION"], "partition", "create", "t")

    def test_flags(self):
        self.refused(2, ["--key-separator"], "produce", "t", "--key-seperator", ":")
        for empty in (["--key-separator", ""], ["--key-separator="]):
            self.refused(2, ["--key-separator", "empty", "such as :"], "produce", "t", *empty, "--file", "/nowhere")
        self.refused(2, ["--key-separator", "--whole-file"], "produce", "t", "--key-separator", ":", "--whole-file")
        for empty in (["--file", ""], ["--file="]):
            self.refused(2, ["--file", "empty", "standard input"], "produce", "t", *empty)
        self.refused(2, ["compression"], "produce", "t", "--compression", "lzma")
        self.refused(2, ["ack"], "produce", "t", "--ack", "2")
        self.refused(2, ["partitions"], "topic", "create", "t", "--partitions", "many")
        self.refused(2, ["KEY=VALUE"], "produce", "t", "--header", "x")
        self.refused(2, ["KEY=VALUE"], "produce", "t", "--header")
        self.refused(2, ["--from", "beginning"], "consume", "t", "--from", "yesterday")
        self.refused(2, ["nothing to set"], "partition", "set", "t", "p")
        self.refused(2, ["give --config, or"], "topic", "create", "t", "--config", "{}", "--retention", "1d")
        self.refused(2, ["HOST:PORT"], "topic", "list", "--coordinator", "host:port:x")
        self.refused(2, ["HOST:PORT"], "topic", "list", CLYMQ_COORDINATOR=",")

    def test_completion_of_words(self):
        def offered(*words):
            done = run("__complete", *words)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            return done.stdout.split()

        self.assertEqual(offered(""), ["topic", "partition", "produce", "consume", "block", "fsck", "bench", "completion", "help"])
        self.assertEqual(offered("p"), ["partition", "produce"])
        self.assertEqual(offered(), offered(""))
        self.assertLess({"create", "list", "describe", "delete"}, set(offered("topic", "")))
        self.assertEqual(offered("topic", "de"), ["describe", "delete"])
        self.assertEqual(offered("topic", "create", "t", "--re"),
                         ["--replicas", "--retention", "--retention-bytes"])
        self.assertEqual(offered("produce", "t", "--compression", ""), ["none", "gzip", "snappy", "lz4", "zstd"])
        self.assertEqual(offered("produce", "t", "--compression", "z"), ["zstd"])
        self.assertEqual(offered("produce", "t", "--compression", "=", "z"), ["zstd"])
        self.assertEqual(offered("produce", "t", "--compression", "="), offered("produce", "t", "--compression", ""))
        self.assertEqual(offered("produce", "t", "--file", ""), [":files"])
        self.assertEqual(offered("produce", "t", "--rate", ""), [])
        self.assertEqual(offered("partition", "set", "t", "p", "--ack", ""), ["unchanged", "-1", "1", "0"])
        self.assertEqual(offered("consume", ""), [":topics"])
        self.assertEqual(offered("consume", "--json", "--count", "5", "o"), [":topics"])
        self.assertIn("--from", offered("consume", "orders", ""))
        self.assertEqual(offered("topic", "create", "--js"), ["--json"])
        self.assertEqual(offered("consume", "t", "--no"), ["--no-follow"])
        self.assertEqual(offered("fsck", ""), [":files"])
        self.assertEqual(offered("completion", ""), ["bash", "zsh", "fish"])
        self.assertEqual(offered("help", "to"), ["topic"])
        self.assertEqual(offered("help", "topic", "c"), ["create"])
        self.assertEqual(offered("--co"), ["--coordinator"])
        self.assertEqual(offered("--coordinator", ""), [])
        self.assertEqual(offered("--coordinator", "host:1", "to"), ["topic"])
        self.assertEqual(offered("--coordinator", "=", "host:1", "to"), ["topic"])
        self.assertEqual(offered("--coordinator=host:1", "--json", "topic", "de"), ["describe", "delete"])
        self.assertEqual(offered("nothing", "of", "that"), [])
        self.assertEqual(offered("x" * 5000, "--" + "y" * 5000, ""), [])
        self.assertEqual(offered("produce", "--" + "y" * 5000, "--f"), ["--file"])

    def test_completion_scripts(self):
        for shell in ("bash", "zsh", "fish"):
            done = run("completion", shell)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            self.assertIn("clymq __complete", done.stdout)
        self.refused(2, ["bash, zsh, fish"], "completion", "tcsh")

    def test_manual_has_every_command_and_flag(self):
        done = run("__manual")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        page = done.stdout.replace("\\", "")
        names = [line.split("  ")[1] for line in run("help").stdout.split("Commands:\n")[1].split("\n\n")[0].splitlines()]
        for name in names:
            self.assertIn(f"\n.SS clymq {name} ", page)
            for flag in re.findall(r"^  --(?:\[no-\])?([a-z-]+)", run("help", *name.split()).stdout, re.MULTILINE):
                self.assertRegex(page, rf"\nfB--(\[no-\])?{flag}fR")

    def test_names(self):
        self.refused(1, ["invalid name"], "topic", "create", "a/b")
        self.refused(1, ["invalid name"], "topic", "create", "x" * 250)
        self.refused(1, ["invalid name"], "topic", "describe", "..")

    def test_nobody_there(self):
        self.refused(1, ["127.0.0.1:1", "clymqd"], "topic", "list", "--timeout", "300ms")
        self.refused(1, ["127.0.0.1:1", "127.0.0.1:2", "clymqd"], "topic", "list", "--timeout", "300ms", "--coordinator",
                     "127.0.0.1:1,127.0.0.1:2")
        self.refused(1, ["127.0.0.1:1"], "produce", "t", "--timeout", "300ms")
        self.refused(1, ["127.0.0.1:1"], "consume", "t", "--timeout", "300ms")
        self.refused(1, ["127.0.0.1:1"], "consume", "t", "--partition", "0", "--timeout", "300ms")

    def test_files(self):
        self.refused(1, ["/nowhere", "No such file"], "produce", "t", "--file", "/nowhere")


if __name__ == "__main__":
    unittest.main()
