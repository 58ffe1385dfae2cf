"""Texts that are no filter: where the error points to, and what it says.

Any text is a filter, or refused.
"""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcptop_ops.errors import Usage
from tcptop_ops.filters import compiler
from tcptop_ops.filters.compiler import compile
from tcptop_ops.filters.grammar import DEEPEST, LONGEST, FilterError
from tests.support.filter_fleet import cookies, refused

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


@settings(max_examples=1000)
@given(st.text(max_size=60) | st.lists(FRAGMENTS, max_size=12).map(" ".join) | st.lists(FRAGMENTS).map("".join))
def test_any_text_is_a_filter_or_refused(text: str) -> None:
    error = refused(text)
    assert error is None or (1 <= error.column <= len(text) + 1 and error.hint)


@given(name=st.sampled_from(compiler.FIELDS), op=st.sampled_from(["=", "!=", "<", "~"]), value=st.text(max_size=20))
def test_any_value_is_one_or_refused(name: str, op: str, value: str) -> None:
    text = f"{name} {op} '" + re.sub(r"(['\\])", r"\\\1", value) + "'"
    error = refused(text)
    assert error is None or 1 <= error.column <= len(text)
