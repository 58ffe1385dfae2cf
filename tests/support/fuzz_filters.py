"""Texts that are nearly filters, and some that are."""

from __future__ import annotations

import random

import numpy as np

from tcptop_ops.filters import compiler
from tcptop_ops.filters.grammar import FilterError, parse
from tcptop_ops.model.flows import Flows
from tcptop_ops.tracking.tracker import Tracker
from tcptop_ops.views.column_lookup import COLUMNS_BY_NAME
from tests.support.fakes import scrambled, snapshot
from tests.support.fuzz_run import Try

FIELDS = (*COLUMNS_BY_NAME, "port", "host", "ports", "Srtt", "x", "srtt_us ")
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
    """Return a value, or nearly one."""
    kind = rng.randrange(4)
    if kind == 0:
        return rng.choice(NUMBERS) + rng.choice(("", " ")) + rng.choice(UNITS)
    if kind == 1:
        return pattern(rng)
    if kind == 2:
        return quoted(rng, "".join(chr(rng.choice((rng.randrange(128), rng.randrange(0x11_0000)))) for _ in range(9)))
    return rng.choice(WORDS)


def pattern(rng: random.Random) -> str:
    """Return a quoted regular expression, or nearly one."""
    pieces = rng.choices(PATTERN_PIECES, k=rng.randint(1, 9))
    if rng.random() < 0.3:
        pieces[: rng.randint(1, 3)] = [rng.choice(SLOW)]
    return quoted(rng, "".join(pieces))


def quoted(rng: random.Random, plain: str) -> str:
    """Return a quoted text, mostly as it should be."""
    quote = rng.choice("'\"")
    if rng.random() < 0.9:
        plain = plain.replace("\\", "\\\\").replace(quote, "\\" + quote)
    return quote + plain + quote * (rng.random() < 0.95)


def condition(rng: random.Random) -> str:
    """Return a comparison, or nearly one."""
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
            made = compiler.compile(text)
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
