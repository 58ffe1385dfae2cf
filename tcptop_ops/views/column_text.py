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
    return lambda value: None if math.isnan(value) else convert(value)


def whole(value: float) -> int:
    return int(value)


def rounded(value: float) -> float:
    return round(float(value), 3)


def decoded(value: bytes) -> str | None:
    return value.decode("utf-8", "replace") or None


def show_address(packed: bytes) -> str:
    if not packed:  # a group whose connections have different addresses
        return text.DASH
    scope = int.from_bytes(packed[18:22], "big")
    device = text.printable(packed[22:37].rstrip(b"\0")) or str(scope)
    addr = packed[:16]
    return text.address(addr, device if scope and is_link_local(addr) else "")


def show_endpoint(packed: bytes) -> str:
    if not packed:
        return text.DASH
    return text.endpoint(show_address(packed), int.from_bytes(packed[16:18], "big"))


def plain_address(packed: bytes) -> str | None:
    if not packed:
        return None
    shown = show_address(packed)
    if shown != "*":
        return shown
    return "0.0.0.0" if is_mapped(packed) else "::"


def plain_endpoint(packed: bytes) -> str | None:
    address = plain_address(packed)
    return None if address is None else text.endpoint(address, int.from_bytes(packed[16:18], "big"))


def show_id(value: int) -> str:
    return str(value) if value else text.DASH


def show_state(name: bytes) -> str:
    return SHORT_STATES.get(name.decode(), text.DASH)


def show_name(name: bytes) -> str:
    return text.printable(name) or text.UNKNOWN


def show_word(name: bytes) -> str:
    return text.printable(name) or text.DASH


def show_exact(value: float) -> str:
    """Format a number that is an identifier: never rounded or abbreviated."""
    return f"{value:.0f}"


def dashed(show: Callable[[float], str]) -> Callable[[Any], str]:
    return lambda value: text.DASH if math.isnan(value) else show(value)


def show_us(value: float) -> str:
    return text.duration(value / 1e6)


def show_ms(value: float) -> str:
    return text.duration(value / 1e3)


def show_signed(show: Callable[[float], str]) -> Callable[[float], str]:
    return lambda value: "-" + show(-value) if value < 0 else show(value)


def seen_us(values: Values) -> Values:
    return text.seen_duration(values / 1e6)


def seen_ms(values: Values) -> Values:
    return text.seen_duration(values / 1e3)


STEPS: dict[Callable[[float], str], Callable[[Values], Values]] = {
    text.si: text.seen_si,
    text.duration: text.seen_duration,
    text.percent: text.seen_percent,
    show_us: seen_us,
    show_ms: seen_ms,
    show_exact: np.rint,
}
