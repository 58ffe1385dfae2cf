"""What is told of each tick beside who shows it, and how a tick is completed before either sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Protocol

import numpy as np

from tcptop_ops.fate import findings
from tcptop_ops.snapshot import Records, Snapshot
from tcptop_ops.tracker import Flows


class TickObserver(Protocol):
    """Is told of every tick, in the thread that polls: a recorder, a metrics server, a flight recorder.

    What ``observe`` raises ends the monitor, as an error of the source does: an observer that may fail without harm
    to the others catches its own errors and says so in its notes.
    """

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know now; added to the notes of the tick, for whoever shows it."""
        ...

    def observe(self, flows: Flows) -> None:
        """Take note of a tick. Its arrays are the source's, which uses them again: what is kept has to be copied."""
        ...


def complete(flows: Flows, observers: Sequence[TickObserver] = ()) -> Flows:
    """Return the tick with its findings and with the observers' notes, after each observer was told of it, in order.

    The observers get it with its findings, without each other's notes.
    """
    flows = replace(flows, findings=tuple(findings(flows)))
    for observer in observers:
        observer.observe(flows)
    notes = [note for observer in observers for note in observer.notes]
    return with_notes(flows, notes) if notes else flows


def with_notes(flows: Flows, notes: Sequence[str]) -> Flows:
    """Return the tick with these notes after its own."""
    return replace(flows, snapshot=replace(flows.snapshot, notes=(*flows.snapshot.notes, *notes)))


# --- keeping a tick


def copy_flows(flows: Flows) -> Flows:
    """Return the same tick in arrays of its own: a Source uses its arrays again at its second next poll."""
    snapshot = copy_snapshot(flows.snapshot)
    live = replace(flows.live, sockets=snapshot.sockets, events=snapshot.events, owners=snapshot.owners)
    return replace(flows, snapshot=snapshot, live=live)


def copy_snapshot(snapshot: Snapshot) -> Snapshot:
    """Return the same snapshot in arrays and dictionaries of its own."""
    values = {field.name: getattr(snapshot, field.name) for field in fields(snapshot)}
    arrays = {
        name: _copy(np.asarray(value)) for name, value in values.items() if isinstance(value, np.ndarray | np.void)
    }
    names = {name: dict(value) for name, value in values.items() if isinstance(value, Mapping)}
    return Snapshot(**values | arrays | names)


def _copy(records: Records) -> Records:
    """Copy whole rows at once: numpy would copy a record field by field."""
    flat = np.ascontiguousarray(records).reshape(-1)
    whole: Records = flat.view(f"V{flat.itemsize}").copy().view(flat.dtype).reshape(np.shape(records))
    return whole
