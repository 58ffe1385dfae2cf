"""The filter language against a slow evaluator of one row at a time, wrong texts, and any text at all."""

from __future__ import annotations

import ipaddress
import math
import operator
import re
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcptop_ops import filter_arrays, filters
from tcptop_ops.columns import BY_NAME, COLUMNS, find
from tcptop_ops.errors import Usage
from tcptop_ops.filter_grammar import DEEPEST, LONGEST
from tcptop_ops.filter_patterns import LONGEST_PATTERN, MOST_WAYS, TooManyWays, ways
from tcptop_ops.filters import NAMES, SIZES, FilterError, both, compile, of_pids
from tcptop_ops.snapshot import STATE_NAMES, UNKNOWN_U32, Direction, Origin, State
from tcptop_ops.tracker import Flows, Tracker
from tcptop_ops.view import Spec, make
from tests.fakes import BOOT_NS, HOSTILE, finals, flow, scrambled, snapshot

LISTENER: dict[str, Any] = {"state": State.LISTEN, "peer": ("0.0.0.0", 0), "direction": Direction.LISTEN}

LIVE = [
    flow(1, srtt_us=20_000, name=b"nginx", peer=("10.2.0.7", 443), uid=0),
    flow(2, srtt_us=20_001, name=b"nginx: worker", peer=("10.20.0.7", 4433), uid=33, cc=b"bbr"),
    flow(3, srtt_us=0, name=b"", pid=0, peer=("192.110.2.5", 80), uid=UNKNOWN_U32),
    flow(4, state=State.SYN_SENT, name=b"Curl", peer=("2001:db8::1", 443), local=("2001:db8:1::9", 50000), family=10),
    flow(5, name=b"sshd", local=("0.0.0.0", 22), **LISTENER),
    flow(6, name=b"postgres", local=("::", 5432), family=10, **(LISTENER | {"peer": ("::", 0)})),
    flow(7, name=b"ssh", peer=("fe80::1", 22), local=("fe80::2", 40000), family=10, ifindex=2),
    flow(8, name=b"ssh", peer=("fe80::1", 22), local=("fe80::2", 40001), family=10, ifindex=3),
    flow(9, inode=0, origin=Origin.ADOPTED, direction=Direction.UNKNOWN, min_rtt_us=UNKNOWN_U32),
    flow(10, inode=2**63 + 1, origin=Origin.LISTED, direction=Direction.IN, timer=1, netns=4026531840),
    flow(11, name=b"java", retrans_segs=5, data_segs_out=100, bytes_acked=2**31, bytes_received=1500),
    flow(12, name=b"java", retrans_segs=1, data_segs_out=100, bytes_acked=1_000_000, state=State.CLOSE_WAIT),
    *(flow(20 + i, name=name, cgroup_id=i + 1, srtt_us=1000 * i) for i, name in enumerate(HOSTILE)),
]
CLOSED = [flow(50, states=1 << State.FIN_WAIT1, name=b"wget"), flow(51, states=1 << State.CLOSE_WAIT, srtt_us=9)]
CGROUPS = {1: "/system.slice/nginx.service", 2: "/user.slice", 3: "/"}


def fleet() -> Flows:
    tracker = Tracker()
    tracker.update(snapshot(0, []))
    ended = finals(CLOSED, BOOT_NS + int(1.5e9))
    return tracker.update(snapshot(2, LIVE, ended, users={0: "root", 33: "www-data"}, cgroups=CGROUPS))


FLEET = fleet()


def mask(text: str, flows: Flows = FLEET) -> list[bool]:
    wanted = compile(text)
    found = [wanted.mask(rows, flows) for rows in (flows.live, flows.closed)]
    assert all(part.dtype == np.bool_ for part in found)
    return [*found[0].tolist(), *found[1].tolist()]


def cookies(text: str) -> list[int]:
    every = [f["cookie"] for f in LIVE + CLOSED]
    return [cookie for cookie, matches in zip(every, mask(text), strict=True) if matches]


