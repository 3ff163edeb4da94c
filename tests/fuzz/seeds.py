#!/usr/bin/env python3
"""Writes the seed corpora of the fuzzers whose input is made of parts: tests/fuzz/seeds.py [FOLDER].

Checksums, magic numbers and most lengths are left zero: the fuzzers make them right (folder.h). To be run again when
a format changes; inputs that fuzzing found lie beside the seeds and are kept."""
import os
import re
import sqlite3
import struct
import sys
import tempfile

ROOT = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(os.path.abspath(__file__)), "corpus")
LOG, INDEX, TIMEINDEX, SUMMARY, SNAPSHOT, STATE, ID, SMALL = range(8)
FREE, RAW = 0x40, 0x80
MIN64 = -(1 << 63)


def seed(target, name, data):
    folder = os.path.join(ROOT, "fuzz_" + target)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), "wb") as file:
        file.write(data)


def varint(value):
    value = (value << 1) ^ (value >> 63)
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def record(delta, key, value, headers=(), time=0):
    body = b"\0" + varint(time) + varint(delta)
    for part in (key, value):
        body += varint(-1) if part is None else varint(len(part)) + part
    body += varint(len(headers))
    for name, content in headers:
        body += varint(len(name)) + name + varint(len(content)) + content
    return varint(len(body)) + body


def batch(values, time=1000, producer=-1, sequence=-1, attributes=0, headers=(), offset=0, key=None):
    records = b"".join(record(i, key, value, headers, i) for i, value in enumerate(values))
    return struct.pack(
        ">qiibIhiqqqhii", offset, 49 + len(records), 0, 2, 0, attributes, len(values) - 1, time,
        time + len(values) - 1, producer, -1 if producer < 0 else 0, sequence, len(values)) + records


def session_headers(name, session, index, offset):
    return ((b"clymq.push", struct.pack(">qqI", session, index, crc32c(struct.pack(">q", offset))) + name),)


def file(kind, which, content, flags=0):
    return struct.pack(">BBH", kind | flags, which, len(content)) + content


def point(offset, base, position, epoch=0):
    return struct.pack(">qqIi", offset, base, position, epoch)


def index_mark(index=(), time=(), since=0, last=MIN64, greatest=MIN64, at=0):
    return struct.pack(">IIIIIqqq", len(index) // 8 if index else 0, len(time) // 12 if time else 0,
                       crc32c(index or b""), crc32c(time or b""), since, last, greatest, at)


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


KEY = b"\xaa\xbb" + bytes(22) + b"\x01" + bytes(15)  # of the only block in a folder


def block_record(start, mark, checkpoint, index=None, error=0, damaged=0, sealed=0, empty=0, slot=0, key=KEY):
    body = struct.pack(">I", slot) + key + struct.pack(">q", start) + mark + checkpoint
    body += index or index_mark()
    body += struct.pack(">qqiI", 0, damaged, error, sealed | empty << 1)
    return struct.pack(">IHBB", 0, 8 + len(body), 0, 0) + body  # kind: 0 % 3 + 1


def mark_record(mark, slot=0):
    return struct.pack(">IHBB", 0, 36, 1, 0) + struct.pack(">I", slot) + mark


def drop_record(block=bytes(16)):
    return struct.pack(">IHBB", 0, 24, 2, 0) + block


def state_header(generation=1):
    return bytes(12) + struct.pack(">QI", generation, 0)


def producers(batches, sessions):
    out = b"\x01" + struct.pack(">I", len(batches))
    for ident, epoch, known in batches:
        out += struct.pack(">qhqB", ident, epoch, 1000, len(known)) + b"".join(struct.pack(">iiq", *k) for k in known)
    out += struct.pack(">I", len(sessions))
    for name, session, pushes in sessions:
        out += struct.pack(">Hq", 8 + len(name), session) + name + struct.pack(">qI", 1000, len(pushes))
        out += b"".join(struct.pack(">qq", *p) for p in pushes)
    return out


def snapshot(at, state):
    return bytes(12) + at + struct.pack(">I", len(state)) + state + bytes(4)


def summary(end, next_base, size, index, epoch=0):
    return bytes(20) + struct.pack(">qqIi", end, next_base, size, epoch) + index + bytes(4)


# ---- the store ----

one = batch([b"a", b"bb"])
log = one + batch([b"ccc"], 1005) + batch([b"d" * 60], 1010, producer=7, sequence=0) + batch([b"e"], 990)
TABLE = producers([(7, 0, [(0, 0, 3)]), (9, 1, [(5, 5, 9), (4, 4, 8)])], [(b"shop", 5, [(1, 2), (2, 3)]), (b"", -1, [(0, 0)])])


