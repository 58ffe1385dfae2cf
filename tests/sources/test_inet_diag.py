"""The reader of dumps, against a slow one; messages of other sizes, and any bytes at all."""

from __future__ import annotations

import struct
import sys
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcptop_ops.bpf import kernel_offsets
from tcptop_ops.errors import Failed, TcptopError
from tcptop_ops.model.enums import EcnMode, State, Timer
from tcptop_ops.model.records import SOCKET, UNKNOWN_U32, UNKNOWN_U64
from tcptop_ops.sources.inet_diag import INFO, info_end
from tests.support.sock_diag import DONE, diag, is_same, rate_of, split


def read_slowly(message: bytes) -> dict[int, bytes]:
    """The attributes of one message."""
    found, at = {}, 88
    while at + 4 <= len(message):
        length, kind = struct.unpack_from("=HH", message, at)
        found[kind & 0x3FFF] = message[at + 4 : at + length]
        at += length + 3 & ~3
    return found


def with_attributes(message: bytes, attributes: dict[int, bytes]) -> bytes:
    """The message with these attributes instead of its own."""
    body = message[16:88]
    for kind, data in attributes.items():
        body += struct.pack("=HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)
    return struct.pack("=I", 16 + len(body)) + message[4:16] + body


def last_sent_us(info: bytes) -> int:
    """What this struct tcp_info tells of it: nothing in states in which no data can have been sent."""
    known = info[0] not in (State.LISTEN, State.SYN_SENT)
    return int(1000 * struct.unpack_from("=I", info, 44)[0]) if known else UNKNOWN_U64


def test_as_a_slow_reader(captured: list[bytes]) -> None:
    rows = {int(row["cookie"]): row for row in diag(*captured).dump().sockets}
    told = 0
    for message in split(captured)[:-1]:
        found = read_slowly(message)
        if message[17] in (State.SYN_RECV, State.TIME_WAIT) or message[18] == 3:
            continue
        row = rows[struct.unpack_from("=Q", message, 60)[0]]
        told += 1
        assert row["state"] == message[17]
        assert row["cc"] == found[4].rstrip(b"\0")
        assert row["drops"] == struct.unpack_from("=I", found[7], 32)[0]
        assert row["cgroup_id"] == (struct.unpack("=Q", found[21])[0] if 21 in found else 0)
        assert row["retrans_segs"] == struct.unpack_from("=I", found[2], 100)[0]
        assert row["last_sent_us"] == last_sent_us(found[2])
        assert row["last_rtt_us"] == UNKNOWN_U32
    assert told == len(rows) > 0


@settings(max_examples=60, deadline=None)
@given(places=st.lists(st.floats(0, 1, exclude_max=True), max_size=20))
def test_however_messages_are_cut_into_datagrams_rows_are_the_same(captured: list[bytes], places: list[float]) -> None:
    single = split(captured)
    # Places are fractions: what an example may draw is the same on a host of few sockets and on one of thousands.
    cuts = sorted({1 + int(place * (len(single) - 1)) for place in places} - {len(single)})
    chunks = [b"".join(single[a:b]) for a, b in zip([0, *cuts], [*cuts, len(single)], strict=True)]
    assert is_same(diag(*chunks).dump().sockets, diag(*captured).dump().sockets)


def test_more_than_the_buffer_holds(captured: list[bytes]) -> None:
    whole = diag(*captured).dump().sockets
    sockets = captured[:-1] * (2 * (4 << 20) // len(captured[0]) + 1)
    many = diag(*sockets, DONE).dump()
    assert len(many.sockets) == len(whole) * len(sockets) // len(captured[:-1])
    assert is_same(many.sockets[-len(whole) :], whole)


@pytest.mark.parametrize("known", [*range(104, INFO.itemsize, 4), INFO.itemsize, INFO.itemsize + 8])
def test_a_tcp_info_of_another_size(captured: list[bytes], known: int) -> None:
    message = next(m for m in split(captured) if len(m) > 88 and m[17] == State.ESTABLISHED)
    found = read_slowly(message)
    longer = found[2] + bytes(300)
    (whole,) = diag(with_attributes(message, found | {2: longer[: INFO.itemsize]}), DONE).dump().sockets
    short = diag(with_attributes(message, found | {2: longer[:known]}), DONE).dump()
    (row,) = short.sockets
    assert short.info_bytes == min(known, INFO.itemsize)
    for name in set(SOCKET.names or ()) & set(INFO.names or ()):
        unknown = UNKNOWN_U32 if SOCKET[name].itemsize == 4 else 0
        assert row[name] == (whole[name] if info_end(name) <= known or name == "state" else unknown), name
    assert row["lport"] == whole["lport"]


def test_without_any_attribute(captured: list[bytes]) -> None:
    message = next(m for m in split(captured) if m[17] == State.ESTABLISHED)
    (row,) = diag(with_attributes(message, {}), DONE).dump().sockets
    assert (row["cc"], row["drops"], row["cwnd"], row["bytes_sent"]) == (b"", UNKNOWN_U32, UNKNOWN_U32, 0)


def test_mptcp_is_told_by_the_ulp(captured: list[bytes]) -> None:
    message = next(m for m in split(captured) if m[17] == State.ESTABLISHED)
    found = read_slowly(message)
    for name, expected in ((b"mptcp\0", 1), (b"tls\0", 0), (b"mptc\0", 0)):
        nested = struct.pack("=HH", 4 + len(name), 1) + name + bytes(-len(name) % 4)
        (row,) = diag(with_attributes(message, found | {19: nested}), DONE).dump().sockets
        assert row["mptcp"] == expected


@given(rate=st.integers(0, 10**12), mss=st.integers(536, 65535))
def test_the_rate_survives(captured: list[bytes], rate: int, mss: int) -> None:
    message = next(m for m in split(captured) if len(m) > 88 and m[17] == State.ESTABLISHED)
    found = read_slowly(message)
    info = bytearray(found[2])
    struct.pack_into("=I", info, 16, mss)
    struct.pack_into("=Q", info, 160, rate)
    (row,) = diag(with_attributes(message, found | {2: bytes(info)}), DONE).dump().sockets
    slowest = mss * 1e6 / UNKNOWN_U32  # one segment in 71 minutes
    assert rate_of(row) == pytest.approx(rate, rel=1e-6) if rate > slowest or rate == 0 else rate_of(row) < 2 * slowest


def changed(message: bytes, **fields: int) -> bytes:
    """The message with another state (1 byte at 17), timer (18) or time left (ms, 4 bytes at 68)."""
    data = bytearray(message)
    data[17], data[18] = fields.get("state", data[17]), fields.get("timer", data[18])
    struct.pack_into("=I", data, 68, fields.get("expires", 0))
    return bytes(data)


def test_time_wait_and_syn_recv_are_counted_without_rows(captured: list[bytes]) -> None:
    whole = next(m for m in split(captured) if m[17] == State.ESTABLISHED)
    bare = with_attributes(whole, {})
    waits = [changed(bare, state=State.TIME_WAIT, timer=3), changed(bare, state=State.FIN_WAIT2, timer=3)]
    requests = [changed(bare, state=State.SYN_RECV, timer=1)] * 3
    fake = diag(b"".join([*waits, whole, *requests]), changed(whole, state=State.FIN_WAIT2), DONE)
    dump = fake.dump()
    assert (dump.time_wait, dump.syn_recv, dump.interrupted) == (2, 3, False)
    assert dump.sockets["state"].tolist() == [State.ESTABLISHED, State.FIN_WAIT2]
    assert fake.count_time_wait() == 2


@pytest.mark.parametrize(("expires", "left"), [(200, 200_000), (7_200_000, 7_200_000_000), (0xFFFFFFF0, 0)])
def test_time_left_of_a_timer(captured: list[bytes], expires: int, left: int) -> None:
    message = next(m for m in split(captured) if m[17] == State.ESTABLISHED)
    (row,) = diag(changed(message, timer=2, expires=expires), DONE).dump().sockets
    assert (row["timer"], row["timer_us"]) == (Timer.KEEPALIVE, left)


def test_the_timer_of_a_delayed_ack(captured: list[bytes]) -> None:
    """Its number, 5 of Linux 7.1 and later, is that of a loss probe where a pass over descriptors tells it."""
    message = next(m for m in split(captured) if m[17] == State.ESTABLISHED)
    (row,) = diag(changed(message, timer=5, expires=40), DONE).dump().sockets
    assert (row["timer"], row["timer_us"]) == (Timer.DELACK, 40_000)


@pytest.mark.parametrize("datagrams", [(), (b"",), (b"\0" * 16,), (b"\xff" * 400,), (bytes(70_000),), (DONE[:10],)])
def test_answers_without_sense(datagrams: tuple[bytes, ...]) -> None:
    with pytest.raises(Failed, match="damaged"):
        diag(*datagrams).dump()


def assert_read_or_refused(datagrams: list[bytes]) -> None:
    """Assert that both kinds of questions give rows or a count, or raise an error of ours; no other is raised."""
    with suppress(TcptopError):
        assert diag(*datagrams).dump().sockets.dtype == SOCKET
    with suppress(TcptopError):
        assert diag(*datagrams).count_time_wait() >= 0


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_a_real_dump_with_bytes_changed(captured: list[bytes], data: st.DataObject) -> None:
    whole = bytearray(captured[0][:8000])
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(whole) - 1))
        whole[at] = data.draw(st.integers(0, 255))
    assert_read_or_refused([bytes(whole), *captured[1:]])


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_real_dump_with_headers_changed(captured: list[bytes], data: st.DataObject) -> None:
    """Lengths and types, of messages and attributes: where a reader goes astray."""
    single = [bytearray(message) for message in split(captured)]
    for _ in range(data.draw(st.integers(1, 4))):
        message = data.draw(st.sampled_from(single))
        places = [0, 2, 4, 16, 17, 18, *range(88, len(message) - 1, 4), *range(90, len(message) - 1, 4)]
        at = data.draw(st.sampled_from([place for place in places if place + 2 <= len(message)]))
        struct.pack_into("=H", message, at, data.draw(st.integers(0, 0xFFFF)))
    assert_read_or_refused([b"".join(map(bytes, single[:-1])), bytes(single[-1])])


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_real_dump_cut_and_repeated(captured: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(captured)[:20_000]
    pieces = []
    for _ in range(data.draw(st.integers(1, 5))):
        start, stop = sorted(data.draw(st.tuples(*[st.integers(0, len(whole))] * 2)))
        pieces.append(whole[start:stop])
    assert_read_or_refused(pieces)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=300), max_size=5))