# --- by hand


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("srtt > 20ms and cookie < 9", [2, 4, 7, 8]),  # the others: 30 ms
        ("srtt = 20ms and cookie = 1", [1]),
        ("srtt_us >= 20000 and srtt < 20.001ms", [1]),
        ("srtt = 20001us", [2]),
        ("srtt <= 9us", [51]),
        ("srtt > 0 and srtt < .01ms", [51]),
        ("retr% > 2", [11]),
        ("retr% >= 1%", [11, 12]),
        ("retr >= 5", [11]),
        ("tx > 1MB/s", [11]),
        ("tx >= 500kB/s", [11, 12]),
        ("tx >= 4Mbit/s", [11, 12]),
        ("tx >= 4Mbps", [11, 12]),
        ("tx >= 500k", [11, 12]),
        ("bytes_acked = 2GiB", [11]),
        ("bytes_acked = 2147483648 or bytes_acked = 1MB", [11, 12]),
        ("bytes_received = 1.5k", [11]),
        ("age < 1.9s", [50, 51]),
        ("age < 5m and cookie = 10", []),  # not known of a listed one
        ("closed_s = 0.5s", [50, 51]),
        ("closed_s = 500ms", [50, 51]),
        ("closed_s = 0.5", [50, 51]),
        ("port = 22", [5, 7, 8]),
        ("port = 40001", [1, 8]),
        ("port < 100", [3, 5, 7, 8]),
        ("port != 443", [2, 3, 5, 6, 7, 8]),
        ("not port = 443", [2, 3, 5, 6, 7, 8]),
        ("rport != 443", [2, 3, 7, 8]),
        ("host = 2001:db8::/32", [4]),
        ("host=2001:db8:1::/48", [4]),
        ("host = ::/0", [4, 6, 7, 8]),
        ("host != 0.0.0.0/0", [4, 6, 7, 8]),
        ("host = ::ffff:10.2.0.0/112", [1]),
        ("raddr = 10.0.0.0/8 and cookie < 9", [1, 2]),
        ("raddr = 10.2.0.7", [1]),
        ("raddr = ::ffff:10.2.0.7", [1]),
        ("laddr = *", [5, 6]),
        ("laddr = 0.0.0.0", [5]),
        ("laddr = ::", [6]),
        ("raddr = fe80::1%2", [7]),
        ("raddr = fe80::/10", [7, 8]),
        ("raddr ~ '^10\\.2'", [1, 2]),
        ("host ~ '^fe80.*[12]$'", [7]),
        ("host ~ '%2$'", [7]),
        ("peer = 10.2.0.7:443", [1]),
        ("peer = [fe80::1]:22", [7, 8]),
        ("peer = '[fe80::1%3]:22'", [8]),
        ("peer = *:22", [5]),
        ("peer = *", [5, 6]),
        ("local = :22", [5]),
        ("peer = 10.2.0.0/16", [1]),
        ("peer ~ '33$'", [2]),
        ("state = syn-sent", [4]),
        ("state = SYN-S", [4]),
        ("state = listn or state = Close-Wait", [5, 6, 12]),
        ("state = established and cookie < 4", [1, 2, 3]),
        ("state ~ wait", [12]),
        ("state != estab and cookie < 50", [4, 5, 6, 12]),
        ("direction = IN", [10]),
        ("direction != out", [5, 6, 10]),
        ("origin = adopted or origin = listed", [9, 10]),
        ("timer = retransmit", [10]),
        ("end = closed", [50]),
        ("end = peer-closed", [51]),
        ("end != closed", [51]),
        ("process = nginx and cookie < 9", [1]),
        ("process = 'nginx: worker'", [2]),
        ('process = "nginx: worker"', [2]),
        ("process ~ '^nginx.' or process ~ ssh", [2, 5, 7, 8]),
        ("process ~ curl", []),
        ("process ~ '(?i)curl'", [4]),
        ("not process ~ .", [3, 26]),
        ("process = ''", []),
        ("user = www-data", [2]),
        ("cgroup ~ nginx", [20]),
        ("cgroup = /user.slice", [21]),
        ("cc = bbr", [2]),
        ("pid != 1000", []),
        ("pid = 0", []),
        ("not pid = 1000", [3]),
        ("uid = 33", [2]),
        ("inode = 9223372036854775809", [10]),
        ("inode > 0", [10]),
        ("inode != 5", [10]),
        ("netns = 4026531840", [10]),
        ("family = 6 and cookie < 9", [4, 6, 7, 8]),
        ("backlog >= 0", [5, 6]),
        ("COOKIE=1 OR cookie=2 aNd cookie=3", [1]),
        ("not cookie > 1 or cookie = 2 and not not cookie <= 2", [1, 2]),
        ("not (cookie > 1 or cookie = 2)", [1]),
        ("((cookie=1))or((cookie=2))", [1, 2]),
        ("\tcookie\n=\r\n7 ", [7]),
        ("sshd", [5]),
        ("SSH", [5, 7, 8]),
        ("'nginx: w'", [2]),
        (":22", [5, 7, 8]),
        (":443 and not nginx and cookie < 9", [4]),
        ("10.2.", [1]),
        ("10.2", [1, 2]),
        ("10.2.0.7", [1]),
        ("10.2.0.7:443", [1]),
        ("10.2.0.0/16", [1]),
        ("192.", [3]),
        ("fe80:", [7, 8]),
        ("fe8", [7, 8]),
        ("fe80::1%2", [7]),
        ("[fe80::1]:22", [7, 8]),
        ("[2001:db8", [4]),
        ("2001:db8::", [4]),
        ("2001:db8::2", []),
        ("*:22", [5]),
        ("syn-sent", [4]),
        ("syn-s", [4]),
        ("LISTEN", [5, 6]),
    ],
)
def test_by_hand(text: str, wanted: list[int]) -> None:
    assert cookies(text) == wanted