def sizes(data):
    found, where = [], 0
    while where + 61 <= len(data):
        found.append(12 + struct.unpack(">i", data[where + 8:where + 12])[0])
        where += found[-1]
    return found


def indexes(data, base=0, interval=100):
    """Entries as store/index.c makes them, and the mark behind the last batch."""
    index = time = b""
    since, where, expected, last_time, greatest_time, greatest_offset = 0, 0, base, MIN64, MIN64, 0
    for length in sizes(data):
        head = data[where:where + 61]
        newest = expected + struct.unpack(">i", head[23:27])[0]
        latest = struct.unpack(">q", head[35:43])[0]
        if latest > greatest_time:
            greatest_time, greatest_offset = latest, newest
        if since > interval:
            index += struct.pack(">II", newest - base, where)
            if greatest_time >= 0 and greatest_time > last_time:
                time += struct.pack(">qI", greatest_time, greatest_offset - base)
                last_time = greatest_time
            since = 0
        since += length
        where += length
        expected = newest + 1
    return index, time, index_mark(index, time, since, last_time, greatest_time, greatest_offset), expected


end_of = indexes(log)[3]
long_log = b"".join(batch([b"v%d" % i] * 3, 1000 + 10 * i) for i in range(8))
index, time, mark, end = indexes(long_log)
second = batch([b"next"], 2000) + batch([b"more", b"still"], 2001)
second_end = indexes(second, end)[3]
cut = len(long_log) - sizes(long_log)[-1]
PART = indexes(long_log[:cut])
spoiled = one[:21] + bytes([one[21] | 0x80]) + one[22:]
folders = {
    "log": file(LOG, 0, log),
    "log_sessions": file(LOG, 0, batch([b"m"], headers=session_headers(b"shop", 5, 1, 0)) +
                         batch([b"n"], headers=session_headers(b"shop", 5, 2, 1), key=b"k")),
    "log_control": file(LOG, 0, batch([TABLE], -1, attributes=0x20, key=b"\0\0\x43\x4c") + one),
    "torn": file(LOG, 0, log + log[:30]),
    "garbage": file(LOG, 0, log + b"\xff" * 90, RAW),
    "two_segments": file(LOG, 0, long_log) + file(LOG, end, second),
    "gap": file(LOG, 0, long_log) + file(LOG, end + 3, second),
    "state": file(LOG, 0, log) + file(STATE, 1, state_header() + block_record(
        0, point(end_of, 0, len(log)), point(0, 0, 0), empty=1)),
    "state_mark": file(LOG, 0, log) + file(STATE, 1, state_header() + block_record(
        0, point(0, 0, 0), point(0, 0, 0), empty=1) + mark_record(point(2, 0, len(one)))),
    "damaged": file(LOG, 0, one + bytes(len(log) - len(one)), RAW) + file(STATE, 1, state_header() + block_record(
        0, point(end_of, 0, len(log)), point(0, 0, 0), empty=1)),
    "known_damaged": file(LOG, 0, log) + file(STATE, 0, state_header() + block_record(
        0, point(end_of, 0, len(log)), point(0, 0, 0), error=-20, damaged=3, empty=1)),
    "sealed": file(LOG, 0, log) + file(STATE, 0, state_header() + block_record(
        0, point(end_of, 0, len(log)), point(end_of, 0, len(log)), indexes(log)[2], sealed=1, empty=1)),
    "checkpoint": file(LOG, 0, long_log) + file(INDEX, 0, index) + file(TIMEINDEX, 0, time) + file(
        STATE, 1, state_header() + block_record(0, point(end, 0, len(long_log)), point(PART[3], 0, cut), PART[2], empty=1), FREE),
    "closed": file(LOG, 0, long_log) + file(INDEX, 0, index) + file(TIMEINDEX, 0, time) + file(
        SUMMARY, 0, summary(end, end, len(long_log), mark)) + file(LOG, end, second) + file(
            STATE, 1, state_header() + block_record(0, point(second_end, end, len(second)), point(end, end, 0), empty=1), FREE),
    "closed_wrong_index": file(LOG, 0, long_log) + file(INDEX, 0, index[:8] + b"\0" * 8) + file(
        SUMMARY, 0, summary(end, end, len(long_log), index_mark(index[:8] + b"\0" * 8))) + file(
            LOG, end, second) + file(STATE, 1, state_header() + block_record(
                0, point(second_end, end, len(second)), point(end, end, 0), empty=1), FREE),
    "trimmed": file(LOG, 0, long_log) + file(LOG, end, second) + file(STATE, 1, state_header() + block_record(
        end, point(second_end, end, len(second)), point(second_end, end, len(second)), indexes(second, end)[2], empty=1), FREE),
    "snapshot": file(LOG, 0, log) + file(SNAPSHOT, 2, snapshot(point(2, 0, len(one)), TABLE)) + file(
        STATE, 1, state_header() + block_record(0, point(end_of, 0, len(log)), point(2, 0, len(one))), FREE),
    "snapshots": file(LOG, 0, log) + file(SNAPSHOT, 2, snapshot(point(2, 0, len(one)), TABLE)) + file(
        SNAPSHOT, 3, snapshot(point(3, 0, len(one) + sizes(log)[1]), producers([], []))) + file(SNAPSHOT, 1, b"junk", RAW),
    "id": file(ID, 0, bytes(56)) + file(LOG, 0, log),
    "id_damaged": file(ID, 0, b"x" * 56, RAW) + file(LOG, 0, log),
    "format": file(SMALL, 0, b"clymq-data 2\n"),
    "disk": file(SMALL, 1, b'{"disk_id": "00000000000000000000000000000000"}\n') + file(LOG, 0, log),
    "folded": file(LOG, 0, log) + file(STATE, 0, state_header(1) + block_record(
        0, point(0, 0, 0), point(0, 0, 0), empty=1)) + file(STATE, 1, state_header(2) + block_record(
            0, point(end_of, 0, len(log)), point(0, 0, 0), empty=1)) + file(STATE, 2, state_header(2) + drop_record()),
    "far": file(LOG, 250, log) + file(STATE, 0, state_header() + block_record(
        (1 << 63) - 6, point((1 << 63) - 6, (1 << 63) - 6, 0), point((1 << 63) - 6, (1 << 63) - 6, 0), empty=1)),
    "gap_first": file(LOG, 3, batch([b"x"], offset=5) + batch([b"y"], offset=6), FREE),
    "empty": file(LOG, 0, b""),
    "id_missing": file(LOG, 0, log) + file(SMALL, 0x86, b"") + file(STATE, 1, state_header() + block_record(
        0, point(end_of, 0, len(log)), point(0, 0, 0), empty=1)),
    "id_known": file(ID, 0, b"x" * 56, RAW) + file(LOG, 0, log) + file(STATE, 1, state_header() + block_record(
        0, point(end_of, 0, len(log)), point(0, 0, 0), empty=1)),
    "format_missing": file(SMALL, 0x80, b"") + file(LOG, 0, log),
    "disk_missing": file(SMALL, 0x81, b""),
    "temporary": file(SMALL, 5, b"x") + file(LOG, 0, log),
    "torn_behind_mark": file(LOG, 0, log + log[:30]) + file(STATE, 1, state_header() + block_record(
        0, point(end_of, 0, len(log)), point(0, 0, 0), empty=1)),
    "spoiled_behind_mark": file(LOG, 0, one + spoiled + one) + file(STATE, 1, state_header() + block_record(
        0, point(2, 0, len(one)), point(0, 0, 0), empty=1)),
    "spoiled_before_segment": file(LOG, 0, one + spoiled) + file(LOG, 4, second) + file(STATE, 1, state_header() + block_record(
        0, point(2, 0, len(one)), point(0, 0, 0), empty=1)),
    "spoiled_below_mark": file(LOG, 0, one + spoiled + one) + file(STATE, 1, state_header() + block_record(
        0, point(6, 0, 3 * len(one)), point(0, 0, 0), empty=1)),
    "mark_contradicted": file(LOG, 0, log) + file(STATE, 1, state_header() + block_record(
        0, point(9, 0, len(log)), point(0, 0, 0), empty=1)),
    "checkpoint_beyond": file(LOG, 0, log) + file(STATE, 1, state_header() + block_record(
        0, point(end_of, 0, len(log)), point(9, 0, 9999), empty=1)),
    "mark_beyond": file(LOG, 0, log) + file(STATE, 1, state_header() + block_record(
        0, point(99, 0, 9999), point(0, 0, 0), empty=1)),
    "mark_in_missing_segment": file(LOG, 0, log) + file(STATE, 1, state_header() + block_record(
        0, point(end_of, end_of, 0), point(0, 0, 0), empty=1)),
    "last_segment_missing": file(LOG, 0, log) + file(STATE, 1, state_header() + block_record(
        0, point(end_of + 3, end_of, len(second)), point(0, 0, 0), empty=1)),
    "excess": file(LOG, 0, one + one) + file(LOG, 2, second) + file(STATE, 1, state_header() + block_record(
        0, point(2, 2, 0), point(0, 0, 0), empty=1)),
    "zeros_ahead": file(LOG, 0, log + bytes(300)) + file(STATE, 1, state_header() + block_record(
        0, point(end_of, 0, len(log)), point(0, 0, 0), empty=1)),
    "zeros_behind_mark": file(LOG, 0, one + one + bytes(300)) + file(STATE, 1, state_header() + block_record(
        0, point(2, 0, len(one)), point(0, 0, 0), empty=1)),
    "zeros_below_mark": file(LOG, 0, one + bytes(300)) + file(STATE, 1, state_header() + block_record(
        0, point(4, 0, 2 * len(one)), point(0, 0, 0), empty=1)),
    "zeros_before_segment": file(LOG, 0, one + bytes(300)) + file(LOG, 2, second) + file(STATE, 1, state_header() + block_record(
        0, point(2, 2, 0), point(0, 0, 0), empty=1)),
    "zeros_sealed": file(LOG, 0, log + bytes(300)) + file(STATE, 1, state_header() + block_record(
        0, point(end_of, 0, len(log)), point(end_of, 0, len(log)), sealed=1, empty=1)),
    "zeros_unknown": file(LOG, 0, log + bytes(300)),
    "gone": file(STATE, 1, state_header() + block_record(0, point(end_of, 0, len(log)), point(0, 0, 0), empty=1)),
}
for number, (name, content) in enumerate(sorted(folders.items())):
    seed("block", name, bytes([0x41 | number % 3 << 1 | (number & 1) << 3]) + content)
    seed("fsck", name, b"\x01" + content)

