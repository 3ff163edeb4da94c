"""`cmake --install` into a folder of its own, and projects outside ours that use what is there: one with CMake, one with
pkg-config and make. They run against a server that was installed too."""

import os
import re
import shutil
import subprocess
import tempfile
import unittest

import harness

BUILD = os.path.dirname(os.path.abspath(harness.BIN))
OUTSIDE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "outside")


def run(*command, **environment):
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=240, stdin=subprocess.DEVNULL,
        env={**os.environ, **environment})
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(command)}: exit {done.returncode}:\n{done.stdout}")
    return done.stdout


class Installed(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        for program in ("cmake", "make", "cc", "pkg-config"):
            if shutil.which(program) is None:
                raise unittest.SkipTest(program + " is not installed")
        cls.folder = tempfile.mkdtemp(prefix="clymq-install-")
        cls.addClassCleanup(shutil.rmtree, cls.folder, True)
        first = os.path.join(cls.folder, "first")
        run("cmake", "--install", BUILD, "--prefix", first)
        # Nothing of it may know where it was installed at first.
        cls.prefix = os.path.join(cls.folder, "with space", "moved")
        os.makedirs(os.path.dirname(cls.prefix))
        os.rename(first, cls.prefix)
        for folder, _, names in os.walk(cls.prefix):
            if "pkgconfig" in os.listdir(folder) and "libclymq.so" in names:
                cls.lib = folder
        cls.server = harness.Server()
        cls.server.program = os.path.join(cls.prefix, "bin", "clymqd")
        cls.server.start()
        cls.addClassCleanup(cls.server.close)

    def works(self, program, topic, **environment):
        out = run(program, self.server.coordinator, topic, **environment)
        self.assertEqual(out, "1000 messages there and back\n")

    def needs_shared(self, program):
        return "libclymq.so" in run("readelf", "-d", program)

    def test_cmake_project(self):
        build = os.path.join(self.folder, "cmake")
        run("cmake", "-S", OUTSIDE, "-B", build, "-DCMAKE_PREFIX_PATH=" + self.prefix)
        run("cmake", "--build", build)
        for kind in ("clymq", "clymq_static"):
            program = os.path.join(build, "roundtrip-" + kind)
            self.assertEqual(self.needs_shared(program), kind == "clymq")
            self.works(program, "cmake-" + kind)

    def test_pkg_config_project(self):
        out = os.path.join(self.folder, "make")
        os.mkdir(out)
        run("make", "-C", OUTSIDE, "OUT=" + out, PKG_CONFIG_PATH=os.path.join(self.lib, "pkgconfig"))
        for kind in ("shared", "static"):
            program = os.path.join(out, "roundtrip-" + kind)
            self.assertEqual(self.needs_shared(program), kind == "shared")
            self.works(program, "make-" + kind, LD_LIBRARY_PATH=self.lib)

    def test_header_alone(self):
        """The header is C99 and C++, and needs nothing but itself."""
        header = os.path.join(self.prefix, "include", "clymq.h")
        self.assertEqual(os.listdir(os.path.dirname(header)), ["clymq.h"])
        run("cc", "-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-x", "c", header)
        if shutil.which("c++"):
            run("c++", "-std=c++11", "-pedantic", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-x", "c++", header)

    def test_names_of_the_shared_library(self):
        names = re.findall(r" [TDBRVW] (\S+)", run("nm", "-D", "--defined-only", os.path.join(self.lib, "libclymq.so")))
        self.assertIn("clymq_produce", names)
        self.assertEqual([name for name in names if not name.startswith("clymq_")], [])

    def path(self, *parts):
        return os.path.join(self.prefix, *parts)

    def read(self, *parts):
        with open(self.path(*parts)) as file:
            return file.read()

    def test_manual_pages(self):
        for section, name in ((1, "clymq"), (1, "clymq-sim"), (3, "libclymq"), (5, "clymq.conf"), (8, "clymqd")):
            page = self.read("share", "man", f"man{section}", f"{name}.{section}")
            self.assertTrue(page.startswith(f".TH {name.upper()} {section} "), page[:100])
            self.assertNotIn("@", re.sub(r"\S+@\S+|, @MILLI", "", page))
            if shutil.which("man"):
                text = run("man", "--warnings", "-E", "UTF-8", "-l", self.path("share", "man", f"man{section}", f"{name}.{section}"),
                           MANWIDTH="80")
                self.assertNotIn("warning", text)
        options = re.findall(r"^\| `(\w+)`", run(self.path("bin", "clymqd"), "--print-options-reference"), re.MULTILINE)
        self.assertGreater(len(options), 30)
        flags = self.read("share", "man", "man8", "clymqd.8").replace("\\", "")
        lines = self.read("share", "man", "man5", "clymq.conf.5").replace("\\", "")
        for option in options:
            self.assertRegex(flags, rf"\nfB--(\[no-\])?{option.replace('_', '-')}fR")
            self.assertIn(f"\nfB{option}fR = ", lines)

    def test_manual_of_the_simulator(self):
        page = self.read("share", "man", "man1", "clymq-sim.1").replace("\\", "")
        flags = re.findall(r"^  (--[a-z-]+)", run(self.path("bin", "clymq-sim"), "--help"), re.MULTILINE)
        self.assertGreater(len(flags), 8)
        for flag in flags:
            self.assertIn(flag, page)

    def test_manual_of_the_library(self):
        header = re.sub(r"\s+", " ", self.read("include", "clymq.h"))
        page = self.read("share", "man", "man3", "libclymq.3")
        shown = re.findall(r'^\.BI? "(.*)', page, re.MULTILINE)
        self.assertGreater(len(shown), 9)
        for line in shown:
            self.assertIn(re.sub(r' ?" ?', "", line.rstrip(" ;")).replace(");", ")").split("(")[0], header)
            plain = re.sub(r"\s+", "", line.replace('"', "").rstrip(";"))
            self.assertIn(plain, re.sub(r"\s+", "", header))

    def test_example_of_the_config_file(self):
        """It changes nothing, also with its comment signs removed."""
        example = self.read("share", "doc", "clymq", "examples", "clymq.conf")
        file = os.path.join(self.folder, "clymq.conf")
        with open(file, "w") as out:
            out.write(re.sub(r"(?m)^#(?=[a-z_]+ =)", "", example))
        server = harness.Server(config=file)
        server.program = self.path("bin", "clymqd")
        server.start()
        self.assertEqual(server.stop(), 0)

    def test_completion(self):
        if shutil.which("bash") is None:
            self.skipTest("bash is not installed")
        self.assertEqual(self.read("share", "bash-completion", "completions", "clymq"),
                         run(self.path("bin", "clymq"), "completion", "bash"))
        harness.clymq(self.server, "topic", "create", "completed")

        def complete(*words):
            script = ('source "$1"; shift; COMP_WORDS=(clymq "$@"); COMP_CWORD=$#; _clymq; '
                      'printf "%s\\n" "${COMPREPLY[@]}"')
            return run("bash", "-c", script, "bash", self.path("share", "bash-completion", "completions", "clymq"), *words,
                       PATH=self.path("bin") + ":" + os.environ["PATH"], CLYMQ_COORDINATOR=self.server.coordinator).split()

        self.assertEqual(complete("topic", "cr"), ["create"])
        self.assertEqual(complete("produce", "t", "--compression", "l"), ["lz4"])
        self.assertEqual(complete("consume", "compl"), ["completed"])
        self.assertEqual(complete("fsck", "/et"), ["/etc"])
        self.assertEqual(complete("produce", "t", "--rate", ""), [])

    def test_unit(self):
        unit = self.read("lib", "systemd", "system", "clymqd.service")
        self.assertIn(f"ExecStart={os.path.join(self.folder, 'first')}/bin/clymqd --config ", unit)
        if shutil.which("systemd-analyze") is None:
            self.skipTest("systemd-analyze is not installed")
        # Verified with the program where it is now; man would look for the pages elsewhere.
        file = os.path.join(self.folder, "clymqd.service")
        with open(file, "w") as out:
            out.write(re.sub(r"Documentation=.*\n", "", unit).replace(
                os.path.join(self.folder, "first"), self.prefix.replace(" ", "\\x20")))
        done = subprocess.run(["systemd-analyze", "verify", "--man=no", file], capture_output=True, text=True, timeout=60)
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_programs(self):
        for name in ("clymq", "clymqd"):
            out = run(os.path.join(self.prefix, "bin", name), "--version")
            self.assertRegex(out, rf"^{name} \d+\.\d+\.\d+\n$")
        self.assertIn("usage", run(os.path.join(self.prefix, "bin", "clymq-sim"), "--help"))


if __name__ == "__main__":
    harness.main()