def test_examples_of_the_language() -> None:
    for text in ("srtt > 20ms", "tx > 1MB/s", "retr% > 2", "age < 5m", "host = 10.0.0.0/8", "nginx", ":443", "10.2."):
        assert compile(text).text == text
        assert len(mask(text)) == len(FLEET)


@pytest.mark.parametrize("text", [f"{name} = 1" for name in BY_NAME if find(name).right and "_us" not in name])
def test_every_number_can_be_asked_for(text: str) -> None:
    error = refused(text)
    assert error is None or ("unit of time" in error.expected and refused(text + "s") is None)


def test_tables_speak_of_columns_that_there_are() -> None:
    empty = FLEET.live.take(np.zeros(0, np.intp))
    kinds = {column.id: column.read(empty, FLEET).dtype.kind for column in COLUMNS}
    assert {*SIZES, *NAMES, *filters.ADDRESSES, *filters.ENDPOINTS, *filters.IDENTITIES} <= kinds.keys()
    for column in COLUMNS:
        wanted = "u" if column.id in filters.IDENTITIES else "f" if column.right else "S"
        assert kinds[column.id] == wanted, column.id


@pytest.mark.parametrize("name", NAMES)
def test_every_name_that_a_column_may_hold_can_be_asked_for(name: str) -> None:
    for seed in range(20):
        flows = Tracker(closed_s=1e9).update(scrambled(20, seed))
        for value in {*flows.column(find(name).read).tolist()} - {b""}:
            assert any(mask(f"{name} = {value.decode()}", flows))


def test_what_a_source_cannot_tell_is_null() -> None:
    flows = Tracker().update(snapshot(0, LIVE, missing=frozenset({"process", "srtt_us", "inode", "cc"})))
    for text in ("process ~ .", "srtt >= 0", "srtt != 5ms", "inode > 0", "inode != 1", "cc != x", "nginx"):
        assert not any(mask(text, flows)), text
        assert all(mask(f"not {text}", flows)), text


def test_no_rows() -> None:
    flows = Tracker().update(snapshot(0, []))
    for text in ("nginx", "10.2.", "fe80:", "raddr ~ 1", "srtt > 1ms", "inode != 5", "state = listen"):
        assert mask(text, flows) == []