KEYS = [struct.pack(">16sII16s", b"topic", 0, n, b"block%d" % n) for n in range(3)]
rows = [block_record(n, point(n + 9, n, 10 * n), point(n, n, 0), slot=n, key=key) for n, key in enumerate(KEYS)]
seed("state", "one", file(STATE, 1, state_header(3) + b"".join(rows) + mark_record(point(50, 2, 99), 2), FREE))
seed("state", "two", file(STATE, 0, state_header(3) + b"".join(rows), FREE) + file(
    STATE, 1, state_header(4) + rows[1] + mark_record(point(77, 1, 9), 1), FREE) + file(
        STATE, 2, state_header(4) + drop_record(b"block0".ljust(16, b"\0")), FREE))
seed("state", "skip", file(STATE, 1, state_header(3) + rows[0] + b"junkjunkjunk" + rows[1], FREE))
seed("state", "base_damaged", file(STATE, 0, b"x" * 40, RAW) + file(STATE, 1, state_header(9) + rows[0], FREE))
seed("state", "same_block", file(STATE, 0, state_header() + rows[0]) + file(STATE, 1, state_header() + rows[0] + drop_record()))
seed("state", "other_names", file(SMALL, 4, b"x") + file(STATE, 3, state_header(9) + rows[0], FREE))

