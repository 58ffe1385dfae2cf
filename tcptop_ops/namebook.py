"""Names in place of addresses and ports: a plain mapping that ``names`` fills, and the text that it makes. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from tcptop_ops import format as text
from tcptop_ops.columns import Column, find

Key = bytes | int
"""Whose name it is: 16 bytes of an address (IPv4 mapped), or a port of TCP."""

NameBook = Mapping[Key, str]
"""Names that ``harmless`` has let through; what has none is not in it."""

NOBODY: NameBook = MappingProxyType({})

ENDPOINTS = frozenset({"peer", "local"})
ADDRESSES = frozenset({"laddr", "raddr"})
PORTS = frozenset({"lport", "rport"})
NAMED = ENDPOINTS | ADDRESSES | PORTS
"""Columns that may show a name."""

LONGEST = 255
"""Characters of a name: more than DNS can hold (RFC 1035, 2.3.4)."""


def harmless(name: str) -> str:
    """A name as it may be shown; "" for one that could be taken for something else than a name.

    Whoever owns an address chooses its name: it may steer a terminal, or look like another address and port.
    """
    shown = text.printable(name.rstrip("."))
    if not shown or len(shown) > LONGEST or set(shown) & set(" :*") or _looks_like_an_address(shown):
        return ""
    return shown


def _looks_like_an_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return not set(name) - set("0123456789.")
    return True


def keys(column: Column, value: Any) -> list[Key]:
    """Whose names a cell of this column could show."""
    if column.id in PORTS:
        return [int(value)] if value > 0 else []  # a NaN is not
    if column.id not in NAMED:
        return []
    return [*_host(value), *([_port(value)] * (column.id in ENDPOINTS and _port(value) > 0))]


def _host(packed: bytes) -> list[Key]:
    """None for the unspecified address, and for a link-local one: it is somebody else on every link."""
    address = packed[:16]
    if not any(address[12:] if _is_mapped(address) else address):
        return []
    return [] if address[0] == 0xFE and address[1] & 0xC0 == 0x80 else [address]


def _is_mapped(address: bytes) -> bool:
    return address.startswith(b"\0" * 10 + b"\xff\xff")


def _port(packed: bytes) -> int:
    return int.from_bytes(packed[16:18], "big")


def shower(column: Column, names: NameBook) -> Callable[[Any], str]:
    """``Column.show``, with a name wherever one is known."""
    if not names or column.id not in NAMED:
        return column.show
    if column.id in PORTS:
        return lambda value: names.get(int(value) if value > 0 else 0) or column.show(value)
    if column.id in ADDRESSES:
        return lambda value: names.get(value[:16]) or column.show(value)
    return lambda value: _endpoint(column, value, names)


def _endpoint(column: Column, packed: bytes, names: NameBook) -> str:
    host, service = names.get(packed[:16]), names.get(_port(packed))
    if host is None and service is None:
        return column.show(packed)
    return text.endpoint(host or find("laddr").show(packed), service or _port(packed))


def all_keys(columns: Iterable[Column], values: Callable[[Column], Iterable[Any]]) -> list[Key]:
    """Whose names these columns could show: each once, column by column, in the order of the rows."""
    named = [column for column in columns if column.id in NAMED]
    return list(dict.fromkeys(key for column in named for value in values(column) for key in keys(column, value)))