def test_hashes_that_meet_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    found = np.array([b"b", b"a" * 20, b"b", b"", b"c"])
    with monkeypatch.context() as patch:
        patch.setattr(filter_arrays, "pow", lambda *_: 0, raising=False)
        occurring, inverse = filter_arrays.distinct(found)
    assert occurring[inverse].tolist() == found.tolist()
    assert len(occurring) == 4
    assert len(filter_arrays.distinct(found)[0]) == 4


# --- against a slow evaluator


Row = dict[str, Any]
Says = Callable[[Row], bool]


def rows_of(flows: Flows) -> list[Row]:
    """Each row as a dict: raw numbers, JSON's text; None for null."""
    table: dict[str, list[Any]] = {}
    for column in COLUMNS:
        raw = flows.column(column.read).tolist()
        if column.id in filters.IDENTITIES:
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
    ids, name = draw(st.sampled_from(sorted((c.id, n) for n, c in BY_NAME.items() if c.right)))
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


# --- wrong texts


NESTED = "(" * (DEEPEST + 1) + "nginx" + ")" * (DEEPEST + 1)
WRONG: list[tuple[str, int, str, str]] = [
    ("", 1, "a field, a word, 'not' or '('", "for instance"),
    ("   ", 4, "a field, a word, 'not' or '('", "for instance"),
    ("srtt > abc", 8, "a number with a unit of time (us, ms, s, m, h)", "for instance"),
    ("age < 5x", 7, "a number with a unit of time (us, ms, s, m, h)", "did you mean 5s?"),
    ("srtt > 20", 8, "a number with a unit of time (us, ms, s, m, h)", "did you mean 20ms?"),
    ("srtt > 20mss", 8, "a number with a unit of time (us, ms, s, m, h)", "did you mean 20ms?"),
    ("srtt >", 7, "a value", "for instance"),
    ("srtt > > 5", 8, "a value", "quotes"),
    ("> 5", 1, "a field, a word, 'not' or '('", "for instance"),
    ("srt > 20ms", 1, "a field", "did you mean srtt?"),
    ("nginx and retrans_wim > 5", 11, "a field", "did you mean retrans_win?"),
    ("§ = 5", 1, "a field", "fields: cookie"),
    ("hosts = 10.0.0.1", 1, "a field", "did you mean host?"),
    ("srtt == 5ms", 6, "one of = != < <= > >= ~", "did you mean =?"),
    ("process !~ x", 9, "one of = != < <= > >= ~", "not FIELD ~ PATTERN"),
    ("srtt <> 5ms", 6, "one of = != < <= > >= ~", "did you mean !=?"),
    ("srtt ~ 5", 6, "one of = != < <= > >= after srtt", "no pattern"),
    ("cookie ~ 5", 8, "one of = != < <= > >= after cookie", "no pattern"),
    ("process < x", 9, "one of = != ~ after process", "no order"),
    ("raddr > 10.0.0.1", 7, "one of = != ~ after raddr", "no order"),
    ("state >= listen", 7, "one of = != ~ after state", "no order"),
    ("state = estabb", 9, "one of ESTAB SYN-SENT", "did you mean ESTAB?"),
    ("end = rest", 7, "one of closed peer-closed", "did you mean reset?"),
    ("port = https", 8, "a port, 0 to 65535", "for instance"),
    ("port = 65536", 8, "a port, 0 to 65535", "for instance"),
    ("lport = -1", 9, "a port, 0 to 65535", "for instance"),
    ("pid = 1.5", 7, "a whole number", "for instance"),
    ("cookie = 18446744073709551616", 10, "a whole number", "for instance"),
    ("host = 10.2.", 8, "an address or a prefix", "did you mean 10.2.0.0/16?"),
    ("host = example.org", 8, "an address or a prefix", "in numbers"),
    ("host = 10.0.0.0/33", 8, "an address or a prefix", "in numbers"),
    ("raddr = fe80::1%eth0", 9, "an address or a prefix", "fe80::1%2"),
    ("peer = 10.0.0.1:99999", 8, "an address and a port", "for instance"),
    ("peer = [::1", 8, "an address and a port", "in numbers"),
    ("tx > 1Mb/s", 6, "a rate such as", "write B or bit"),
    ("tx > 1MB/m", 6, "a rate such as", "for instance"),
    ("bytes_acked > 1MB/s", 15, "a size such as", "for instance"),
    ("bytes_acked > 1kb", 15, "a size such as", "write B"),
    ("bytes_acked > 1iB", 15, "a size such as", "for instance"),
    ("cwnd > 10B", 8, "a number such as", "for instance"),
    ("cwnd > 1e3", 8, "a number such as", "for instance"),
    ("retr% > 2ms", 9, "a percentage", "for instance"),
    ("retrans_per_s > 5B/s", 17, "a number a second", "for instance"),
    ("nginx srtt", 7, "an operator, 'and', 'or' or the end", "'and' joins"),
    ("srtt > 5ms port = 1", 12, "'and', 'or' or the end", "'and' joins"),
    ("a && b", 3, "an operator, 'and', 'or' or the end", "write: and"),
    ("a || b", 3, "an operator, 'and', 'or' or the end", "write: or"),
    ("! a", 1, "a field, a word, 'not' or '('", "write: not"),
    ("'a' = b", 5, "'and', 'or' or the end", ""),
    ("a and", 6, "a field, a word, 'not' or '('", "for instance"),
    ("and a", 1, "a field, a word, 'not' or '('", ""),
    ("a or or b", 6, "a field, a word, 'not' or '('", ""),
    ("not", 4, "a field, a word, 'not' or '('", ""),
    ("()", 2, "a field, a word, 'not' or '('", ""),
    ("(a", 3, "an operator, 'and', 'or' or ')'", "column 1 is open"),
    ("a or (b and (c) ", 17, "'and', 'or' or ')'", "column 6 is open"),
    ("a)", 2, "an operator, 'and', 'or' or the end", "no parenthesis is open"),
    ("(srtt > 5ms))", 13, "'and', 'or' or the end", "no parenthesis is open"),
    ("user = and", 8, "a value", "'and'"),
    ("process = 'abc", 15, "the closing '", "column 11"),
    ('nginx or "', 11, 'the closing "', "column 10"),
    ("''", 1, "a word", "match everything"),
    ("process ~ (a|b)", 11, "a value", "in quotes"),
    ("process ~ ^(a|b)", 12, "'and', 'or' or the end", "in quotes"),
    ("process ~ a[", 12, "a regular expression", "unterminated"),
    ("process ~ 'a('", 13, "a regular expression", "missing )"),
    ("process ~ '*'", 11, "a regular expression", "nothing to repeat"),
    ("process ~ '(a+)+$'", 16, "a regular expression with fewer ways to match", "repetition"),
    ("process ~ " + "a" * 257, 11, "a regular expression of at most 256 characters", "shorter"),
    (NESTED, 65, "at most 64 parentheses in each other", "leave out"),
    ("a" * (LONGEST + 1), LONGEST + 1, "at most 4096 characters", "shorter"),
    ("nginx\nand srtt >\n x", 19, "a number with a unit of time", "for instance"),
]