seed("snapshot", "table", b"\0\x05" + snapshot(point(5, 0, 100), TABLE))
seed("snapshot", "nothing", b"\0\x05" + snapshot(point(5, 0, 100), producers([], [])))
seed("snapshot", "many", b"\0\x05" + snapshot(point(5, 0, 100), producers(
    [(n, n, [(i, i, i) for i in range(5)]) for n in range(4)], [(b"p%d" % n, n, [(i, i) for i in range(9)]) for n in range(4)])))
seed("snapshot", "raw", b"\x80\x05" + snapshot(point(5, 0, 100), TABLE))
seed("snapshot", "summary", b"\x01\x00" + summary(end, end, len(long_log), mark))

# The log is the fuzzer's own: 40 batches of 135 bytes with two records each, the first 25 in the closed segment.
entries = b"".join(struct.pack(">II", 2 * n + 1, 135 * n) for n in range(1, 25))
latest, times = 0, b""
for n in range(1, 25):
    newest = max((1000 + m * 7919 % 500 + 1, -m) for m in range(n + 1))
    if newest[0] > latest:
        latest = newest[0]
        times += struct.pack(">qI", latest, -2 * newest[1] + 1)
marks = struct.pack(">IIIIIqqq", 0, 0, 0, 0, 135, latest, latest, 1)
for name, flags, parts in (
        ("right", 1, (entries, times)), ("right_read_first", 3, (entries, times)), ("made_again", 4, (entries, times)),
        ("empty", 1, (b"", b"")), ("short", 1, (entries[:40], times[:12])), ("shifted", 3, (entries[8:] + entries[:8], times)),
        ("between", 1, (b"".join(struct.pack(">II", 2 * n + 1, 135 * n + 7) for n in range(1, 25)), times)),
        ("far", 3, (struct.pack(">II", 1, 0xFFFFFFFF) + struct.pack(">II", 3, 0x7FFFFFFF), times)),
        ("late", 1, (entries, struct.pack(">qI", 1001, 0xFFFFFFFF)))):
    content = b"".join(struct.pack(">H", len(part)) + part for part in parts + (summary(50, 50, 0, marks),))
    seed("index", name, bytes([flags]) + content)

