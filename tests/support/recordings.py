"""Recordings made of fake snapshots, and what makes two snapshots or two ticks the same."""

from __future__ import annotations

import dataclasses
import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tcptop_ops.model import host_counters
from tcptop_ops.model.enums import State
from tcptop_ops.model.flows import Flows
from tcptop_ops.model.host_description import HostDescription
from tcptop_ops.model.namespace_counters import NETNS
from tcptop_ops.model.records import COUNTERS, HAPPENING, OWNED, SEEN, SOCKET
from tcptop_ops.model.snapshot import Snapshot
from tcptop_ops.outputs.json_lines import json_object
from tcptop_ops.polling.schedule import Clock, PollSchedule
from tcptop_ops.recording import codec
from tcptop_ops.recording.recorder import Recorder, RecordingOptions
from tcptop_ops.tracking.tracker import Tracker
from tcptop_ops.views.view import Spec, make
from tests.support.fakes import FakeSource, finals, flow, scramble, scrambled, snapshot

HOST = HostDescription("web-3", "6.18.0", "0.1.0")


def same(one: Snapshot, other: Snapshot) -> None:
    """Assert that two snapshots are the same, bit for bit; what lies between the fields of a record is nothing."""
    for field in dataclasses.fields(Snapshot):
        here, there = getattr(one, field.name), getattr(other, field.name)
        if isinstance(here, (np.ndarray, np.void)):
            assert np.shape(here) == np.shape(there), field.name
            assert np.asarray(here).dtype == np.asarray(there).dtype, field.name
            one_bytes, other_bytes = (codec.bytes_of(np.asarray(part)).tobytes() for part in (here, there))
            assert one_bytes == other_bytes, field.name
        else:
            assert here == there, field.name


def chaos(seed: int, seconds: float, before: Snapshot | None = None) -> Snapshot:
    """Return arbitrary bits everywhere; some rows are those of the snapshot before, in another order."""
    rng = np.random.default_rng(seed)
    made = scrambled(int(rng.integers(0, 40)), seed, seconds)
    parts: dict[str, Any] = {}
    if before is not None and len(before.sockets):
        stay = rng.permutation(len(before.sockets))[: int(rng.integers(0, 40))]
        parts = {
            name: np.concatenate([getattr(before, name)[stay], getattr(made, name)])
            for name in ("sockets", "events", "owners")
        }
        moved = parts["sockets"][: len(stay) // 2]
        moved["last_sent_us"] += np.uint32(4000)
        moved["bytes_acked"] += np.uint64(10**9)
    counters, seen = np.zeros(1, COUNTERS), np.zeros(2, SEEN)
    story, half_open = np.zeros(int(rng.integers(0, 9)), HAPPENING), np.zeros(int(rng.integers(0, 9)), SOCKET)
    owned, namespaces = np.zeros(len(made.closed), OWNED), np.zeros(int(rng.integers(0, 4)), NETNS)
    host = np.zeros(int(rng.integers(0, 2)), host_counters.HOST)
    for records in (counters, seen, story, half_open, owned, namespaces, host):
        scramble(records, rng)
    return replace(
        made,
        **parts,
        counters=counters.reshape(()),
        seen=seen,
        story=story,
        half_open=half_open,
        namespace_counters=namespaces,
        host_counters=host,
        closed_owners=owned if seed % 2 else None,
        callbacks_mode="all",
        opened=seed,
        missing=frozenset({"cc", "user"}),
        notes=("a note", "\udc80\x1b[2J"),
        users={0: "root", 2**32 - 1: "\udcff"},
        cgroups={seed: f"/a/{seed}"},
        namespace_names={seed: f"net-{seed}"},
        watched=seed,
        poll_s=rng.random(),
    )


def world(seconds: int) -> Snapshot:
    """Return connections that send, lose, time out, come and go."""
    rows = [
        flow(
            cookie,
            bytes_acked=seconds * cookie * 1000,
            segs_out=seconds * 10,
            data_segs_out=seconds * 10,
            retrans_segs=seconds * (cookie % 3),
            rto_events=seconds // 3 * (cookie % 2),
            last_sent_us=4000,
            state=State.ESTABLISHED if cookie + seconds < 30 else State.FIN_WAIT1,
        )
        for cookie in range(1 + seconds, 21 + seconds)
    ]
    ended = finals([flow(seconds, states=1 << State.CLOSE_WAIT)], snapshot(seconds, []).now_ns, error=0)
    counters = np.zeros((), COUNTERS)
    counters["calls"][3] = seconds
    return snapshot(seconds, rows, ended, counters=counters, opened=1, users={0: "root"})


def recording_to(path: Path, **options: Any) -> Recorder:
    """Return a recorder that is open."""
    recorder = Recorder(RecordingOptions(str(path), **options), HOST)
    recorder.open()
    return recorder


def record(path: Path, shots: list[Snapshot], **options: Any) -> tuple[list[Flows], Recorder]:
    """Record these snapshots; return what was live, and the recorder."""
    recorder = recording_to(path, **options)
    source, tracker = FakeSource(shots), Tracker(20.0, 5.0)
    with closing(recorder):
        live = []
        schedule = PollSchedule(source, tracker, Clock(), (recorder,))
        for _ in shots:
            live.append(schedule.tick())
            wait_for_room(recorder)
    return live, recorder


def wait_for_room(recorder: Recorder) -> None:
    """Wait until no tick would be left out, however slow the disk is; a recorder that has ended takes none."""
    while recorder._queue.qsize() > 1 and not recorder._has_ended:
        threading.Event().wait(0.001)


def as_told(flows: Flows) -> Any:
    """Return the JSON of a tick, less what the program costs itself."""
    told = json_object(make(flows, Spec()), HostDescription("h", "k"), {})
    del told["self"]
    return told
