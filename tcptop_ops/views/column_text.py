"""The values of columns as text: for the screen, for JSON, rounded as they are shown."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tcptop_ops import text
from tcptop_ops.model.addresses import is_link_local, is_mapped
from tcptop_ops.model.enums import SHORT_STATES
from tcptop_ops.views.column_readers import Values


def null_or(convert: Callable[[float], Any]) -> Callable[[Any], Any]:
    """Return a conversion for JSON that maps NaN, the null of numbers, to None."""
    return lambda value: None if math.isnan(value) else convert(value)


def whole(value: float) -> int:
    """Return a number without its fraction, for JSON."""
    return int(value)


def rounded(value: float) -> float:
    """Return a number with three digits after the point, for JSON."""
    return round(float(value), 3)


def decoded(value: bytes) -> str | None:
    """Return a name as text, for JSON; None for b"". What is not UTF-8 is replaced."""
    return value.decode("utf-8", "replace") or None


def show_address(packed: bytes) -> str:
    """Format a packed address (``column_readers.endpoint``), with its device if link-local; a dash for b""."""
    if not packed:  # a group whose connections have different addresses
        return text.DASH
    scope = int.from_bytes(packed[18:22], "big")
    device = text.printable(packed[22:37].rstrip(b"\0")) or str(scope)
    addr = packed[:16]
    return text.address(addr, device if scope and is_link_local(addr) else "")


def show_endpoint(packed: bytes) -> str:
    """Format a packed address with its port; a dash for b"", a group whose connections differ."""
    if not packed:
        return text.DASH
    return text.endpoint(show_address(packed), int.from_bytes(packed[16:18], "big"))


def plain_address(packed: bytes) -> str | None:
    """Return a packed address for JSON: 0.0.0.0 or :: where the screen has ``*``; None for b""."""
    if not packed:
        return None
    shown = show_address(packed)
    if shown != "*":
        return shown
    return "0.0.0.0" if is_mapped(packed) else "::"


def plain_endpoint(packed: bytes) -> str | None:
    """Return a packed address with its port for JSON; None for b""."""
    address = plain_address(packed)
    return None if address is None else text.endpoint(address, int.from_bytes(packed[16:18], "big"))


def show_id(value: int) -> str:
    """Format a number that names something; a dash for 0, which stands for none."""
    return str(value) if value else text.DASH


def show_state(name: bytes) -> str:
    """Format the name of a state in its short form; a dash for what is no state."""
    return SHORT_STATES.get(name.decode(), text.DASH)


def show_name(name: bytes) -> str:
    """Format a name for the terminal; a question mark where it is not known."""
    return text.printable(name) or text.UNKNOWN


def show_word(name: bytes) -> str:
    """Format a word for the terminal; a dash where there is none."""
    return text.printable(name) or text.DASH


def show_exact(value: float) -> str:
    """Format a number that is an identifier: never rounded or abbreviated."""
    return f"{value:.0f}"


def dashed(show: Callable[[float], str]) -> Callable[[Any], str]:
    """Return a format that shows a dash for NaN, the null of numbers."""
    return lambda value: text.DASH if math.isnan(value) else show(value)


def show_us(value: float) -> str:
    """Format a duration in microseconds."""
    return text.duration(value / 1e6)


def show_ms(value: float) -> str:
    """Format a duration in milliseconds."""
    return text.duration(value / 1e3)


def show_signed(show: Callable[[float], str]) -> Callable[[float], str]:
    """Return a format for values of either sign, made of one for positive values."""
    return lambda value: "-" + show(-value) if value < 0 else show(value)


def seen_us(values: Values) -> Values:
    """Round durations in microseconds (float64) as ``show_us`` shows them: what looks alike sorts alike."""
    return text.seen_duration(values / 1e6)


def seen_ms(values: Values) -> Values:
    """Round durations in milliseconds (float64) as ``show_ms`` shows them."""
    return text.seen_duration(values / 1e3)


STEPS: dict[Callable[[float], str], Callable[[Values], Values]] = {
    text.si: text.seen_si,
    text.duration: text.seen_duration,
    text.percent: text.seen_percent,
    show_us: seen_us,
    show_ms: seen_ms,
    show_exact: np.rint,
}
"""How values are rounded for sorting, by the format that shows them."""