for flags in range(4):
    seed("dump", "log%d" % flags, bytes([flags, flags]) + log)
seed("dump", "sessions", b"\x03\0" + folders["log_sessions"][4:])
seed("dump", "control", b"\x03\0" + folders["log_control"][4:])
seed("dump", "torn", b"\x82\0" + log + log[:30])

# ---- text ----

seed("options", "file", b'\0# comment\ndata_dir = /var/lib/x # why\nshards=4\nfsync = interval\nsegment_bytes = 64M\n'
                        b'push_wait_ms = 30s\nrack = "a \\"b\\" # c"\n')
seed("options", "file_bom", b"\0\xef\xbb\xbflog_json = yes\r\nretention_ms = -1\n")
seed("options", "file_wrong", b"\0segment_byte = 1\n")
seed("options", "file_twice", b"\0shards = 1\nlog_json = yes\nshards = 2\n")
seed("options", "environment", b"\x01CLYMQ_LOG_LEVEL=debug,store=trace")
seed("options", "environment_wrong", b"\x01CLYMQ_FSYNK=never")
seed("options", "flags", b"\x02--shards\n2\n--fsync=never\n--log-json\nrest\n--no-log-json\n--idle-ms=5m\n--\n--more")
seed("options", "flags_help", b"\x02-h")
seed("options", "flags_wrong", b"\x02--shard=3")
seed("options", "size", b"\x0316M")
seed("options", "duration", b"\x031500ms")
seed("options", "duration_days", b"\x0390d")

for number, text in enumerate((b"beginning", b"end", b"12345", b"@1700000000000", b"-5m", b"2026-11-22T20:27:01.5Z",
                               b"2026-11-22 20:27+02:00", b"2026-02-28")):
    seed("cli_text", "place%d" % number, b"\0" + text)
seed("cli_text", "lines", b"\x29one\ntwo\n\nfour without end")
seed("cli_text", "lines_long", b"\x05too long a line\n")

# ---- metadata ----


def row(path, value, version=0, ephemeral=0):
    return struct.pack(">B", len(path)) + path + struct.pack(">H", len(value)) + value + struct.pack(
        ">bIB", version, 0, ephemeral)


seed("database", "rows", b"\x01" + row(b"/ClyMQ", b"{}") + row(b"/ClyMQ/Topics", b"") + row(
    b"/ClyMQ/Topics/a", b'{"id":"0"}', 3) + row(b"/ClyMQ/Brokers", b"", 0, 1))
seed("database", "orphan", b"\x01" + row(b"/a/b", b"x"))
seed("database", "wrong_sum", b"\x03" + row(b"/a", b"x"))
seed("database", "no_path", b"\x01" + row(b"a//b", b"x"))
with tempfile.TemporaryDirectory() as folder:
    def database(name, *statements, format=1):
        path = os.path.join(folder, name)
        handle = sqlite3.connect(path, isolation_level=None)
        handle.execute("PRAGMA page_size=512")
        for statement in statements:
            handle.execute(statement)
        handle.execute("PRAGMA application_id=%d" % 0x436C794D)
        handle.execute("PRAGMA user_version=%d" % format)
        handle.close()
        with open(path, "rb") as content:
            seed("database", name, b"\0" + content.read())

    TABLE_SQL = ("CREATE TABLE node(path TEXT PRIMARY KEY NOT NULL, value BLOB NOT NULL, version INTEGER NOT NULL,"
                 " ephemeral INTEGER NOT NULL, sum INTEGER NOT NULL) WITHOUT ROWID")
    value = b"v"
    total = crc32c(struct.pack("<QQQ", 2, 1, 0) + b"/a" + value)
    database("file", TABLE_SQL, "INSERT INTO node VALUES('/a', x'76', 0, 0, %d)" % total)
    database("file_newer", TABLE_SQL, format=2)
    database("file_other", "CREATE TABLE other(x)")
    database("file_view", "CREATE VIEW node AS WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c) SELECT '/' || n AS path,"
             " x'' AS value, 0 AS version, 0 AS ephemeral, 0 AS sum FROM c")
    database("file_trigger", TABLE_SQL, "CREATE TABLE t(x)", "CREATE TRIGGER r AFTER INSERT ON node BEGIN INSERT INTO t VALUES(1); END")