@pytest.mark.parametrize(("text", "column", "expected", "hint"), WRONG, ids=[text[:20] for text, *_ in WRONG])
def test_a_wrong_text(text: str, column: int, expected: str, hint: str) -> None:
    with pytest.raises(FilterError) as error:
        compile(text)
    assert error.value.column == column
    assert error.value.expected.startswith(expected)
    assert hint in error.value.hint
    assert error.value.hint
    assert error.value.message.startswith(f"filter: column {column}: expected {expected}")
    assert len(error.value.message) < 250
    assert isinstance(error.value, Usage)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("srtt > abc", "expected a number with a unit of time (us, ms, s, m, h), found 'abc'"),
        ("srtt >", "expected a value, found the end"),
        ("a b\x1b[2J", r"expected an operator, 'and', 'or' or the end, found 'b\x1b[2J'"),
    ],
)
def test_what_it_says(text: str, message: str) -> None:
    with pytest.raises(FilterError) as error:
        compile(text)
    assert error.value.message.split(": ", 2)[2] == message


def test_deep_and_long_ones() -> None:
    assert cookies("(" * DEEPEST + "sshd" + ")" * DEEPEST) == [5]
    assert cookies("not " * 1000 + "sshd") == [5]
    assert cookies("not (" * DEEPEST + "sshd" + ")" * DEEPEST) == [5]
    long = " or ".join(["sshd"] * 500)
    assert cookies(long) == [5]


