"""Filters against a slow evaluator, which looks at a row at a time: any expression, any rows."""

from __future__ import annotations

import ipaddress
import math
import operator
import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tcptop_ops.filters import compiler
from tcptop_ops.filters.compiler import NAMES, SIZES
from tcptop_ops.model.flows import Flows
from tcptop_ops.tracking.tracker import Tracker
from tcptop_ops.views.column_lookup import COLUMNS_BY_NAME
from tcptop_ops.views.columns import COLUMNS
from tests.support.fakes import scrambled
from tests.support.filter_fleet import FLEET, mask

Row = dict[str, Any]
Says = Callable[[Row], bool]


def rows_of(flows: Flows) -> list[Row]:
    """Each row as a dict: raw numbers, JSON's text; None for null."""
    table: dict[str, list[Any]] = {}
    for column in COLUMNS:
        raw = flows.column(column.read).tolist()
        if column.id in compiler.IDENTITIES:
            table[column.id] = [value or None for value in raw]
        elif column.right:
            table[column.id] = [None if math.isnan(value) else value for value in raw]
        else:
            table[column.id] = [column.plain(value) for value in raw]
    return [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]


OPS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
TIMES = {"us": Fraction(1), "ms": Fraction(1000), "s": Fraction(10**6), "m": Fraction(60 * 10**6)}
SCALES = {"": 1, "k": 1000, "M": 10**6, "Ki": 1024, "MiB": 2**20, "GB": 10**9}


def says_number(ids: list[str], op: str, wanted: float) -> Says:
    def says(row: Row) -> bool:
        known = [row[id] for id in ids if row[id] is not None]
        found = [OPS[op](value, wanted) for value in known]
        return bool(found) and (all(found) if op == "!=" else any(found))

    return says


@st.composite
def numbers(draw: st.DrawFn) -> tuple[str, Says]:
    ids, name = draw(st.sampled_from(sorted((c.id, n) for n, c in COLUMNS_BY_NAME.items() if c.right)))
    op = draw(st.sampled_from(sorted(OPS)))
    digits = draw(st.sampled_from(["0", "1", "2", "5", "20", "30", "443", "1000", "20000", "20001"]))
    text, wanted = digits, float(digits)
    own = next((us for end, us in (("_us", 1), ("_ms", 1000), ("_s", 10**6)) if ids.endswith(end)), 0)
    if ids.endswith("_pct"):
        text += draw(st.sampled_from(["", "%"]))
    elif own and not ids.endswith("_per_s"):
        unit = draw(st.sampled_from(sorted(TIMES)))
        text, wanted = digits + unit, float(int(digits) * TIMES[unit] / own)
    elif ids in SIZES:
        scale = draw(st.sampled_from(sorted(SCALES)))
        text, wanted = digits + scale, float(int(digits) * SCALES[scale])
    elif ids.endswith("bytes_per_s"):
        text = digits + draw(st.sampled_from(["", "B", "B/s", "/s"]))
    return f"{spelled(draw, name)}{draw(BLANKS)}{op}{draw(BLANKS)}{text}", says_number([ids], op, wanted)


BLANKS = st.sampled_from(["", " ", "  ", "\n"])


def spelled(draw: st.DrawFn, name: str) -> str:
    return draw(st.sampled_from([name, name.upper()]))


@st.composite
def ports(draw: st.DrawFn) -> tuple[str, Says]:
    op, number = draw(st.sampled_from(sorted(OPS))), draw(st.sampled_from([22, 80, 443, 40001, 65535]))
    return f"port {op} {number}", says_number(["lport", "rport"], op, number)


def quoted(draw: st.DrawFn, text: str) -> str:
    quote = draw(st.sampled_from("'\""))
    return quote + re.sub(r"([\\'\"])", r"\\\1", text) + quote


@st.composite
def texts(draw: st.DrawFn) -> tuple[str, Says]:
    name = draw(st.sampled_from(["process", "cgroup", "user", "cc", "state", "end", "origin"]))
    op = draw(st.sampled_from(["=", "!=", "~"]))
    known = [value for row in ROWS if (value := row[name]) is not None and "\ufffd" not in value]
    fixed = NAMES.get(name, ())
    value = draw(st.sampled_from(sorted({*known, *fixed, *(() if fixed else ("nobody",))})))
    if op == "~":
        start = draw(st.integers(0, max(len(value) - 1, 0)))
        value = re.escape(value[start : start + draw(st.integers(1, 5))])
        flags = re.IGNORECASE if fixed else re.NOFLAG if hasattr(re, "NOFLAG") else re.RegexFlag(0)
        return (
            f"{name} ~ {quoted(draw, value)}",
            lambda row: row[name] is not None and re.search(value, row[name], flags) is not None,
        )
    return f"{name} {op} {quoted(draw, value)}", lambda row: row[name] is not None and OPS[op](row[name], value)


