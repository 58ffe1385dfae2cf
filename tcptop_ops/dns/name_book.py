"""Show names in place of addresses and ports: a mapping, filled by ``resolver``, and the text made with it. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from tcptop_ops import text
from tcptop_ops.model.addresses import is_link_local, is_unspecified
from tcptop_ops.views.column import Column
from tcptop_ops.views.column_lookup import find

NameKey = bytes | int
"""What a name belongs to: the 16 bytes of an address (IPv4-mapped), or a TCP port."""

NameBook = Mapping[NameKey, str]
"""Names that have passed ``harmless``; a key without a name is absent."""

NOBODY: NameBook = MappingProxyType({})

ENDPOINTS = frozenset({"peer", "local"})
ADDRESSES = frozenset({"laddr", "raddr"})
PORTS = frozenset({"lport", "rport"})
NAMED = ENDPOINTS | ADDRESSES | PORTS
"""Ids of the columns that may show a name."""

LONGEST = 255
"""Maximum length of a name in characters, which no DNS name exceeds (RFC 1035, 2.3.4)."""


def harmless(name: str) -> str:
    """Return a name as it may be shown; "" for one that could be mistaken for something else.

    Names are untrusted, since whoever owns an address chooses its name: it could contain terminal escapes, or look like
    another address and port.
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


def keys(column: Column, value: Any) -> list[NameKey]:
    """Return the keys whose names a cell of this column could show."""
    if column.id in PORTS:
        return [int(value)] if value > 0 else []  # false for NaN
    if column.id not in NAMED:
        return []
    return [*_host(value), *([_port(value)] * (column.id in ENDPOINTS and _port(value) > 0))]


def _host(packed: bytes) -> list[NameKey]:
    """Return the key of an address; an empty list for the unspecified and for link-local ones, which are not unique."""
    address = packed[:16]
    return [] if is_unspecified(address) or is_link_local(address) else [address]


def _port(packed: bytes) -> int:
    return int.from_bytes(packed[16:18], "big")


def shower(column: Column, names: NameBook) -> Callable[[Any], str]:
    """Return a formatter like ``Column.show`` that uses names where they are known."""
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


def all_keys(columns: Iterable[Column], values: Callable[[Column], Iterable[Any]]) -> list[NameKey]:
    """Return the distinct keys of these columns: column by column, in the order of the rows."""
    named = [column for column in columns if column.id in NAMED]
    return list(dict.fromkeys(key for column in named for value in values(column) for key in keys(column, value)))