seed("database", "no_database", b"\0this is no database")

# ---- the RPC ----


def text(value):
    known = {b"t": 0xF0, b"0": 0xF1, b"u": 0xF2, b"1": 0xF3, b"b1": 0xF4, b"": 0xF6, b"c": 0xF7}
    if value in known:
        return bytes([known[value]])
    return bytes([len(value)]) + value if len(value) < 0xF0 else b"\xf8" + struct.pack(">H", len(value)) + value


def number(value):
    if -8 <= value < 0xB8:
        return bytes([value + 8])
    if value < 0:
        return b"\xcf" + struct.pack(">Q", ~value & (1 << 64) - 1)
    return b"\xc7" + struct.pack(">Q", value)


def long_text(value):
    return b"\xf8" + struct.pack(">H", len(value)) + value


(PUSH, PULL, INFO, INFO_GET, PUSH_BATCH, PULL_BATCH, LIST_OFFSET, CREATE_TOPIC, CREATE_PART, PRO_GET, SUB, CON_START,
 NEW_LEADER, LIST, DESCRIBE, DELETE_TOPIC, DELETE_PART, SET_STATE, SET_CONFIG) = range(19)
WAIT = 0x80


def push(topic=b"t", partition=b"0", message=b"hello", ack=255, command=1, session=5):
    return text(b"p") + text(topic) + text(partition) + text(message) + number(0) + number(0) + bytes(
        [1, ack]) + number(command) + number(session)


def call(method, *fields):
    return bytes([method | WAIT]) + b"".join(fields)


BATCH = batch([b"x", b"yy"])
IDEMPOTENT = batch([b"x"], producer=9, sequence=0)
calls = {
    "push": call(PUSH, push()) + call(PUSH, push()) + call(PUSH, push(ack=1, command=2)) + call(PUSH, push(ack=0, session=-1)),
    "push_wrong": call(PUSH, push(topic=b"none")) + call(PUSH, push(ack=7)) + call(PUSH, push(partition=b"9")),
    "push_batch": call(PUSH_BATCH, text(b"t"), text(b"0"), b"\xff", long_text(BATCH)) + call(
        PUSH_BATCH, text(b"t"), text(b"0"), b"\x01", long_text(IDEMPOTENT)) + call(
            PUSH_BATCH, text(b"t"), text(b"0"), b"\xff", long_text(IDEMPOTENT)) + call(
                PULL_BATCH, text(b"t"), text(b"0"), number(0), number(1000), number(1), number(100)),
    "push_batch_wrong": bytes([PUSH_BATCH | 0xC0]) + text(b"t") + text(b"0") + b"\xff" + long_text(BATCH) + call(
        PUSH_BATCH, text(b"t"), text(b"0"), b"\xff", text(b"short")),
    "pull": call(PULL, text(b"c"), text(b"t"), text(b"0"), number(0), b"\x05\x04") + call(
        PULL, text(b"c"), text(b"t"), text(b"0"), number(99), b"\x05\x01") + call(
            PULL, text(b"c"), text(b"t"), text(b"0"), number(-1), b"\x7f\x02"),
    "pull_wait": bytes([PULL_BATCH]) + text(b"t") + text(b"0") + number(1) + number(1 << 20) + number(1) + number(900) + bytes(
        [PUSH]) + push(),
    "pull_far": call(PULL_BATCH, text(b"t"), text(b"0"), number((1 << 63) - 1), number(1 << 31), number(-5), number(1 << 31)) + call(
        PULL, text(b"c"), text(b"t"), text(b"0"), number((1 << 63) - 1), b"\x80\x80"),
    "offsets": b"".join(call(LIST_OFFSET, text(b"t"), text(b"0"), number(n)) for n in (-1, -2, 0, 1 << 40, -3)),
    "consumer": call(INFO, text(b"host:1"), text(b"c")) + call(SUB, text(b"c"), text(b"t"), text(b"0"), b"\x04") + call(
        CON_START, text(b"c"), text(b"t"), text(b"0"), b"\x04", number(0)) + call(
            INFO_GET, text(b"c"), text(b"t"), text(b"0"), number(0), b"\x04") + call(SUB, text(b"c"), text(b"t"), text(b""), b"\x03"),
    "config": call(SET_CONFIG, text(b"t"), text(b'{"retention_ms":1,"retention_bytes":null}')) + call(DESCRIBE, text(b"t")) + call(
        SET_CONFIG, text(b"t"), text(b'{"retention_ms":"x"}')) + call(SET_CONFIG, text(b"v"), text(b"{}")),
    "topics": call(CREATE_TOPIC, text(b"u"), number(2), b"\x01", b"\xff", text(b'{"retention_ms":1000,"segment_bytes":1048576}')) + call(
        LIST, text(b"")) + call(DESCRIBE, text(b"u")) + call(DELETE_PART, text(b"u"), text(b"1")) + call(
            DELETE_TOPIC, text(b"u")) + call(DELETE_TOPIC, text(b"u")) + call(LIST, text(b"t")),
    "topics_wrong": call(CREATE_TOPIC, text(b"t"), number(1), b"\x01", b"\xff", text(b"{}")) + call(
        CREATE_TOPIC, text(b"a/b"), number(1), b"\x01", b"\xff", text(b"{}")) + call(
            CREATE_TOPIC, text(b"v"), number(-1), b"\x80", b"\x09", text(b'{"no":1}')) + call(DESCRIBE, text(b"x")),
    "partitions": call(CREATE_PART, text(b"t"), text(b"xian")) + call(SET_STATE, text(b"t"), text(b"xian"), b"\xff\x02") + call(
        PRO_GET, text(b"t"), text(b"xian")) + call(NEW_LEADER, text(b"t"), text(b"xian"), text(b"0")) + call(
            SET_STATE, text(b"t"), text(b"0"), b"\x01\x01") + call(PUSH, push()) + call(
                PULL, text(b"c"), text(b"t"), text(b"0"), number(0), b"\x05\x04"),
    "together": bytes([PUSH]) + push(command=1) + bytes([PUSH]) + push(command=2) + bytes([SET_STATE]) + text(b"t") + text(
        b"0") + b"\x01\x01" + bytes([PUSH]) + push(command=3) + bytes([DELETE_PART]) + text(b"t") + text(b"0") + bytes([PUSH]) + push(command=4),
}
for name, content in calls.items():
    seed("broker", name, content)

