"""The filter language: text to a test over arrays of rows."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from difflib import get_close_matches
from functools import lru_cache, reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.filters import values
from tcptop_ops.filters.array_tests import Ends, each
from tcptop_ops.filters.grammar import BareWord, Comparison, FilterError, Join, Node, Not, Text, parse
from tcptop_ops.filters.regex_cost import LONGEST_VALUE
from tcptop_ops.filters.values import Misread, Place
from tcptop_ops.model.arrays import Mask
from tcptop_ops.model.endings import ENDS
from tcptop_ops.model.enums import SHORT_STATES, STATE_NAMES
from tcptop_ops.model.filter import Filter, Test
from tcptop_ops.model.flows import Flows, Rows
from tcptop_ops.views.column import Column
from tcptop_ops.views.column_lookup import COLUMNS_BY_NAME, find
from tcptop_ops.views.ecn_readers import MODES

Compare = Callable[[Any, Any], Any]


ORDERED: dict[str, Compare] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


STATES = tuple(STATE_NAMES.values())


STATE_SYNONYMS = {short.lower(): name for name, short in SHORT_STATES.items()} | {
    "established": "ESTAB",
    "listening": "LISTEN",
    "close": "UNCONN",
    "fin-wait1": "FIN-WAIT-1",
    "fin-wait2": "FIN-WAIT-2",
}


NAMES: dict[str, tuple[str, ...]] = {
    "state": STATES,
    "direction": ("out", "in", "listen"),
    "origin": ("new", "adopted", "listed"),
    "end": ENDS[1:],
    "blame": ("network", "peer", "app", "host"),
    "ecn_mode": MODES,
    "timer": ("retransmit", "keepalive", "time-wait", "persist", "probe", "reorder", "delack"),
}
"""Columns that hold one of a few names, and those names."""


ADDRESSES = ("laddr", "raddr")


ENDPOINTS = ("local", "peer")


IDENTITIES = ("cookie", "netns", "inode", "partner_cookie")


EITHER = {"port": ("lport", "rport"), "host": ADDRESSES}


SIZES = ("bytes_acked", "bytes_received", "mss", "snd_wnd", "rcv_wnd", "notsent", "recv_q", "send_q")


FIELDS = (*COLUMNS_BY_NAME, *EITHER)
"""Every name that may stand before an operator."""


def compile(text: str) -> Filter:
    """Compile a filter. Raises FilterError."""
    return Filter(text, _compiled(parse(text)))


def of_pids(pids: tuple[int, ...]) -> Filter:
    """Return the filter of the rows whose socket is held by one of these processes (``--pid``)."""
    read = find("pid").read
    return Filter(
        " or ".join(f"pid = {pid}" for pid in pids), lambda rows, flows: np.isin(read(rows, flows), np.array(pids))
    )


def both(first: Filter, second: Filter) -> Filter:
    """Return the filter of the rows that match both filters."""
    return Filter(f"({first.text}) and ({second.text})", _joined(True, (first.mask, second.mask)))


# --- Syntax tree to test


def _compiled(node: Node) -> Test:
    if isinstance(node, Join):
        return _joined(node.every, tuple(_compiled(part) for part in node.parts))
    if isinstance(node, Not):
        return _negated(_compiled(node.inner))
    return _comparison(node) if isinstance(node, Comparison) else _word(node)


def _joined(every: bool, tests: tuple[Test, ...]) -> Test:
    join: Compare = np.logical_and if every else np.logical_or
    return lambda rows, flows: reduce(join, (test(rows, flows) for test in tests))


def _negated(test: Test) -> Test:
    return lambda rows, flows: ~test(rows, flows)


def _comparison(node: Comparison) -> Test:
    name = _field(node.field)
    if name in EITHER:
        return _either(node, [find(end) for end in EITHER[name]])
    return _known(COLUMNS_BY_NAME[name], _of_column(node, COLUMNS_BY_NAME[name]))


def _field(written: Text) -> str:
    for name in (written.value, written.value.lower()):
        if name in FIELDS:
            return name
    near = get_close_matches(written.value.lower(), FIELDS, 1)
    hint = f"did you mean {near[0]}?" if near else f"fields: {' '.join(FIELDS)}"
    raise FilterError(written.column, "a field", written.value, hint)


def _known(column: Column, test: Test) -> Test:
    """Wrap a test to match no row while the source can't provide the column (``Snapshot.missing``)."""
    return lambda rows, flows: (
        np.zeros(len(rows), np.bool_) if column.id in flows.snapshot.missing else test(rows, flows)
    )


