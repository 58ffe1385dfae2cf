"""Asking network namespaces for their addresses, while connection attempts wait that one of them may answer.

By RTM_GETADDR (rtnetlink(7)) over a socket that was opened inside the namespace: it takes no privilege. The socket is
closed at once, since it would keep the namespace alive.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import suppress

import numpy as np

from tcptop_ops.errors import Unsupported
from tcptop_ops.host.namespaces import NamespaceAccess
from tcptop_ops.model.arrays import distinct
from tcptop_ops.model.enums import State
from tcptop_ops.model.namespace_addresses import ADDRESS, no_addresses
from tcptop_ops.model.records import Records

KEPT_S = 5.0
"""After how long a namespace is asked again, seconds."""

MOST = 64
"""Most namespaces that are asked, those with the lowest numbers."""

_RTM_NEWADDR, _RTM_GETADDR, _NLMSG_ERROR, _NLMSG_DONE = 20, 22, 2, 3
_NLM_F_REQUEST_DUMP = 0x301
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr
_IFADDR = struct.Struct("=BBBBI")  # struct ifaddrmsg: family, prefix length, flags, scope, interface index
_ATTRIBUTE = struct.Struct("=HH")
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_ROOM = 1 << 16


class NamespaceAddresses:
    """Reads ADDRESS rows, in the namespaces that are reached. Used by one thread."""

    def __init__(self, reach: NamespaceAccess) -> None:
        """Take what gives access to the namespaces: it stays its owner's, who closes it."""
        self._reach = reach
        self._found: dict[int, tuple[float, Records]] = {}  # by namespace: when it was asked (CLOCK_MONOTONIC), what

    def read(self, sockets: Records) -> Records:
        """Return the addresses of the namespaces in question (``worth_asking``); without attempts that wait, none.

        Takes SOCKET rows. What is returned is at most KEPT_S old.
        """
        wanted = sorted(worth_asking(sockets))[:MOST]
        now = time.monotonic()
        self._found = {one: told for one, told in self._found.items() if one in wanted and now - told[0] < KEPT_S}
        for one in wanted:
            if one not in self._found:
                self._found[one] = (now, self._ask(one))
        return np.concatenate([no_addresses(), *(rows for _, rows in self._found.values())])

    def _ask(self, namespace: int) -> Records:
        with suppress(OSError, Unsupported):  # it is gone, or can't be entered
            with self._reach.route(namespace) as asked:
                found = list(addresses(asked))
            rows = np.zeros(len(found), ADDRESS)
            for at, (index, address) in enumerate(found):
                rows[at] = (np.frombuffer(address, "u1"), namespace, index)
            return rows
        return no_addresses()


def worth_asking(sockets: Records) -> set[int]:
    """Return the namespaces of attempts that were retransmitted, and those with a listener on a port that they dial."""
    waiting = np.flatnonzero(sockets["state"] == State.SYN_SENT)
    waiting = waiting[sockets["retransmits"][waiting] > 0]
    if not len(waiting):
        return set()
    listening = np.flatnonzero(sockets["state"] == State.LISTEN)
    listening = listening[np.isin(sockets["lport"][listening], sockets["rport"][waiting])]
    if not len(listening):
        return set()
    both = sockets["netns"][np.concatenate([waiting, listening])]
    return set(distinct(both).tolist()) - {0}


def addresses(asked: socket.socket) -> Iterator[tuple[int, bytes]]:
    """Yield interface index and address (16 bytes) of all addresses of a namespace, asked for over a route socket.

    Raises OSError where the kernel refuses.
    """
    body = _IFADDR.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
    asked.send(_HEADER.pack(_HEADER.size + len(body), _RTM_GETADDR, _NLM_F_REQUEST_DUMP, 1, 0) + body)
    while True:
        part = asked.recv(_ROOM)
        for kind, message in _messages(part):
            if kind == _NLMSG_DONE:
                return
            if kind == _NLMSG_ERROR:
                number = -struct.unpack_from("=i", message)[0]
                raise OSError(number, os.strerror(number))
            if kind == _RTM_NEWADDR and (found := _address(message)) is not None:
                yield found


def _messages(part: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield type and content of each netlink message of a datagram."""
    at = 0
    while len(part) - at >= _HEADER.size:
        length, kind, *_ = _HEADER.unpack_from(part, at)
        if length < _HEADER.size:
            return
        yield kind, part[at + _HEADER.size : at + length]
        at += length + 3 & ~3


def _address(message: bytes) -> tuple[int, bytes] | None:
    """Return index and address that an RTM_NEWADDR tells of.

    Of a link with a peer, IFA_LOCAL is our address and IFA_ADDRESS the peer's (inet_fill_ifaddr(),
    inet6_fill_ifaddr()).
    """
    family, _, _, _, index = _IFADDR.unpack_from(message)
    at, told = _IFADDR.size, dict[int, bytes]()
    while len(message) - at >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(message, at)
        if length < _ATTRIBUTE.size:
            break
        told[kind] = message[at + _ATTRIBUTE.size : at + length]
        at += length + 3 & ~3
    address = told.get(_IFA_LOCAL, told.get(_IFA_ADDRESS, b""))
    if family == socket.AF_INET and len(address) == 4:
        return index, b"\0" * 10 + b"\xff\xff" + address
    return (index, address) if family == socket.AF_INET6 and len(address) == 16 else None