GOOD, FIELDS, EXCEPTION, STRUCT, BYTES, TOPIC, CLOSE, SILENCE = range(8)


def answer(kind, content=b""):
    return struct.pack(">BH", kind, len(content)) + content


describe = b'{"name":"t","partitions":[{"name":"0","number":0,"leader":{"id":"b1","address":"server:7878"}}]}'
headers = batch([b"h"], headers=((b"a", b"1"), (b"b", b"")))
answers = {
    "good": answer(GOOD) * 4 + answer(GOOD, one) * 3 + answer(GOOD, log) + answer(GOOD, headers + one),
    "again": answer(GOOD, log) * 12,
    "fields": (answer(FIELDS, number(-11) + text(b"later") + number(0) + number(9) + long_text(one)) + answer(GOOD)) * 4,
    "exception": answer(EXCEPTION, b"E: no leader") * 3 + answer(GOOD, log) * 8,
    "struct": answer(STRUCT, b"\x0c\0\0\x08\0\x01\0\0\0\0\0\0") * 8,
    "bytes": answer(GOOD) * 3 + answer(BYTES, b"\0\0\0\x08\x80\x01\0\x02\0\0\0\0") + answer(GOOD, log) * 5,
    "topic": answer(TOPIC, describe) * 3 + answer(GOOD, log) * 6,
    "topic_other": answer(TOPIC, b'{"partitions":[{"name":"1","number":1,"leader":null},{"name":"0","number":4294967295}]}') * 4 + answer(GOOD, log) * 6,
    "topic_wrong": answer(TOPIC, b'{"partitions":[{"name":0}]}') * 6,
    "close": answer(CLOSE) * 2 + answer(GOOD, log) * 9,
    "silence": answer(GOOD) * 3 + answer(SILENCE) + answer(GOOD, log) * 6,
}
for name, content in answers.items():
    seed("client", name, content)

UUID = b"0123456789abcdef0123456789abcdef"
NODES = CLUSTER, EPOCH, BROKER, TOPIC_NODE, PARTITION, BLOCK, COPY, ANY = range(8)


def node(kind, name, value):
    return bytes([kind, len(name)]) + name + struct.pack(">H", len(value)) + value