def _either(node: Comparison, ends: list[Column]) -> Test:
    """Test both ends: one of them must match; with ``!=``, one end must be known and none equal."""
    if node.operator.value != "!=":
        return _joined(False, tuple(_known(end, _of_column(node, end)) for end in ends))
    equal = Comparison(node.field, Text("=", node.operator.column), node.value)
    unequal = _joined(False, tuple(_known(end, _of_column(node, end)) for end in ends))
    none_equal = _negated(_joined(False, tuple(_known(end, _of_column(equal, end)) for end in ends)))
    return _joined(True, (unequal, none_equal))


def _of_column(node: Comparison, column: Column) -> Test:
    if column.id in (*ADDRESSES, *ENDPOINTS):
        return _on_places(node, column)
    if column.id in IDENTITIES:
        compare = _operator(node, tuple(ORDERED))
        wanted = np.uint64(_value(node.value, values.whole(2**64 - 1, "a whole number")))
        return lambda rows, flows: _unless_zero(column.read(rows, flows), compare, wanted)
    return _on_numbers(node, column) if column.right else _on_text(node, column)


def _operator(node: Comparison, allowed: tuple[str, ...]) -> Compare:
    if node.operator.value not in allowed:
        kind = "numbers have no pattern" if node.operator.value == "~" else "text has no order"
        expected = f"one of {' '.join(allowed)} after {node.field.value}"
        raise FilterError(node.operator.column, expected, node.operator.value, kind)
    return ORDERED.get(node.operator.value, operator.eq)


def _value(written: Text, read: Callable[[str], Any]) -> Any:
    try:
        return read(written.value)
    except Misread as error:
        at = error.at + written.quoted if error.at and "\\" not in written.value else 0
        raise FilterError(written.column + at, error.expected, written.value, error.hint) from None


# --- Columns of numbers


def _on_numbers(node: Comparison, column: Column) -> Test:
    compare = _operator(node, tuple(ORDERED))
    wanted = float(_value(node.value, number_reader(column, node.field.value)))

    def test(rows: Rows, flows: Flows) -> Mask:
        found = column.read(rows, flows)
        mask: Mask = compare(found, wanted)
        return mask & ~np.isnan(found) if compare is operator.ne else mask

    return test


def _unless_zero(found: NDArray[np.uint64], compare: Compare, wanted: np.uint64) -> Mask:
    """Compare identities, of which 0 is null and never matches."""
    mask: Mask = compare(found, wanted) & (found != 0)
    return mask


def number_reader(column: Column, written: str) -> Callable[[str], float]:
    """Return the parser of values for a column of numbers; the suffix of its id gives the unit.

    ``written`` is the field's name in the filter: ``srtt_us`` allows a number without a unit, ``srtt`` does not.
    """
    id = column.id
    if id in ("lport", "rport"):
        return values.port
    if id in ("pid", "uid", "family"):
        return values.whole(2**32 - 1, "a whole number")
    if id.endswith("_pct"):
        return values.percentage
    if id.endswith("_per_s"):
        return values.bytes_per_s if "_bytes_" in id else values.events_per_s
    for suffix, us in (("_us", 1), ("_ms", 1000), ("_s", 10**6)):
        if id.endswith(suffix):
            return values.time_in(us, bare=written.lower() == id)
    return values.size if id in SIZES else values.count


# --- Columns of text


def _on_text(node: Comparison, column: Column) -> Test:
    compare = _operator(node, ("=", "!=", "~"))
    names = NAMES.get(column.id)
    if node.operator.value == "~":
        return _searched(column, _value(node.value, lambda text: values.pattern(text, ignore_case=names is not None)))
    if names is not None:
        synonyms = STATE_SYNONYMS if column.id == "state" else {}
        name = _value(node.value, values.one_of(names, synonyms)).encode()
    else:
        name = _encoded(node.value.value)

    def test(rows: Rows, flows: Flows) -> Mask:
        found = column.read(rows, flows)
        mask: Mask = compare(found, name) & (found != b"")
        return mask

    return test


