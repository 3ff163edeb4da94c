"""`make interop`: runs every foreign client, in each form of the wire that it speaks, through every scenario against one clymqd,
and prints the matrix. The last line counts. usage: run.py [--write PAGE] [--work FOLDER] [--control] [CLIENT…]

A client whose toolchain or packages are not here is counted as skipped, with the reason. Exit status: 1 if anything failed, 77 if
everything was skipped.
"""

import argparse
import os
import re
import select
import socket
import sys
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "integration"))

import drivers  # noqa: E402
import harness  # noqa: E402
import scenarios  # noqa: E402

MARKS = {"passed": "✓", "failed": "✗", "skipped": "–"}


def seen_on_the_wire(command, form):
    """What the client sends in this form, by the first bytes of a call: docs/protocol-rpc.md has the table."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        address = "127.0.0.1:%d" % listener.getsockname()[1]
        driver = drivers.Driver(command, form, address, address, True)
        connections, end = [], time.monotonic() + 60
        try:
            driver.write([("broker", "push", scenarios.push_fields("t", "p", b"x"))])
            while time.monotonic() < end:
                for ready in select.select([listener, *connections], [], [], 1)[0]:
                    if ready is listener:
                        connections.append(listener.accept()[0])
                        continue
                    begin = ready.recv(65536)
                    if len(begin) >= 8:
                        return form_of(begin)
                    connections.remove(ready)
                    ready.close()
            return "nothing"
        finally:
            driver.process.kill()
            driver.close()
            for connection in connections:
                connection.close()


def form_of(begin):
    first, second = begin[0:4], begin[4:8]
    if first[:2] == b"\x80\x01":
        return "binary"
    if begin[0] == 0x82 and begin[1] & 0x1f == 1:
        return "compact"
    if second[:2] == b"\x80\x01":
        return "framed binary"
    if second[:2] == b"\x82\x21":
        return "framed compact"
    if second[:2] == b"\x10\x00":
        # The header's length in words is at 12; behind it stands the payload, framed or not.
        at = 14 + 4 * int.from_bytes(begin[12:14], "big")
        return "TTHeader" if begin[at:at + 2] in (b"\x80\x01", b"") else "TTHeader, framed"
    return begin.hex()


def run_form(server, command, form, ordered, name):
    """scenario -> (result, reason); "wire" -> what it sends"""
    results = {"wire": seen_on_the_wire(command, form)}
    driver = None
    for scenario in scenarios.SCENARIOS:
        topic = f"{name}-{form}-{scenario.__name__}"
        try:
            if driver is None or driver.process.poll() is not None:
                driver = drivers.Driver(command, form, server.coordinator, f"127.0.0.1:{server.broker_port}", ordered)
            scenario(driver, topic)
            results[scenario.__name__] = ("passed", "")
        except Exception as error:  # noqa: BLE001 - whatever it is, the others go on
            reason = str(error) or traceback.format_exc()
            results[scenario.__name__] = ("failed", reason)
            print(f"FAILED {topic}: {reason}", flush=True)
            # Whatever is still under way must not answer another scenario's calls.
            if driver:
                driver.process.kill()
                driver.close()
            driver = None
    if driver:
        driver.close()
    return results


def run_client(server, client, work):
    """form -> scenario -> (result, reason)"""
    title, build, forms, ordered = client
    name = re.sub(r"[^a-z0-9.]+", "-", title.lower())
    began = time.monotonic()
    try:
        command = build(os.path.join(work, name))
    except drivers.Missing as reason:
        print(f"SKIPPED {title}: {reason}", flush=True)
        return {form: {"wire": "–", **{s.__name__: ("skipped", str(reason)) for s in scenarios.SCENARIOS}} for form in forms}
    except Exception as error:  # noqa: BLE001
        print(f"FAILED {title} is not built: {error}", flush=True)
        return {form: {"wire": "–", **{s.__name__: ("failed", "not built") for s in scenarios.SCENARIOS}} for form in forms}
    built = time.monotonic()
    results = {form: run_form(server, command, form, ordered, name) for form in forms}
    print(f"{title}: built in {built - began:.0f} s, ran in {time.monotonic() - built:.0f} s", flush=True)
    return results


def matrix(all_results):
    """Rows of a table in Markdown."""
    names = [scenario.__name__ for scenario in scenarios.SCENARIOS]
    rows = ["| client | option | sends | " + " | ".join(name.replace("_", " ") for name in names) + " |",
            "| --- | --- | --- |" + " :-: |" * len(names)]
    for title, forms in all_results.items():
        for form, results in forms.items():
            rows.append(f"| {title} | {form} | {results['wire']} | " + " | ".join(MARKS[results[name][0]] for name in names) + " |")
    return "\n".join(rows) + "\n"


def page(table):
    lines = ["| scenario | what is checked |", "| --- | --- |"]
    lines += [f"| {s.__name__.replace('_', ' ')} | {s.__doc__.strip()} |" for s in scenarios.SCENARIOS]
    return "\n".join(lines) + "\n", table


def write_page(path, table):
    """Replaces the two generated parts of docs/interop.md."""
    with open(path) as file:
        text = file.read()
    for mark, part in zip(("scenarios", "matrix"), page(table)):
        text = re.sub(rf"(?s)(<!-- {mark} -->\n).*?(<!-- end -->)", lambda found: found.group(1) + part + found.group(2), text)
    with open(path, "w") as file:
        file.write(text)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--write", metavar="PAGE", help="put the matrix into this page")
    parser.add_argument("--work", default=os.path.join(HERE, "..", "..", "build", "interop"), help="where clients are built")
    parser.add_argument("--control", action="store_true", help="change every answer a little: each scenario must then fail")
    parser.add_argument("clients", nargs="*", help="only these: a part of their names")
    arguments = parser.parse_args()
    chosen = [client for client in drivers.CLIENTS
              if not arguments.clients or any(part.lower() in client[0].lower() for part in arguments.clients)]
    drivers.Driver.control = arguments.control
    server = harness.Server(shards=2).start()
    all_results = {client[0]: run_client(server, client, os.path.abspath(arguments.work)) for client in chosen}
    clean = server.stop() == 0
    if not clean:
        print("FAILED clymqd did not end cleanly:\n" + server.log_text())
    table = matrix(all_results)
    print("\n" + table)
    if arguments.write:
        write_page(arguments.write, table)
    outcomes = [result[0] for forms in all_results.values() for results in forms.values()
                for name, result in results.items() if name != "wire"]
    counts = {word: outcomes.count(word) for word in MARKS}
    print(f"{counts['passed']} passed, {counts['failed'] + (not clean)} failed, {counts['skipped']} skipped")
    if arguments.control:
        return 0 if counts["failed"] and not counts["passed"] else 1
    if counts["failed"] or not clean:
        return 1
    return 0 if counts["passed"] else 77


sys.exit(main())
