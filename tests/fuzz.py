"""A hundred thousand bad inputs: ``python -m tests.fuzz filters|netlink|config [COUNT] [SEED]``.

Each must be taken or refused by its documented error, soon; and all of them together must not use up memory. What
breaks that is reported with the seed and the input, and the exit status is 1. The same seed makes the same inputs.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import socket
import struct
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from types import FrameType
from typing import cast

import numpy as np

from tcptop_ops import filters, netlink, settings_text, view
from tcptop_ops.columns import BY_NAME, parse_list
from tcptop_ops.errors import Failed, TcptopError, Usage
from tcptop_ops.filter_grammar import FilterError, parse
from tcptop_ops.host_description import HostDescription
from tcptop_ops.outputs.json_lines import json_line
from tcptop_ops.outputs.text_table import table
from tcptop_ops.snapshot import Records
from tcptop_ops.sockdiag import ALL_STATES, SockDiag, SockDiagSource, open_socket, request
from tcptop_ops.tracker import Flows, Tracker
from tests.fakes import scrambled, snapshot

PATIENCE_S = 20.0
"""For one input; they take milliseconds. An alarm ends the wait."""

MOST_GROWTH = 32 << 20
"""Bytes that the process may have more at the end than after WARM_UP inputs: caches are full by then."""

WARM_UP = 0.2
USED = 1 << 20
"""Bytes of the buffer that a damaged dump may fill, and more."""

EXTENSIONS = 1 << 6 | 1 << 1 | 1 << 3  # SKMEMINFO, INFO, CONG

Try = Callable[[random.Random], str]
"""Makes an input from the numbers and tries it: what came of it. Raises what is a bug."""


class TooSlow(BaseException):
    """Raised by the alarm: no ``except Exception`` may take it."""


@dataclass
class Report:
    """What came of it. ``outcomes``: how often each; ``growth``: bytes after the warm-up."""

    count: int
    seed: int
    seconds: float = 0.0
    slowest_s: float = 0.0
    growth: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)

    def line(self) -> str:
        kinds = ", ".join(f"{number} {name}" for name, number in self.outcomes.most_common())
        return (
            f"{self.count} inputs, seed {self.seed}, {self.seconds:.0f} s: {kinds}; slowest {self.slowest_s * 1e3:.0f}"
            f" ms; memory grew {self.growth / 2**20:+.1f} MiB; {len(self.broken)} broken"
        )


def resident() -> int:
    """Bytes of this process in memory: the second field of /proc/self/statm."""
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def alarm() -> Iterator[None]:
    """Raise TooSlow where one input takes too long. For the main thread."""

    def ring(_number: int, _frame: FrameType | None) -> None:
        raise TooSlow(f"took more than {PATIENCE_S:g} s")

    before = signal.signal(signal.SIGALRM, ring)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def run(attempt: Try, count: int, seed: int) -> Report:
    """Try so many inputs. Each has a seed of its own, which is told where it breaks something."""
    report = Report(count, seed)
    started = time.perf_counter()
    base = 0
    with alarm():
        for n in range(count):
            if n == int(count * WARM_UP):
                base = resident()
            one = time.perf_counter()
            signal.setitimer(signal.ITIMER_REAL, PATIENCE_S)
            try:
                report.outcomes[attempt(random.Random(f"{seed}:{n}"))] += 1
            except (Exception, TooSlow) as error:
                report.broken.append(f"{seed}:{n}: {type(error).__name__}: {error}")
            signal.setitimer(signal.ITIMER_REAL, 0)
            report.slowest_s = max(report.slowest_s, time.perf_counter() - one)
    report.seconds = time.perf_counter() - started
    report.growth = resident() - base
    if report.growth > MOST_GROWTH:
        report.broken.append(f"memory grew by {report.growth} bytes")
    return report


# --- filters

FIELDS = (*BY_NAME, "port", "host", "ports", "Srtt", "x", "srtt_us ")
OPERATORS = ("=", "!=", "<", "<=", ">", ">=", "~", "==", "=~", "!~", "<>", "=<", "!", "~~")
NUMBERS = ("0", "1", "-1", "+.5", "1e9", "20", "9" * 20, "9" * 400, "0." + "1" * 30, "٣", "0x10", "nan", "inf", "1_000")
UNITS = (
    "",
    "us",
    "ms",
    "s",
    "m",
    "h",
    "d",
    "µs",
    "%",
    "k",
    "M",
    "Gi",
    "MB/s",
    "Mbit/s",
    "Mbps",
    "KiB",
    "b",
    "/s",
    "ss",
)
WORDS = (
    "nginx",
    ":443",
    "10.2.",
    "10.0.0.0/8",
    "10.0.0.1:65536",
    "[::1]:22",
    "[::ffff:1.2.3.4]",
    "fe80::1%2",
    "fe80::1%eth0",
    "::/0",
    "::",
    "*",
    "*:*",
    "1.2.3.4/33",
    "syn-sent",
    "estab",
    "f",
    "\x1b[2J",
    "数据库",
    "\u202e",
    "\udcff",
    "\ud800",
    "\0",
    "a" * 300,
)
PATTERN_PIECES = (
    *"ab.^$|()*+?{}[]\\",
    "(a+)+",
    "(?:",
    "(?=",
    "(?<=",
    "(?P<x>",
    "(?P=x)",
    "(?i)",
    "(?x)",
    "(?(1)",
    "{2,}",
    "{,3}",
    "{999}",
    "{99999999999}",
    "[^a]",
    "[[a]",
    "\\w",
    "\\1",
    "\\x4",
    "a*",
    ".*",
    "[a-z]+",
    "a?",
    "é",
)
VALID = (
    "srtt > 20ms",
    "retr% >= 0.5%",
    "age < 5m",
    "tx > 1MB/s",
    "delivery <= 10Mbit/s",
    "mss != 1448",
    "bytes_acked > 2GiB",
    "retrans_per_s > 1.5k/s",
    "host = 10.0.0.0/8",
    "peer != [2001:db8::1]:443",
    "raddr = *",
    "port = 443",
    "pid = 7",
    "cookie >= 18446744073709551615",
    "state = syn-s",
    "direction = OUT",
    "process ~ '^(ng|x)[a-z]*$'",
    "cgroup ~ a*ab*b",
    "service ~ (?i)A+.!",
    "user = 'a b'",
    "peer ~ ':4{2,3}'",
    "not nginx",
    "10.2.",
    ":443",
    "fe80:",
    "estab",
)
"""Each kind of comparison."""

SLOW = ("(a+)+!", "(a|a)*b", "(.*)*!", "a*a*a*b", "(?:a?){30}a{30}", "(?=(a+)+!)", "([a-z]+)*[0-9]", "(a{1,9}){9}b")
"""Patterns that a value of many ``a`` keeps busy for ever."""

JOINTS = (" and ", " or ", " and not ", ") or (", " AND ", "&&", " ", ",", "not not ")


def value(rng: random.Random) -> str:
    kind = rng.randrange(4)
    if kind == 0:
        return rng.choice(NUMBERS) + rng.choice(("", " ")) + rng.choice(UNITS)
    if kind == 1:
        return pattern(rng)
    if kind == 2:
        return quoted(rng, "".join(chr(rng.choice((rng.randrange(128), rng.randrange(0x11_0000)))) for _ in range(9)))
    return rng.choice(WORDS)


def pattern(rng: random.Random) -> str:
    pieces = rng.choices(PATTERN_PIECES, k=rng.randint(1, 9))
    if rng.random() < 0.3:
        pieces[: rng.randint(1, 3)] = [rng.choice(SLOW)]
    return quoted(rng, "".join(pieces))


def quoted(rng: random.Random, plain: str) -> str:
    """Mostly as it should be."""
    quote = rng.choice("'\"")
    if rng.random() < 0.9:
        plain = plain.replace("\\", "\\\\").replace(quote, "\\" + quote)
    return quote + plain + quote * (rng.random() < 0.95)


def condition(rng: random.Random) -> str:
    if rng.random() < 0.6:
        return rng.choice(VALID)
    if rng.random() < 0.2:
        return value(rng)
    if rng.random() < 0.3:
        return rng.choice(("cgroup ~ ", "service ~ ", "process~")) + pattern(rng)
    gap = rng.choice(("", " ", "\t", "\n", "\u3000"))
    return rng.choice(FIELDS) + gap + rng.choice(OPERATORS) + gap + value(rng)


def filter_text(rng: random.Random) -> str:
    """Conditions joined; half of them damaged: letters out, in, doubled, turned round, or whole nests put round it."""
    text = condition(rng)
    for _ in range(rng.choice((0, 0, 1, 2, 8))):
        text += rng.choice(JOINTS if rng.random() < 0.2 else JOINTS[:3]) + condition(rng)
    if rng.random() < 0.1:
        depth = rng.choice((1, 3, 64, 65, 2000))
        text = "(" * depth + text + ")" * (depth - rng.choice((0, 0, 1)))
    if rng.random() < 0.02:
        text = rng.choice(("not ", "a or ", "a and ", "! ")) * rng.choice((10, 500, 1500)) + text
    for _ in range(rng.choice((0, 0, 1, 3))):
        at, length = rng.randrange(len(text) + 1), rng.randint(1, 6)
        middle = rng.choice(("", text[at : at + length] * 2, text[at : at + length][::-1], chr(rng.randrange(0x3000))))
        text = text[:at] + middle + text[at + length :]
    return text


def rows() -> Flows:
    """Rows of any content, for what the filters find; and the values that keep a regular expression busy."""
    paths = {1: "/" + "a" * 511, 2: "/" + "ab" * 255 + "!", 3: "/\udcff\x1b"}
    tracker = Tracker(closed_s=1e9)
    tracker.update(scrambled(20, 1))
    made = scrambled(20, 2, 1, users=dict.fromkeys(range(3), "\x1b\udcffroot"), cgroups=paths)
    made.sockets["cgroup_id"][:12] = np.arange(12) % 4
    return tracker.update(made)


def filters_try() -> Try:
    """Compile and, where it is a filter, ask it of all rows."""
    flows = rows()
    empty = Tracker().update(snapshot(0, []))

    def attempt(rng: random.Random) -> str:
        text = filter_text(rng)
        try:
            made = filters.compile(text)
        except FilterError as error:
            if not 1 <= error.column <= len(text) + 1:
                raise ValueError(f"column {error.column} of {text!r}") from error
            return "refused"
        parse(text)
        for part in (flows.live, flows.closed, empty.live):
            mask = made.mask(part, flows)
            assert mask.shape == (len(part),), text
            assert mask.dtype == np.bool_, text
        return "taken"

    return attempt


# --- netlink


class Recorded:
    """A socket that answers each request with the same datagrams; it never waits."""

    def __init__(self) -> None:
        self.datagrams: list[bytes] = []
        self.waiting: deque[bytes] = deque()

    def send(self, _request: bytes) -> None:
        self.waiting.extend(self.datagrams)

    def recv(self, length: int, _flags: int) -> bytes:
        if not self.waiting:
            raise BlockingIOError
        return self.waiting.popleft()[:length]

    def recv_into(self, room: memoryview, length: int, flags: int) -> int:
        if not self.waiting:
            raise BlockingIOError
        whole = len(self.waiting[0])
        data = self.recv(length, flags)
        room[: len(data)] = data
        return whole

    def close(self) -> None:
        self.waiting.clear()


def recorded() -> list[bytes]:
    """The datagrams of a dump of this kernel, with a few sockets of every kind in it."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=64))
        for _ in range(8):
            near = stack.enter_context(socket.create_connection(listener.getsockname()))
            near.sendall(b"hello")
        stack.enter_context(listener.accept()[0])
        asking = stack.enter_context(open_socket())
        asking.send(request(ALL_STATES, EXTENSIONS))
        found: list[bytes] = []
        while not found or struct.unpack_from("=H", found[-1], 4)[0] != netlink.NLMSG_DONE:
            found.append(asking.recv(1 << 16))
    return smaller(found)


