"""A frame gives back every bit, and takes little room."""

from __future__ import annotations

import json
import zlib
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from tcptop_ops.model.records import UNKNOWN_U64
from tcptop_ops.model.snapshot import Snapshot
from tcptop_ops.recording import codec
from tests.support.fakes import flow, snapshot
from tests.support.recordings import chaos, same


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 2**31), min_size=1, max_size=6))
def test_a_frame_gives_back_every_bit(seeds: list[int]) -> None:
    before: Snapshot | None = None
    replayed: Snapshot | None = None
    for at, seed in enumerate(seeds):
        now = chaos(seed, float(at), before)
        replayed = codec.decode(codec.encode(now, before), replayed)
        same(replayed, now)
        before = now


def test_a_frame_from_before_namespaces_had_names() -> None:
    now = snapshot(0, [flow(1)], namespace_names={4: "web"})
    frame = codec.encode(now)
    assert codec.decode(frame).namespace_names == {4: "web"}
    unpacked = zlib.decompress(frame)
    end = 4 + int.from_bytes(unpacked[:4], "little")
    head = json.loads(unpacked[4:end])
    del head["namespace_names"]
    older = json.dumps(head).encode()
    replayed = codec.decode(zlib.compress(len(older).to_bytes(4, "little") + older + unpacked[end:]))
    same(replayed, replace(now, namespace_names={}))


def test_rows_that_did_not_change_take_no_room() -> None:
    """Time that passes is no change."""
    many = [
        flow(
            cookie,
            last_sent_us=cookie * 4_000_000,
            last_received_us=UNKNOWN_U64,
            last_ack_received_us=4,
            timer_us=10**10,
        )
        for cookie in range(1, 2001)
    ]
    before = snapshot(0, many)
    later = [
        fields
        | {"last_sent_us": fields["last_sent_us"] + 1_000_000, "timer_us": fields["timer_us"] - 1_000_000}
        | {"last_ack_received_us": 1_000_004}
        for fields in many
    ]
    assert len(codec.encode(snapshot(1, later), before)) < 300
    later[7]["bytes_acked"] = 77
    one = codec.encode(snapshot(1, later), before)
    same(codec.decode(one, before), snapshot(1, later))


def test_a_step_that_32_bits_have_no_room_for() -> None:
    """An hour between two frames: every bit comes back all the same."""
    before, after = snapshot(0, [flow(1, last_sent_us=4_000)]), snapshot(3600, [flow(1, last_sent_us=3_600_004_000)])
    same(codec.decode(codec.encode(after, before), before), after)
