"""Text of numbers, times and addresses: by hand, against the standard library, and whatever the value is."""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tcptop_ops import text

NAN = float("nan")
ANY = st.floats(allow_nan=True, allow_infinity=True)
UNITS = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
TIMES = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (7, "7"),
        (0.4, "0"),
        (999, "999"),
        (999.4, "999"),
        (999.5, "1.0k"),
        (1000, "1.0k"),
        (1234, "1.2k"),
        (9949, "9.9k"),
        (9950, "10k"),
        (34_567_890, "35M"),
        (999_499_999, "999M"),
        (999_500_000, "1.0G"),
        (2**64 - 1, "18E"),
        (-1234, "-1.2k"),
        (1e30, "inf"),
        (math.inf, "inf"),
        (-math.inf, "-inf"),
        (NAN, "?"),
    ],
)
def test_si(value: float, shown: str) -> None:
    assert text.si(value) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0"),
        (31e-6, "31us"),
        (999.4e-6, "999us"),
        (999.6e-6, "1.0ms"),
        (0.0042, "4.2ms"),
        (0.00994, "9.9ms"),
        (0.00996, "10ms"),
        (0.9994, "999ms"),
        (0.9996, "1.00s"),
        (1.2, "1.20s"),
        (9.99, "9.99s"),
        (9.996, "10s"),
        (99.4, "99s"),
        (99.6, "2m"),
        (720, "12m"),
        (5969, "99m"),
        (5970, "2h"),
        (115_200, "32h"),
        (345_599, "96h"),
        (345_600, "4d"),
        (9 * 86400, "9d"),
        (1e9, "9999d"),
        (math.inf, "9999d"),
        (-5, "0"),
        (NAN, "?"),
    ],
)
def test_duration(seconds: float, shown: str) -> None:
    assert text.duration(seconds) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0.0"), (0.04, "0.0"), (2.26, "2.3"), (99.94, "99.9"), (99.95, "100"), (100, "100"), (-1, "0.0"), (NAN, "?")],
)
def test_percent(value: float, shown: str) -> None:
    assert text.percent(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(0, "0"), (99_999, "99999"), (100_000, "100k"), (1_234_567, "1.2M"), (-3, "-3"), (NAN, "?")]
)
def test_count(value: float, shown: str) -> None:
    assert text.count(value) == shown


@pytest.mark.parametrize(("show", "width"), [(text.si, 4), (text.duration, 5), (text.percent, 4), (text.count, 5)])
def test_widths_hold_for_any_number(show: Callable[[float], str], width: int) -> None:
    @given(ANY)
    @example(1.7976931348623157e308)
    @example(5e-324)
    def holds(value: float) -> None:
        shown = show(value)
        assert 0 < len(shown.removeprefix("-")) <= width
        assert re.fullmatch(r"-?([0-9]+(\.[0-9]+)?[a-zA-Z]*|inf)|\?", shown)

    holds()


@given(st.floats(0, 2**64))
def test_si_is_the_number(value: float) -> None:
    number, unit = re.fullmatch(r"([0-9.]+)([a-zA-Z]?)", text.si(value)).groups()  # type: ignore[union-attr]
    digits = 0.05 if "." in number else 0.5
    assert abs(float(number) * UNITS[unit] - value) <= digits * UNITS[unit] * (1 + 1e-9)


@given(st.floats(1e-7, 9999 * 86400.0))
def test_duration_is_the_time(seconds: float) -> None:
    number, unit = re.fullmatch(r"([0-9.]+)([a-z]+)", text.duration(seconds)).groups()  # type: ignore[union-attr]
    places = len(number.partition(".")[2])
    assert abs(float(number) * TIMES[unit] - seconds) <= 0.5 * 10.0**-places * TIMES[unit] * (1 + 1e-9)


@given(st.lists(st.floats(0, 1e12), min_size=2, max_size=2).map(sorted))
def test_more_is_never_shown_as_less(pair: list[float]) -> None:
    def size(shown: str, units: dict[str, float]) -> float:
        number, unit = re.fullmatch(r"([0-9.]+)([a-zA-Z]*)", shown).groups()  # type: ignore[union-attr]
        return float(number) * units[unit]

    assert size(text.si(pair[0]), UNITS) <= size(text.si(pair[1]), UNITS)
    times = TIMES | {"": 1.0}
    assert size(text.duration(pair[0]), times) <= size(text.duration(pair[1]), times)