def smaller(datagrams: list[bytes], most: int = 24) -> list[bytes]:
    """The first messages of it, in three datagrams, and the end: of a busy host it could be megabytes."""
    messages: list[bytes] = []
    for data in datagrams:
        at = 0
        while at < len(data):
            (length,) = struct.unpack_from("=I", data, at)
            messages.append(data[at : at + length])
            at += length + 3 & ~3
    body, end = messages[:-1][:most], messages[-1]
    third = len(body) // 3 or 1
    parts = [b"".join(body[at : at + third]) for at in range(0, len(body), third)]
    return [*parts, end]


INTERESTING = (0, 1, 2, 3, 4, 5, 15, 16, 17, 20, 0x7F, 0x80, 0xFF, 0x4000, 0x7FFF, 0x8000, 0xFFFF, 2**31, 2**32 - 1)


def damage(rng: random.Random, datagrams: list[bytes]) -> list[bytes]:
    """One to eight things done to it: bytes, words, lengths, pieces, datagrams; sometimes nothing but noise."""
    found = [bytearray(data) for data in datagrams]
    for _ in range(rng.choice((1, 1, 2, 4, 8))):
        if not found:
            break
        which = rng.randrange(len(found))
        found[which : which + 1] = _damaged(rng, found[which], found)
    return [bytes(data) for data in found]


