"""Format values as text: compact, of bounded width, ASCII only."""

from __future__ import annotations

import ipaddress
import math

import numpy as np
from numpy.typing import NDArray

DASH = "-"
UNKNOWN = "?"

_SI = ("", "k", "M", "G", "T", "P", "E")
MOST_DAYS = 9999
"""The greatest number of days that is shown; longer durations are capped to it."""


def si(value: float) -> str:
    """Format a count, size or rate in at most four characters with an SI prefix: ``0``, ``999``, ``1.2k``, ``34M``.

    A minus sign comes in addition. Values beyond 64-bit counters become ``inf``, NaN becomes ``?``.
    """
    if math.isnan(value):
        return UNKNOWN
    magnitude = 0
    number = abs(value)
    while number >= 999.5 and magnitude < len(_SI) - 1:
        number /= 1000
        magnitude += 1
    digits = f"{number:.1f}" if magnitude and number < 9.95 else f"{number:.0f}"
    return ("-" if value < 0 else "") + (digits + _SI[magnitude] if number < 999.5 else "inf")


def seen_si(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Round values to what ``si`` shows: values with the same text become equal."""
    size = np.abs(values)
    with np.errstate(divide="ignore", invalid="ignore"):
        unit = 1000.0 ** np.clip(np.floor(np.log10(np.where(size > 0, size, 1.0)) / 3), 0, len(_SI) - 1)
    step = np.where((unit > 1) & (size < 9.95 * unit), unit / 10, unit)
    return _stepped(values, step)


_DURATION_EDGES = (0.0009995, 0.00995, 0.9995, 9.995, 99.5, 5970.0, 86400.0 * 4)
_DURATION_STEPS = np.array([1e-6, 1e-4, 1e-3, 1e-2, 1.0, 60.0, 3600.0, 86400.0])


def seen_duration(seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Round times, in seconds, to what ``duration`` shows."""
    return _stepped(seconds, _DURATION_STEPS[np.searchsorted(_DURATION_EDGES, seconds, "right")])


def seen_percent(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Round percentages to what ``percent`` shows."""
    return _stepped(values, np.where(values < 99.95, 0.1, 1.0))


def _stepped(values: NDArray[np.float64], step: NDArray[np.float64]) -> NDArray[np.float64]:
    stepped: NDArray[np.float64] = np.rint(values / step) * step
    return stepped


def duration(seconds: float) -> str:
    """Format a time in at most five characters: ``31us``, ``4.2ms``, ``1.20s``, ``95s``, ``12m``, ``32h``, ``9d``.

    A negative time, which two different clocks may yield, becomes ``0``; NaN becomes ``?``.
    """
    if math.isnan(seconds):
        return UNKNOWN
    if seconds <= 0:
        return "0"
    if seconds < 0.0009995:
        return f"{seconds * 1e6:.0f}us"
    if seconds < 0.00995:
        return f"{seconds * 1e3:.1f}ms"
    if seconds < 0.9995:
        return f"{seconds * 1e3:.0f}ms"
    if seconds < 9.995:
        return f"{seconds:.2f}s"
    return _long_duration(seconds)


def _long_duration(seconds: float) -> str:
    if seconds < 99.5:
        return f"{seconds:.0f}s"
    for size, unit, limit in ((60, "m", 5970), (3600, "h", 86400 * 4)):
        if seconds < limit:
            return f"{seconds / size:.0f}{unit}"
    return f"{min(seconds / 86400, MOST_DAYS):.0f}d"


def percent(value: float) -> str:
    """Format a percentage in at most four characters, with one decimal below 100.

    Negative values become 0, NaN ``?``.
    """
    if math.isnan(value):
        return UNKNOWN
    if value < 99.95:
        return f"{max(value, 0):.1f}"
    return f"{value:.0f}" if value < 9999.5 else si(value)


def count(value: float) -> str:
    """Format an integer in full up to five digits, beyond that as ``si``.

    A minus sign comes in addition; NaN becomes ``?``.
    """
    if math.isnan(value):
        return UNKNOWN
    return f"{value:.0f}" if abs(value) < 99999.5 else si(value)


def printable(text: bytes | str) -> str:
    """Make untrusted text safe for a terminal: printable ASCII only, so that its width is its length.

    Other characters are escaped by number, so that two different names rarely look the same: ``\\x1b`` for control
    characters and for bytes that are not UTF-8 (surrogateescape), ``\\u202e`` and ``\\U0001f600`` for the rest. A
    backslash is not escaped: systemd's own names contain many.
    """
    decoded = text.decode("utf-8", "surrogateescape") if isinstance(text, bytes) else text
    if decoded.isascii() and decoded.isprintable():
        return decoded
    return "".join(c if " " <= c <= "~" else _escaped(ord(c)) for c in decoded)


def _escaped(code: int) -> str:
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8, decoded by surrogateescape (PEP 383)
        return f"\\x{code & 0xFF:02x}"
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def storable(text: str) -> str:
    """Replace lone surrogates (bytes that were not UTF-8) by U+FFFD: any reader of UTF-8 or JSON accepts the result."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def address(packed: bytes, scope: str = "") -> str:
    """Format a 16-byte address: IPv4-mapped as IPv4, the unspecified address as ``*``, an IPv6 scope behind ``%``."""
    whole = ipaddress.IPv6Address(packed.ljust(16, b"\0"))
    shown = whole.ipv4_mapped or whole
    if shown.is_unspecified:
        return "*"
    return f"{shown}%{scope}" if scope and shown is whole else str(shown)


def endpoint(addr: str, port: int | str) -> str:
    """Join an address and a port, with an IPv6 address in brackets. Port 0 or "" becomes ``*``."""
    return f"[{addr}]:{port or '*'}" if ":" in addr else f"{addr}:{port or '*'}"


def shorten(text: str, width: int) -> str:
    """Truncate text to ``width`` characters, with ``~`` at the end if anything was cut."""
    return text if len(text) <= width else text[: max(width - 1, 0)] + "~" * (width > 0)


def shorten_middle(text: str, width: int) -> str:
    """Truncate text to ``width`` characters by replacing its middle with ``~``: the port of an address is kept."""
    if len(text) <= width:
        return text
    tail = max(width * 2 // 3, 0)
    return text[: max(width - 1 - tail, 0)] + "~" * (width > 0) + text[len(text) - tail :]