PREFIXES = ["10.0.0.0/8", "10.2.0.0/16", "0.0.0.0/0", "::/0", "fe80::/10", "2001:db8::/32", "10.0.0.1", "::", "0.0.0.0"]
PREFIXES += ["::ffff:0.0.0.0/96", "192.110.2.4/31", "fe80::1"]


def within(text: str, prefix: str) -> bool:
    network, ip = ipaddress.ip_network(prefix), ipaddress.ip_address(text.partition("%")[0])
    if prefix.startswith("::ffff:"):
        return ip.version == 4
    return ip.version == network.version and ip in network


@st.composite
def hosts(draw: st.DrawFn) -> tuple[str, Says]:
    name, op, prefix = (draw(st.sampled_from(x)) for x in (["host", "laddr", "raddr"], ["=", "!="], PREFIXES))
    ids = ["laddr", "raddr"] if name == "host" else [name]
    return f"{name} {op} {prefix}", lambda row: any(within(row[id], prefix) for id in ids) == (op == "=")


BARE = ["nginx", "NGINX", "ssh", "x:443", ":443", ":22", "10.2.", "10.2", "10", "fe80:", "2001:db8::", "syn-sent"]
BARE += ["estab", "listn", "e", "0", "::1", "fe80::1", "10.2.0.7", "1.2.3.4", "10.0.0.1:40001"]


def says_word(word: str) -> Says:
    low = word.lower()

    def address_says(text: str, port: float | None) -> bool:
        bare = text.partition("%")[0]
        if low.startswith(":") and low[1:].isdigit():
            return port == int(low[1:])
        if low in ("fe80::1", "::1", "10.2.0.7", "1.2.3.4"):
            return bare == low
        if ":" in low and "." in low:
            return f"{text}:{port or 0:.0f}" == low
        return bare not in ("::", "0.0.0.0") and text.startswith(low)

    def says(row: Row) -> bool:
        synonyms = {"estab": "ESTAB", "listn": "LISTEN", "syn-sent": "SYN-SENT"}
        ends = [(row["laddr"], row["lport"]), (row["raddr"], row["rport"])]
        return (
            low in (row["process"] or "").lower()
            or row["state"] == synonyms.get(low)
            or any(address_says(*end) for end in ends)
        )

    return says


@st.composite
def words(draw: st.DrawFn) -> tuple[str, Says]:
    word = draw(st.sampled_from(BARE))
    return draw(st.sampled_from([word, f"'{word}'"])), says_word(word)


def joined(parts: tuple[tuple[str, Says], tuple[str, Says]], every: bool, keyword: str) -> tuple[str, Says]:
    (left, says_left), (right, says_right) = parts
    text = f"({left}) {keyword} ({right})"
    return text, (lambda r: says_left(r) and says_right(r)) if every else (lambda r: says_left(r) or says_right(r))


def negated(part: tuple[str, Says]) -> tuple[str, Says]:
    return f"not ({part[0]})", lambda row: not part[1](row)


ROWS = rows_of(FLEET)
LEAVES = numbers() | ports() | texts() | hosts() | words()
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda p: joined(p, True, "and")),
        st.tuples(inner, inner).map(lambda p: joined(p, False, "OR")),
        inner.map(negated),
    ),
    max_leaves=8,
)


@settings(max_examples=600)
@given(TREES)
def test_any_expression_says_what_a_slow_evaluator_says(expression: tuple[str, Says]) -> None:
    text, says = expression
    assert mask(text) == [says(row) for row in ROWS]


@given(st.lists(LEAVES, min_size=1, max_size=5), st.data())
def test_precedence(leaves: list[tuple[str, Says]], data: st.DataObject) -> None:
    """Without parentheses: not, then and, then or; as Python reads it."""
    text, python = "", ""
    for i, (leaf, _) in enumerate(leaves):
        keyword = data.draw(st.sampled_from(["and", "or"])) if i else ""
        nots = "not " * data.draw(st.integers(0, 3))
        text += f" {keyword} {nots}{leaf}"
        python += f" {keyword} {nots}says[{i}](row)"
    names = {"says": [says for _, says in leaves]}
    assert mask(text) == [eval(python.strip(), names | {"row": row}) for row in ROWS]


@settings(max_examples=30)
@given(st.integers(0, 2**32), TREES)
def test_any_rows(seed: int, expression: tuple[str, Says]) -> None:
    tracker = Tracker(closed_s=1e9)
    tracker.update(scrambled(9, seed))
    flows = tracker.update(scrambled(9, seed + 1, 1))
    text, _ = expression
    matches, opposite = mask(text, flows), mask(f"not ({text})", flows)
    assert [not m for m in matches] == opposite