def _damaged(rng: random.Random, data: bytearray, others: list[bytearray]) -> list[bytearray]:
    at = rng.randrange(len(data) + 1) if rng.random() < 0.5 else rng.randrange(len(data) // 4 + 1) * 4
    length = rng.choice((1, 2, 4, 16, 72, 400))
    kind = rng.randrange(10)
    if kind < 4:
        size, code = rng.choice(((1, "B"), (2, "H"), (4, "I")))
        number = rng.choice(INTERESTING) % 256**size
        if at + size <= len(data):
            struct.pack_into(f"={code}", data, at, number)
    elif kind == 4:
        data[at : at + length] = rng.randbytes(length)
    elif kind == 5:
        del data[at : at + length]
    elif kind == 6:
        data[at:at] = data[at : at + length] * rng.choice((1, 3))
    elif kind == 7:
        return [data[:at], data[at:]] if rng.random() < 0.5 else []
    elif kind == 8:
        return [data, bytearray(rng.choice(others))]
    else:
        return [bytearray(rng.randbytes(rng.choice((0, 1, 15, 16, 100, 5000, 65_536, 70_000))))]
    return [data]


def netlink_try() -> Try:
    """Every way in which an answer is read; a tenth of them as far as a table and JSON."""
    good = recorded()
    sock = Recorded()
    diag = SockDiag(cast(socket.socket, sock))
    sock.datagrams = good
    if not len(diag.dump().sockets):
        raise RuntimeError("the recorded dump has no rows")
    columns = view.Spec(columns=parse_list("all"))
    reads: tuple[Callable[[], Records], ...] = (
        lambda: diag.dump().sockets,
        diag.half_open,
        lambda: np.array(diag.count_time_wait()),
    )

    def told(read: Callable[[], Records], before: int) -> bytes | str:
        """What is read, or the error, where the buffer had these bytes before."""
        diag._buffer[:USED].fill(before)
        try:
            return read().tobytes()
        except TcptopError as error:
            return f"{type(error).__name__}: {error.message}"

    def attempt(rng: random.Random) -> str:
        sock.datagrams = damage(rng, good)
        read = rng.choice((reads[0], *reads))
        found = told(read, 0)
        if found != told(read, 0xAA):
            raise ValueError("what is read depends on what was in the buffer")
        if isinstance(found, str):
            return found.partition(":")[0]
        if rng.random() < 0.2 and read is reads[0]:
            flows = Tracker().update(SockDiagSource(diag).poll())
            made = view.make(flows, columns)
            if not (table(made, None) + json_line(made, HostDescription("host", "6"), {})).isascii():
                raise ValueError("not ASCII")
        return "read"

    return attempt


# --- the configuration file

FILES = (
    "delay = 0.5 # fast\nsort = 'retr'\n\n# those that count\ncolumns = [\n  'peer', # whom\n  \"srtt\",\n]\n",
    "[widths]\npeer = 30\nlocal = 0x14\n[keys]\nquit = \"Q, f12\" # far\nsort.menu = 'S'\n\"filter.clear\" = '!'\n",
    'keys.quit = \'"\'\nthresholds.srtt = [2e4, 100_000]\nmouse = false\ntheme = """\\\n  dark"""\n',
    "thresholds = { rtt = [1, 2], 'retr%' = [0.1, 1.5] }\r\nnames = true\r\n# end",
    "columns = 'all'\nwindow = 60\nclosed = 0\ngroup = 'remote-net'\n\n[thresholds] # mine\nscore = [1, 2]\n[keys]\n",
    "",
)
TOML_PIECES = (
    *(
        "[",
        "]",
        "[[",
        "]]",
        "{",
        "}",
        "=",
        ",",
        ".",
        "#",
        "\n",
        "\r\n",
        "\r",
        " ",
        "\t",
        "'",
        '"',
        '"""',
        "'''",
        "\\",
        "\0",
    ),
    *("true", "1979-05-27T07:32:00Z", "07:32:00", "inf", "-nan", "0x1F", "1e999", "9" * 5000, "1_0", "+.1", "\\u0000"),
    *("delay", "widths", "keys", "thresholds", "columns", "quit", "sort", "peer", "srtt", '"\\u001b"', "数", "\ufeff"),
    *(
        "a = 1\n",
        "[a]\n",
        "[[a]]\n",
        "a.b.c = [[{}]]\n",
        "[" * 200,
        "{a=" * 200,
        "a." * 200,
        "[keys]\n",
        "x = {a=1,a=2}\n",
    ),
)
CHANGES: tuple[dict[str, object], ...] = (
    {"delay": 2.0},
    {"columns": ("process", "peer")},
    {"columns": None, "theme": "light", "names": True},
    {"widths": {"peer": 40, "local": 5}},
    {"widths": {}, "thresholds": {"srtt_us": (1, 2)}},
    {"keys": {"quit": "z"}, "loopback": False},
)


def config_file(rng: random.Random) -> bytes:
    """A file as it should be, most often damaged: bytes, pieces, its end; or pieces of TOML in any order."""
    if rng.random() < 0.2:
        return "".join(rng.choices(TOML_PIECES, k=rng.randint(1, 30))).encode()
    text = rng.choice(FILES) + (rng.choice(FILES) if rng.random() < 0.1 else "")
    data = bytearray(text.encode())
    for _ in range(rng.choice((0, 1, 1, 2, 5))):
        at, length = rng.randrange(len(data) + 1), rng.choice((1, 1, 2, 8, 40))
        kind = rng.randrange(5)
        if kind == 0:
            data[at : at + 1] = rng.randbytes(1)
        elif kind == 1:
            del data[at : at + length]
        elif kind == 2:
            data[at:at] = rng.choice(TOML_PIECES).encode()
        elif kind == 3:
            data[at:at] = data[at : at + length] * rng.choice((1, 3))
        else:
            del data[at:]
    return bytes(data)


def config_try() -> Try:
    """Read it and, where it is taken, change it: what is written is read as what was asked for, comments and all."""

    def attempt(rng: random.Random) -> str:
        data = config_file(rng)
        try:
            text = data.decode()
        except UnicodeDecodeError:
            return "not UTF-8"
        try:
            now = settings_text.parse(text)
        except Usage as error:
            line = int(error.message.removeprefix("config.toml line ").partition(":")[0])
            if not 1 <= line <= text.count("\n") + 1 or len(error.message) > 400 or not error.hint:
                raise ValueError(f"{error.message} | {error.hint}: {text!r}") from error
            return "refused"
        wanted = replace(now, **rng.choice(CHANGES))  # type: ignore[arg-type]
        try:
            made = settings_text.edited(text, wanted)
        except Usage:  # the keys that were changed are others' by now
            return "refused to change"
        except Failed:
            return "can't be changed"
        if settings_text.parse(made) != wanted or settings_text.edited(made, wanted) != made:
            raise ValueError(f"{text!r} became {made!r}")
        return "changed"

    return attempt


TRIES: dict[str, Callable[[], Try]] = {"filters": filters_try, "netlink": netlink_try, "config": config_try}


def main() -> int:
    """Exit status 1 where something broke."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("what", choices=TRIES)
    parser.add_argument("count", type=int, nargs="?", default=100_000)
    parser.add_argument("seed", type=int, nargs="?", default=random.SystemRandom().randrange(2**32))
    given = parser.parse_args()
    report = run(TRIES[given.what](), given.count, given.seed)
    print(f"{given.what}: {report.line()}")
    for broken in report.broken[:20]:
        print(ascii(broken))
    return int(bool(report.broken))


if __name__ == "__main__":
    sys.exit(main())
