"""What is told of each tick beside who shows it, and how a tick is completed before either sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from tcptop_ops.diagnosis.findings.memory import FindingsMemory
from tcptop_ops.model.flows import Flows


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


def complete(flows: Flows, memory: FindingsMemory, observers: Sequence[TickObserver] = ()) -> Flows:
    """Return the tick with its findings and with the observers' notes, after each observer was told of it, in order.

    The observers get it with its findings, without each other's notes. ``memory``: of the ticks before.
    """
    flows = memory.complete(flows)
    for observer in observers:
        observer.observe(flows)
    notes = [note for observer in observers for note in observer.notes]
    return with_notes(flows, notes) if notes else flows


def with_notes(flows: Flows, notes: Sequence[str]) -> Flows:
    """Return the tick with these notes after its own."""
    return replace(flows, snapshot=replace(flows.snapshot, notes=(*flows.snapshot.notes, *notes)))
