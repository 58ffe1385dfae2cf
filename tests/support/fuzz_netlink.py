"""Dumps of sock_diag with damage."""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import Callable
from contextlib import ExitStack
from typing import cast

import numpy as np

from tcptop_ops.errors import TcptopError
from tcptop_ops.model.host_description import HostDescription
from tcptop_ops.model.records import Records
from tcptop_ops.outputs.json_lines import json_line
from tcptop_ops.outputs.text_table import table
from tcptop_ops.sources import netlink
from tcptop_ops.sources.polled import SockDiagSource
from tcptop_ops.sources.sock_diag import ALL_STATES, SockDiag, open_socket, request
from tcptop_ops.tracking.tracker import Tracker
from tcptop_ops.views import view
from tcptop_ops.views.column_sets import parse_list
from tests.support.fuzz_run import Try
from tests.support.sock_diag import FakeNetlink

USED = 1 << 20
"""Bytes of the buffer that a damaged dump may fill, and more."""

EXTENSIONS = 1 << 6 | 1 << 1 | 1 << 3  # SKMEMINFO, INFO, CONG


def recorded() -> list[bytes]:
    """Return the datagrams of a dump of this kernel, with a few sockets of every kind in it."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=64))
        for _ in range(8):
            near = stack.enter_context(socket.create_connection(listener.getsockname()))
            near.sendall(b"hello")
        stack.enter_context(listener.accept()[0])
        asking = stack.enter_context(open_socket())
        asking.send(request(ALL_STATES, EXTENSIONS))
        found: list[bytes] = []
        while not found or struct.unpack_from("=H", found[-1], 4)[0] != netlink.NLMSG_DONE:
            found.append(asking.recv(1 << 16))
    return smaller(found)


def smaller(datagrams: list[bytes], most: int = 24) -> list[bytes]:
    """Return the first messages of it, in three datagrams, and the end: of a busy host it could be megabytes."""
    messages: list[bytes] = []
    for data in datagrams:
        at = 0
        while at < len(data):
            (length,) = struct.unpack_from("=I", data, at)
            messages.append(data[at : at + length])
            at += length + 3 & ~3
    body, end = messages[:-1][:most], messages[-1]
    third = len(body) // 3 or 1
    parts = [b"".join(body[at : at + third]) for at in range(0, len(body), third)]
    return [*parts, end]


INTERESTING = (0, 1, 2, 3, 4, 5, 15, 16, 17, 20, 0x7F, 0x80, 0xFF, 0x4000, 0x7FFF, 0x8000, 0xFFFF, 2**31, 2**32 - 1)


def damage(rng: random.Random, datagrams: list[bytes]) -> list[bytes]:
    """One to eight things done to it: bytes, words, lengths, pieces, datagrams; sometimes nothing but noise."""
    found = [bytearray(data) for data in datagrams]
    for _ in range(rng.choice((1, 1, 2, 4, 8))):
        if not found:
            break
        which = rng.randrange(len(found))
        found[which : which + 1] = _damaged(rng, found[which], found)
    return [bytes(data) for data in found]


def _damaged(rng: random.Random, data: bytearray, others: list[bytearray]) -> list[bytearray]:
    at = rng.randrange(len(data) + 1) if rng.random() < 0.5 else rng.randrange(len(data) // 4 + 1) * 4
    length = rng.choice((1, 2, 4, 16, 72, 400))
    kind = rng.randrange(10)
    if kind < 4:
        size, code = rng.choice(((1, "B"), (2, "H"), (4, "I")))
        number = rng.choice(INTERESTING) % 256**size
        if at + size <= len(data):
            struct.pack_into(f"={code}", data, at, number)
    elif kind == 4:
        data[at : at + length] = rng.randbytes(length)
    elif kind == 5:
        del data[at : at + length]
    elif kind == 6:
        data[at:at] = data[at : at + length] * rng.choice((1, 3))
    elif kind == 7:
        return [data[:at], data[at:]] if rng.random() < 0.5 else []
    elif kind == 8:
        return [data, bytearray(rng.choice(others))]
    else:
        return [bytearray(rng.randbytes(rng.choice((0, 1, 15, 16, 100, 5000, 65_536, 70_000))))]
    return [data]


def netlink_try() -> Try:
    """Every way in which an answer is read; a tenth of them as far as a table and JSON."""
    good = recorded()
    sock = FakeNetlink()
    diag = SockDiag(cast(socket.socket, sock))
    sock.datagrams = tuple(good)
    if not len(diag.dump().sockets):
        raise RuntimeError("the recorded dump has no rows")
    columns = view.Spec(columns=parse_list("all"))
    reads: tuple[Callable[[], Records], ...] = (
        lambda: diag.dump().sockets,
        diag.half_open,
        lambda: np.array(diag.count_time_wait()),
    )

    def told(read: Callable[[], Records], before: int) -> bytes | str:
        """Return what is read, or the error, where the buffer had these bytes before."""
        diag._buffer[:USED].fill(before)
        try:
            return read().tobytes()
        except TcptopError as error:
            return f"{type(error).__name__}: {error.message}"

    def attempt(rng: random.Random) -> str:
        sock.datagrams = tuple(damage(rng, good))
        read = rng.choice((reads[0], *reads))
        found = told(read, 0)
        if found != told(read, 0xAA):
            raise ValueError("what is read depends on what was in the buffer")
        if isinstance(found, str):
            return found.partition(":")[0]
        if rng.random() < 0.2 and read is reads[0]:
            flows = Tracker().update(SockDiagSource(diag).poll())
            made = view.make(flows, columns)
            if not (table(made, None) + json_line(made, HostDescription("host", "6"), {})).isascii():
                raise ValueError("not ASCII")
        return "read"

    return attempt