FRAGMENTS = st.sampled_from(
    [
        "srtt",
        "port",
        "host",
        "process",
        "peer",
        "tx",
        "state",
        "nginx",
        "and",
        "or",
        "not",
        "=",
        "!=",
        ">",
        "~",
        "(",
        ")",
    ]
) | st.sampled_from(
    ["20ms", "'", '"', ":443", "10.0.0.0/8", "fe80::1%2", "::", "*", "\\", "'(a+)+'", "[", "1e9", "-5", "\ud800", "\0"]
)


def refused(text: str) -> FilterError | None:
    """Every text is a filter, or refused with a column of it and a hint."""
    try:
        assert len(mask(text)) == len(FLEET)
    except FilterError as error:
        return error
    return None


@settings(max_examples=1000)
@given(st.text(max_size=60) | st.lists(FRAGMENTS, max_size=12).map(" ".join) | st.lists(FRAGMENTS).map("".join))
def test_any_text_is_a_filter_or_refused(text: str) -> None:
    error = refused(text)
    assert error is None or (1 <= error.column <= len(text) + 1 and error.hint)


@given(name=st.sampled_from(filters.FIELDS), op=st.sampled_from(["=", "!=", "<", "~"]), value=st.text(max_size=20))
def test_any_value_is_one_or_refused(name: str, op: str, value: str) -> None:
    text = f"{name} {op} '" + re.sub(r"(['\\])", r"\\\1", value) + "'"
    error = refused(text)
    assert error is None or 1 <= error.column <= len(text)


@settings(max_examples=30)
@given(st.integers(0, 2**32), TREES)
def test_any_rows(seed: int, expression: tuple[str, Says]) -> None:
    tracker = Tracker(closed_s=1e9)
    tracker.update(scrambled(9, seed))
    flows = tracker.update(scrambled(9, seed + 1, 1))
    text, _ = expression
    matches, opposite = mask(text, flows), mask(f"not ({text})", flows)
    assert [not m for m in matches] == opposite


# --- patterns


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        ("nginx", 1),
        ("a|b|c", 3),
        ("(a|b)(c|d)", 4),
        ("a?b??", 4),
        ("a{2,4}[0-9a-f]{64}", 3),
        (r"[]*+?|(]\*\+\[x", 1),
        (r"[^]*]\(", 1),
        ("(?:a|b){3}", 24),
        ("(?i)a|(?i:b)", 2),
        ("(?P<x>a)(?P=x)(?#*+*+)", 1),
        ("(?=a|b)c", 2),
        ("a{,2}x{}", 3),
        ("a*", 513),
        ("^10\\.[0-9]{1,3}\\.[0-9]{1,3}\\.", 9),
        ("(a)(?(1)b|c)", 2),
    ],
)
def test_ways(pattern: str, wanted: int) -> None:
    re.compile(pattern)
    assert ways(pattern) == wanted


@pytest.mark.parametrize(
    "pattern",
    [
        *("(a+)+", "(a*)*b", "(a|a)*", "a*a*a*", "(a|b){21}", "a?" * 21, "(a|b)" * 21, "(?=(a+)+)", "(?s:.*)+"),
        *("(?:){1000000000}", "a{513}", "(((?:){500}){500}){500}", "((a?){30}){30}", "(((a{2}){500}){500}){500}"),
        "(?x)a",
    ],
)
def test_patterns_that_might_take_for_ever(pattern: str) -> None:
    with pytest.raises(TooManyWays):
        ways(pattern)


