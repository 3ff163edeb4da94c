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

    def test_programs(self):
        for name in ("clymq", "clymqd"):
            out = run(os.path.join(self.prefix, "bin", name), "--version")
            self.assertRegex(out, rf"^{name} \d+\.\d+\.\d+\n$")
        self.assertIn("usage", run(os.path.join(self.prefix, "bin", "clymq-sim"), "--help"))


if __name__ == "__main__":
    harness.main()
