"""Parse the values of the filter language: numbers with units, addresses, prefixes and patterns.

Each reader takes the text and returns the value in the unit of its column. A text that is not a valid value raises
Misread, which says what was expected and, if it can be guessed, what was meant.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from fractions import Fraction
from ipaddress import IPv4Network, IPv6Network, ip_network

from tcptop_ops.filters.regex_cost import LONGEST_PATTERN, TooManyWays, ways

MAPPED = 0xFFFF << 32
"""The bits of ``::ffff:0:0/96``. Addresses are stored as in the kernel's records: IPv4 as IPv4-mapped IPv6."""


class Misread(ValueError):
    """A text that is not a valid value of its column."""

    def __init__(self, expected: str, hint: str = "", at: int = 0) -> None:
        """Take what was ``expected``, a ``hint``, and the offset of the offending character, from 0 (``at``)."""
        super().__init__(expected)
        self.expected = expected
        self.hint = hint
        self.at = at


_US = {"us": 1, "µs": 1, "μs": 1, "ms": 10**3, "s": 10**6, "sec": 10**6, "m": 60 * 10**6, "min": 60 * 10**6}
_US |= {"usec": 1, "msec": 10**3, "h": 3600 * 10**6, "d": 86400 * 10**6}
_PREFIXES = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_NUMBER = re.compile(r"([+-]?(?:[0-9]{1,20}(?:\.[0-9]{0,20})?|\.[0-9]{1,20}))(.*)", re.DOTALL)
_SCALED = re.compile(r"(?i:([kmgtp]?)(i?))(B|[bB]it|b)?(/s|ps)?")


def _number(text: str, expected: str, hint: str = "") -> tuple[Fraction, str]:
    """Return the number at the start of a text, exactly, and the text behind it. Raises Misread."""
    found = _NUMBER.fullmatch(text)
    if found is None:
        raise Misread(expected, hint)
    return Fraction(found[1]), found[2].strip()


def time_in(column_us: int, bare: bool) -> Callable[[str], float]:
    """Return a reader of times, whose result is in units of ``column_us`` microseconds.

    ``bare``: whether a number without a unit is accepted, as one in the column's own unit. Zero never needs a unit.
    """
    expected = "a number with a unit of time (us, ms, s, m, h)"

    def read(text: str) -> float:
        number, unit = _number(text, expected)
        if not unit and (bare or not number):
            return float(number)
        if unit not in _US:
            near = get_close_matches(unit.lower(), _US, 1, 0.5)
            meant = near[0] if near else "s" if column_us == _US["s"] else "ms"
            raise Misread(expected, f"did you mean {text[: len(text) - len(unit)].strip()}{meant}?")
        return float(number * _US[unit] / column_us)

    return read


def percentage(text: str) -> float:
    """Read a percentage such as ``2`` or ``0.5%``. Raises Misread."""
    expected = "a percentage such as 2 or 0.5%"
    number, unit = _number(text, expected)
    if unit not in ("", "%"):
        raise Misread(expected)
    return float(number)


def _scaled(expected: str, units: tuple[str, ...], per_s: bool) -> Callable[[str], float]:
    """Return a reader of numbers with an SI or binary prefix (k, M, Gi, ...) and one of ``units``.

    ``per_s``: whether ``/s`` or ``ps`` may follow. A value in bits is converted to bytes.
    """

    def read(text: str) -> float:
        number, unit = _number(text, expected)
        found = _SCALED.fullmatch(unit)
        if found is None or (found[2] and not found[1]) or (found[4] and not per_s):
            raise Misread(expected)
        measure = (found[3] or "").replace("Bit", "bit")
        if measure == "b" and "B" in units:
            if found[4] != "ps" or "bit" not in units:
                raise Misread(expected, "b may be bits or bytes: write B" + (" or bit" if "bit" in units else ""))
            measure = "bit"  # "b" is ambiguous except in Mbps, which always means megabits
        if measure not in ("", *units):
            raise Misread(expected)
        factor = (1024 if found[2] else 1000) ** _PREFIXES[found[1].lower()]
        return float(number * factor / (8 if measure == "bit" else 1))

    return read


count = _scaled("a number such as 10 or 1.5k", (), per_s=False)
size = _scaled("a size such as 64kB or 2GiB", ("B",), per_s=False)
events_per_s = _scaled("a number a second such as 5 or 1.5k/s", (), per_s=True)
bytes_per_s = _scaled("a rate such as 500kB/s or 10Mbit/s", ("B", "bit"), per_s=True)


def whole(most: int, expected: str) -> Callable[[str], int]:
    """Return a reader of non-negative integers, digits only, that are at most ``most``."""

    def read(text: str) -> int:
        if not re.fullmatch("[0-9]{1,20}", text) or int(text) > most:
            raise Misread(expected)
        return int(text)

    return read


port = whole(65535, "a port, 0 to 65535")