whole = node(CLUSTER, b"", b'{"id":"%s","format":1}' % UUID) + node(EPOCH, b"", b'{"epoch":3}') + node(
    BROKER, b"1", b'{"address":"127.0.0.1:8888","rack":"","disk":"%s"}' % UUID) + node(
        TOPIC_NODE, b"t", b'{"id":"%s","state":"ready","next_number":2,"config":{"retention_ms":5}}' % UUID) + node(
            PARTITION, b"0", b'{"number":0,"state":"ready","ack":1,"replicas":1}')


def block_json(state, **more):
    value = b'{"id":"%s","state":"%s","round":1,"base_epoch":2,"ack":1,"leader":"1"' % (UUID, state)
    return value + b"".join(b',"%s":%d' % (key.encode(), more[key]) for key in more) + b"}"


nodes = {
    "open": whole + node(BLOCK, b"0", block_json(b"open", start=0)) + node(COPY, b"1", b'{"disk":"%s","state":"voter"}' % UUID),
    "chain": whole + node(BLOCK, b"0", block_json(b"sealed", start=0, end=10)) + node(BLOCK, b"1", block_json(b"open", start=10)),
    "sealing": whole + node(BLOCK, b"0", block_json(b"sealing", start=0)) + node(BLOCK, b"1", block_json(b"creating")),
    "creating": whole + node(BLOCK, b"0", block_json(b"creating", start=0)),
    "deleted": whole + node(BLOCK, b"0", block_json(b"deleted", start=0, end=5)) + node(BLOCK, b"1", block_json(b"open", start=5)),
    "no_chain": whole,
    "topic_deleting": whole + node(TOPIC_NODE, b"t", b'{"id":"%s","state":"deleting","next_number":2,"config":{}}' % UUID),
    "topic_creating": whole + node(TOPIC_NODE, b"x", b'{"id":"%s","state":"creating","next_number":2,"config":{}}' % UUID),
    "partition_deleting": whole + node(PARTITION, b"0", b'{"number":0,"state":"deleting","ack":1,"replicas":1}'),
    "newer": node(CLUSTER, b"", b'{"id":"%s","format":2}' % UUID),
    "other": node(ANY, b"Else/where", b"x") + whole,
    "nothing": b"",
}
for name, content in nodes.items():
    seed("metadata", name, content)

# Every method's structs in both protocols, from the table of the code itself.
SOURCE = open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../src/wire/rpc.h")).read().replace("\\\n", " ")
FIELD = re.compile(r'F\(S, (\w+), \w+, "(\w+)", (\d+), \d\)')
STRUCTS = {name: FIELD.findall(body) for name, body in re.findall(r"#define RPC_(\w+)\(F, S\)(.*)", SOURCE)}
METHODS = re.findall(r'M\(\w+, "\w+", \w+, "\w+", (\w+)\)', SOURCE)
BINARY_TYPES = {"BOOL": 2, "I8": 3, "I32": 8, "I64": 10, "STRING": 11}
COMPACT_TYPES = {"I8": 3, "I32": 5, "I64": 6, "STRING": 8}


def unsigned_varint(value):
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def binary_struct(wrapper, fields):
    out = struct.pack(">Bh", 12, wrapper)
    for kind, _, ident in fields:
        out += struct.pack(">Bh", BINARY_TYPES[kind], int(ident))
        out += {"BOOL": b"\1", "I8": b"\xff", "I32": struct.pack(">i", -7), "I64": struct.pack(">q", 99),
                "STRING": struct.pack(">i", 3) + b"abc"}[kind]
    return out + b"\0\0"


def compact_struct(wrapper, fields):
    out = bytes([wrapper << 4 | 12]) if wrapper else b"\x0c\0"
    last = 0
    for kind, _, ident in fields:
        step, last = int(ident) - last, int(ident)
        code = 1 if kind == "BOOL" else COMPACT_TYPES[kind]
        out += bytes([step << 4 | code]) if step <= 15 else bytes([code]) + varint(last)
        out += {"BOOL": b"", "I8": b"\xff", "I32": varint(-7), "I64": varint(99), "STRING": unsigned_varint(3) + b"abc"}[kind]
    return out + b"\0\0"


for index, method in enumerate(METHODS):
    for reply in (0, 1):
        fields = STRUCTS[method + ("_RESPONSE" if reply else "_REQUEST")]
        name = "%s_%s" % (method.lower(), "answer" if reply else "call")
        seed("rpc_decode", name, bytes([reply << 1, index]) + binary_struct(1 - reply, fields))
        seed("rpc_decode", name + "_compact", bytes([1 | reply << 1, index]) + compact_struct(1 - reply, fields))