@given(st.text() | st.binary())
def test_what_comes_from_outside_is_harmless(hostile: str | bytes) -> None:
    shown = text.printable(hostile)
    assert all(0x20 <= ord(c) < 0x7F for c in shown)
    plain = hostile if isinstance(hostile, str) else hostile.decode("utf-8", "surrogateescape")
    assert shown == "".join(map(text.printable, plain))
    for c in plain:
        assert text.printable(c) == c or text.printable(c)[:2] in (r"\x", r"\u", r"\U")
        assert len(text.printable(c)) in ((1,) if " " <= c <= "~" else (4, 6, 10))


def test_escape_sequences_lose_their_escape() -> None:
    assert text.printable(b"\x1b]0;evil\x07nginx") == r"\x1b]0;evil\x07nginx"
    assert text.printable("naïve\x7f\x9b2J") == r"na\u00efve\x7f\u009b2J"
    assert text.printable(b"\xff\xfe") == text.printable("\udcff\udcfe") == r"\xff\xfe"
    assert text.printable("数\u202e👩".encode() + b"\xe6\x95") == r"\u6570\u202e\U0001f469\xe6\x95"
    assert text.printable(r"a\x2db") == r"a\x2db"


def test_halves_of_surrogate_pairs_are_not_stored() -> None:
    assert text.storable("a\udcff\ud83d") == "a\ufffd\ufffd"
    assert text.storable("数\x1b👩") == "数\x1b👩"


@pytest.mark.parametrize(
    ("addr", "scope", "shown"),
    [
        ("::ffff:10.1.2.3", "", "10.1.2.3"),
        ("::ffff:0.0.0.0", "", "*"),
        ("::", "", "*"),
        ("::1", "", "::1"),
        ("fe80::1", "2", "fe80::1%2"),
        ("2001:db8::a:0:0:1", "", "2001:db8::a:0:0:1"),
        ("::fffe:10.1.2.3", "", "::fffe:a01:203"),
    ],
)
def test_addresses(addr: str, scope: str, shown: str) -> None:
    assert text.address(ipaddress.IPv6Address(addr).packed, scope) == shown


@given(st.binary(min_size=16, max_size=16))
def test_any_address_reads_back(packed: bytes) -> None:
    read = ipaddress.ip_address(shown) if (shown := text.address(packed)) != "*" else None
    plain = packed[12:] if packed.startswith(b"\0" * 10 + b"\xff\xff") else packed
    assert read.packed == plain if read else not any(plain)


def test_an_address_that_lost_its_zeros() -> None:
    assert text.address(b"\xfe\x80") == "fe80::"


def test_endpoints() -> None:
    assert text.endpoint("10.0.0.1", 443) == "10.0.0.1:443"
    assert text.endpoint("2001:db8::1", 443) == "[2001:db8::1]:443"
    assert text.endpoint("*", 0) == "*:*"
    assert text.endpoint("0.0.0.0", 0) == "0.0.0.0:*"
    assert text.endpoint("::", 0) == "[::]:*"


@given(st.text(), st.integers(-3, 40))
def test_shortening_keeps_the_width_and_what_fits(whole: str, width: int) -> None:
    for cut in (text.shorten, text.shorten_middle):
        shown = cut(whole, width)
        assert len(shown) <= max(width, 0)
        if len(whole) <= width:
            assert shown == whole
        elif width > 0:
            assert "~" in shown
            assert len(shown) == width


def test_shortening_by_hand() -> None:
    assert text.shorten("postgresql", 10) == "postgresql"
    assert text.shorten("postgresql", 9) == "postgres~"
    assert text.shorten_middle("192.168.100.200:51234", 21) == "192.168.100.200:51234"
    assert text.shorten_middle("192.168.100.200:51234", 12) == "192~00:51234"
    assert text.shorten_middle("abc", 1) == "~"
    assert text.shorten("abc", 0) == text.shorten_middle("abc", 0) == ""
