"""Programs that a run starts: each bounded in time, each ended by its process id, whatever becomes of the run."""

import atexit
import json
import os
import signal
import socket
import subprocess
import time

running = set()


def end_all():
    for process in list(running):
        if process.poll() is None:
            process.kill()
            process.wait()
        running.discard(process)


atexit.register(end_all)
for number in (signal.SIGTERM, signal.SIGHUP):
    if signal.getsignal(number) != signal.SIG_IGN:  # as nohup sets
        signal.signal(number, lambda *_: os.sys.exit(1))


class Failed(Exception):
    """A measurement did not come about; its row says so and the run goes on."""


def start(command, **more):
    process = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, **more)
    running.add(process)
    return process


def ended(process, limit_s=60):
    """The exit code of a process that ends by itself or was told to."""
    try:
        return process.wait(limit_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise Failed(f"{process.args[0]} did not end within {limit_s} s") from None
    finally:
        running.discard(process)


def json_of(command, limit_s=900, **more):
    """The JSON object that a program prints on one line."""
    process = start(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)
    try:
        out, err = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise Failed(f"{command[0]} did not end within {limit_s} s") from None
    finally:
        running.discard(process)
    if process.returncode != 0:
        raise Failed(f"{' '.join(map(str, command))}: {err.strip()[-300:]}")
    return json.loads(out.splitlines()[-1])


def memory(pid):
    """Resident bytes now and at most so far."""
    with open(f"/proc/{pid}/status") as status:
        values = dict(line.split(":", 1) for line in status)
    return tuple(int(values[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM"))


def free_port():
    """A port below those that the kernel gives to clients."""
    for port in range(20000 + os.getpid() % 5000 + len(free_port.given), 32000):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            if port not in free_port.given:
                free_port.given.add(port)
                return port
    raise Failed("no free port")


free_port.given = set()


def settle():
    """Everything written is on the disk, so that nothing of one measurement is paid for by the next."""
    os.sync()


def wait_until(condition, what, limit_s=60, step_s=0.01):
    end = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > end:
            raise Failed(f"timed out until {what}")
        time.sleep(step_s)