def _encoded(text: str) -> bytes:
    """Encode text as the kernel holds it: bytes of the command line that are not UTF-8 are restored unchanged."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a lone surrogate outside U+DC80..U+DCFF, which no command line contains
        return text.encode("utf-8", "replace")


def _searched(column: Column, pattern: re.Pattern[str]) -> Test:
    def matches(value: bytes) -> bool:
        text = _plain(column.id, value)
        return bool(text) and pattern.search(text[:LONGEST_VALUE]) is not None

    return lambda rows, flows: each(column.read(rows, flows), matches)


@lru_cache(1 << 17)
def _plain(id: str, value: bytes) -> str:
    """Return a value as JSON shows it.

    Cached: the same 100,000 addresses recur every tick, and formatting one takes 2 us.
    """
    return COLUMNS_BY_NAME[id].plain(value) or ""


# --- Columns of addresses


def _on_places(node: Comparison, column: Column) -> Test:
    _operator(node, ("=", "!=", "~"))
    if node.operator.value == "~":
        return _searched(column, _value(node.value, values.pattern))
    place: Place = _value(node.value, values.address if column.id in ADDRESSES else values.endpoint)
    return _at(column, place) if node.operator.value == "=" else _negated(_at(column, place))


def _at(column: Column, place: Place) -> Test:
    """Test whether the address of this column (16 + 2 + 4 bytes, never null) is within a place."""

    def test(rows: Rows, flows: Flows) -> Mask:
        ends = Ends(column.read(rows, flows))
        mask = ends.unspecified() if place.unspecified else ends.within(place.bits, place.mask)
        if place.only_v6:
            mask &= ~ends.mapped()
        if place.port is not None:
            mask &= ends.number(16, 18) == place.port
        return mask if place.scope is None else mask & (ends.number(18, 22) == place.scope)

    return test


# --- Words without an operator


def _word(node: BareWord) -> Test:
    text = node.text.value.strip().lower()
    if not text:
        raise FilterError(node.text.column, "a word", node.text.value, "an empty string would match everything")
    tests = [_process_with(text), *_addresses_like(text)]
    try:
        state = values.one_of(STATES, STATE_SYNONYMS)(text).encode()
    except Misread:
        pass
    else:
        read = find("state").read
        tests.append(_known(find("state"), lambda rows, flows: read(rows, flows) == state))
    return _joined(False, tuple(tests)) if len(tests) > 1 else tests[0]


def _process_with(text: str) -> Test:
    process = find("process")
    return _known(
        process,
        lambda rows, flows: each(process.read(rows, flows), lambda name: text in _plain("process", name).lower()),
    )


def _addresses_like(text: str) -> list[Test]:
    """Return the tests of both ends; an empty list if no address can begin with this text."""
    columns = [find(name) for name in ADDRESSES]
    for read in (values.address, values.endpoint) if text != "*" and not text.endswith("::") else ():
        try:
            place = read(text)
        except Misread:
            continue
        return [_known(column, _at(column, place)) for column in columns]
    digits = text.removeprefix("[")
    if re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,3}){0,3}\.?", digits):
        tests = [_v4_beginning(column, digits) for column in columns]
        return tests if "." in digits else tests + [_v6_beginning(column, digits) for column in columns]
    if re.fullmatch(r"[0-9a-f:.%]+", digits):
        return [_v6_beginning(column, digits) for column in columns]
    return []


def _v4_beginning(column: Column, text: str) -> Test:
    """Compare whole octets, then the leading digits of the last one, without formatting any address."""
    *octets, last = text.split(".")
    tables = [np.array([str(n) == octet for n in range(256)]) for octet in octets]
    tables += [np.array([str(n).startswith(last) for n in range(256)])] if last else []

    def test(rows: Rows, flows: Flows) -> Mask:
        ends = Ends(column.read(rows, flows))
        found = ends.mapped() & ~ends.unspecified()
        for index, table in enumerate(tables):
            found &= table[ends.octet(index)]
        return found

    return _known(column, test)


def _v6_beginning(column: Column, text: str) -> Test:
    """Compare the formatted text, because ``::`` may stand anywhere; IPv4-mapped addresses never match."""

    def test(rows: Rows, flows: Flows) -> Mask:
        ends = Ends(column.read(rows, flows))
        found = ~ends.mapped() & ~ends.unspecified()
        packed = np.ascontiguousarray(ends.packed[found])
        found[found] = each(packed, lambda value: _plain(column.id, value).startswith(text))
        return found

    return _known(column, test)