PIECES = [
    "a",
    "b",
    ".",
    "[ab]",
    "[^]]",
    "(",
    "(?:",
    "(?=",
    ")",
    "|",
    "*",
    "+",
    "?",
    "{2}",
    "{1,3}",
    "\\w",
    "\\)",
    "^",
    "$",
]


@settings(max_examples=300)
@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_how_ways_add_up(pattern: str) -> None:
    try:
        re.compile(pattern)
        counted = ways(pattern)
    except (re.error, TooManyWays):
        return
    assert 1 <= counted <= MOST_WAYS
    assert ways(f"(?:{pattern})") == counted
    if 2 * counted <= MOST_WAYS:
        assert ways(f"{pattern}|{pattern}") == 2 * counted
    re.search(pattern, "a" * 32 + "!")  # where every character fits, and the end does not: it comes back


def test_the_longest_pattern() -> None:
    pattern = "|".join(["sshd"] * 51)
    assert len(pattern) == LONGEST_PATTERN - 2
    assert cookies(f"process ~ '{pattern}'") == [5]
    error = refused(f"process ~ '{'(' * 125}sshd{')' * 125}'")
    assert error is None or "regular expression" in error.expected


# --- where it is used


def test_a_view_has_only_what_matches() -> None:
    spec = Spec(sort=find("cookie"), falling=False, filter=compile("end = closed or ssh"))
    view = make(FLEET, spec)
    assert view.cookies() == [5, 7, 8, 50]
    assert [view.is_closed(i) for i in range(4)] == [False, False, False, True]
    assert make(FLEET, Spec(show_closed=False, filter=compile("end = closed"))).cookies() == []
    assert len(make(FLEET, Spec())) == len(FLEET)
    assert make(FLEET, spec).flows.totals == FLEET.totals


def test_processes() -> None:
    flows = Tracker().update(snapshot(0, [flow(1, pid=7), flow(2, pid=0), flow(3, pid=8), flow(4, pid=77)]))
    assert of_pids((7, 8)).text == "pid = 7 or pid = 8"
    assert of_pids((7, 8)).mask(flows.live, flows).tolist() == [True, False, True, False]
    assert len(of_pids(tuple(range(1, 5000))).mask(flows.live, flows)) == 4
    joined_filter = both(compile("cookie > 1 or nginx"), of_pids((7, 8)))
    assert joined_filter.text == "(cookie > 1 or nginx) and (pid = 7 or pid = 8)"
    assert compile(joined_filter.text).mask(flows.live, flows).tolist() == [True, False, True, False]
    assert joined_filter.mask(flows.live, flows).tolist() == [True, False, True, False]


def test_equal_texts_are_equal_filters() -> None:
    assert compile("nginx") == compile("nginx") != compile("sshd")
    assert hash(compile("nginx")) == hash(compile("nginx"))
    assert repr(compile("nginx")) == "Filter(text='nginx')"


def test_states_have_a_name_each() -> None:
    for state in STATE_NAMES.values():
        for spelling in (state, state.lower()):
            assert refused(f"state = {spelling}") is None


def test_a_long_value_is_cut() -> None:
    paths = {1: "/" + "a" * 600 + "z", 2: "/" + "a" * 400 + "z"}
    flows = Tracker().update(snapshot(0, [flow(1, cgroup_id=1), flow(2, cgroup_id=2)], cgroups=paths))
    assert mask("cgroup ~ z$", flows) == [False, True]
    assert mask("cgroup ~ .*a.*z", flows) == [False, True]
    assert mask(f"cgroup = {paths[2]}", flows) == [False, True]


def test_the_parser_is_imported_for_the_first_filter_only() -> None:
    told = "import sys, tcptop_ops.filters as f; before = 'lark' in sys.modules; f.compile('a'); "
    told += "print(before, 'lark' in sys.modules)"
    done = subprocess.run([sys.executable, "-W", "error", "-c", told], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