def one_of(names: tuple[str, ...], synonyms: dict[str, str] | None = None) -> Callable[[str], str]:
    """Return a case-insensitive reader of ``names`` and of ``synonyms`` (a lower-case synonym to its name)."""
    known = {name.lower(): name for name in names} | (synonyms or {})

    def read(text: str) -> str:
        found = known.get(text.lower())
        if found is None:
            near = get_close_matches(text.lower(), known, 1)
            raise Misread(f"one of {' '.join(names)}", f"did you mean {known[near[0]]}?" if near else "")
        return found

    return read


@dataclass(frozen=True)
class Place:
    """An address prefix, and a port where one is given.

    ``bits`` and ``mask`` are 128-bit numbers (IPv4 as IPv4-mapped IPv6); ``mask`` 0 matches any address. ``scope`` is
    an interface index, None for any; ``port`` None matches any port.
    """

    bits: int = 0
    mask: int = 0
    scope: int | None = None
    port: int | None = None
    only_v6: bool = False  # an IPv6 prefix shorter than /96 may contain ::ffff:0:0/96, but is not meant to match IPv4
    unspecified: bool = False  # match 0.0.0.0 and ::, which the screen shows as *


_ADDRESS = re.compile(r"([0-9A-Fa-f:.]+)(?:%([0-9]{1,9}))?(?:/([0-9]{1,3}))?")
_ENDPOINT = re.compile(r"(?:\[(?P<v6>[^\[\]]+)\]|(?P<v4>\*|[0-9.]*))(?::(?P<port>\*|[0-9]{1,5}))?")


def address(text: str) -> Place:
    """Read an address, a prefix, or ``*`` (the unspecified address). Raises Misread.

    Host bits of a prefix are ignored. A scope (``fe80::1%2``) is an interface index.
    """
    if text == "*":
        return Place(unspecified=True)
    expected = "an address or a prefix such as 10.0.0.0/8"
    found = _ADDRESS.fullmatch(text)
    if found is None:
        raise Misread(expected, _address_hint(text))
    try:
        network = ip_network(found[1] + (f"/{found[3]}" if found[3] else ""), strict=False)
    except ValueError:
        raise Misread(expected, _address_hint(text)) from None
    return _place(network, None if found[2] is None else int(found[2]))


def _place(network: IPv4Network | IPv6Network, scope: int | None) -> Place:
    bits, mask = int(network.network_address), int(network.netmask)
    if network.version == 4:
        return Place(bits | MAPPED, mask | (2**128 - 2**32), scope)
    return Place(bits, mask, scope, only_v6=network.prefixlen < 96)


def _address_hint(text: str) -> str:
    if re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,3}){0,2}\.?", text):
        parts = text.rstrip(".").split(".")
        return f"did you mean {'.'.join([*parts, '0', '0', '0'][:4])}/{8 * len(parts)}?"
    return "in numbers: 10.0.0.1, 10.0.0.0/8, 2001:db8::/32, fe80::1%2"


def endpoint(text: str) -> Place:
    """Read an address with a port, or an address or a prefix without one. Raises Misread.

    Examples: ``10.0.0.1:443``, ``[::1]:443``, ``:443`` (any address), ``*:22`` (the unspecified address),
    ``10.0.0.0/8``.
    """
    expected = "an address and a port such as 10.0.0.1:443"
    found = _ENDPOINT.fullmatch(text)
    if found is None or (found["v4"] and not found["port"]):
        try:
            return address(text)
        except Misread as error:
            raise Misread(expected, error.hint) from None
    if not text or ((found["port"] or "*") != "*" and int(found["port"]) > 65535):
        raise Misread(expected)
    try:
        place = address(found["v6"] or found["v4"]) if found["v6"] or found["v4"] else Place()
    except Misread as error:
        raise Misread(expected, error.hint) from None
    number = None if found["port"] in (None, "*") else int(found["port"])
    return Place(place.bits, place.mask, place.scope, number, place.only_v6, place.unspecified)


def pattern(text: str, ignore_case: bool = False) -> re.Pattern[str]:
    """Compile a regular expression of Python's ``re``. Raises Misread.

    Expressions whose backtracking could take too long are refused: see ``filter_patterns``.
    """
    if len(text) > LONGEST_PATTERN:
        raise Misread(f"a regular expression of at most {LONGEST_PATTERN} characters", "make it shorter")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a FutureWarning for "[[" would reach the terminal
            compiled = re.compile(text, re.IGNORECASE if ignore_case else 0)
        ways(text)
    except re.error as error:
        raise Misread("a regular expression", str(error.msg), error.pos or 0) from None
    except TooManyWays as error:
        hint = (
            "a repetition in a repetition, or a third '*' or '+', might never end: give simpler ones, joined with 'and'"
        )
        raise Misread("a regular expression with fewer ways to match", hint, error.at) from None
    except (OverflowError, RecursionError) as error:
        raise Misread("a simpler regular expression", str(error)) from None
    return compiled