def test_any_bytes(datagrams: list[bytes]) -> None:
    assert_read_or_refused(datagrams)
    assert_read_or_refused([*datagrams, DONE])


def with_info(message: bytes, **fields: int) -> bytes:
    """The message with a struct tcp_info of 280 bytes that has these members: those below, and the last four bytes."""
    found = read_slowly(message)
    info = bytearray(found[2][: INFO.itemsize].ljust(INFO.itemsize, b"\0"))
    info[0], info[5] = fields.get("state", State.ESTABLISHED), fields.get("options", 0)
    struct.pack_into("=I", info, 248, fields.get("received_ce", 0))
    struct.pack_into("=I", info, 276, fields.get("last", 0))
    return with_attributes(changed(message, state=info[0]), found | {2: bytes(info[: fields.get("size", 280)])})


ASKED, SEEN = 8, 16
OLD, PACKED, NO_BTF = False, True, None


@pytest.mark.parametrize(
    ("packs", "fields", "mode", "fail"),
    [
        (OLD, {}, EcnMode.NONE, 0),
        (OLD, {"options": SEEN}, EcnMode.NONE, 0),
        (OLD, {"options": ASKED}, EcnMode.CLASSIC, 0),
        (OLD, {"options": ASKED | SEEN, "last": 2 << 16}, EcnMode.ACCURATE, 0),
        (OLD, {"options": ASKED, "last": 2 << 16 | 5}, EcnMode.ACCURATE, 5),
        (OLD, {"options": ASKED, "state": State.SYN_SENT}, EcnMode.PENDING, 0),
        (OLD, {"options": ASKED, "size": 248}, EcnMode.CLASSIC, 0),
        (NO_BTF, {"options": ASKED, "size": 248}, EcnMode.CLASSIC, 0),
        (NO_BTF, {"options": ASKED}, EcnMode.UNKNOWN, 0),
        (NO_BTF, {}, EcnMode.NONE, 0),
        (PACKED, {}, EcnMode.NONE, 0),
        (PACKED, {"options": ASKED, "last": 1}, EcnMode.CLASSIC, 0),
        (PACKED, {"options": ASKED, "last": 2 | 2 << 2 | 9 << 4}, EcnMode.ACCURATE, 9),
        (PACKED, {"options": ASKED, "last": 3}, EcnMode.PENDING, 0),
        (PACKED, {"options": ASKED, "last": 2 | 0xABCDEF << 8}, EcnMode.ACCURATE, 0),
        (PACKED, {"options": ASKED, "last": 2, "state": State.LISTEN}, EcnMode.UNKNOWN, 0),
    ],
)
@pytest.mark.skipif(sys.byteorder == "big", reason="the bytes are those of a little-endian host")
def test_what_was_agreed_about_ecn(
    captured: list[bytes],
    monkeypatch: pytest.MonkeyPatch,
    packs: bool | None,
    fields: dict[str, int],
    mode: EcnMode,
    fail: int,
) -> None:
    monkeypatch.setattr(kernel_offsets, "packs_ecn", lambda: packs)
    message = next(m for m in split(captured) if len(m) > 88 and m[17] == State.ESTABLISHED)
    (row,) = diag(with_info(message, **fields), DONE).dump().sockets
    assert (row["ecn_mode"], row["ecn_fail"]) == (mode, fail)


@pytest.mark.parametrize(("size", "told"), [(280, 7), (252, 7), (248, UNKNOWN_U32), (244, UNKNOWN_U32)])
def test_marks_that_came(captured: list[bytes], size: int, told: int) -> None:
    message = next(m for m in split(captured) if len(m) > 88 and m[17] == State.ESTABLISHED)
    (row,) = diag(with_info(message, received_ce=7, size=size), DONE).dump().sockets
    assert row["received_ce"] == told
