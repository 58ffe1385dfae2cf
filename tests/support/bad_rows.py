"""Made-up ticks with bad rows, and what is checked of every finding."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from tcptop_ops.diagnosis.findings.memory import FindingsMemory
from tcptop_ops.diagnosis.findings.tell import Narrowed, findings
from tcptop_ops.diagnosis.rules import CAUSES
from tcptop_ops.filters import compiler
from tcptop_ops.model.enums import State
from tcptop_ops.model.flows import Finding, Flows
from tcptop_ops.tracking.tracker import Tracker
from tests.support.fakes import BOOT_NS, finals, flow, snapshot

NUMBER = {cause.name: number for number, cause in enumerate(CAUSES)}

START = 100.0
"""Second of the tick."""

Row = dict[str, Any]


def row(cause: str = "healthy", score: float | None = None, **fields: Any) -> Row:
    """A live row with this verdict; ``closed``: so many seconds ago, as a closed one; ``began``: alike."""
    usual = 0.0 if cause in ("healthy", "idle") else 60.0
    return {"cause": cause, "score": usual if score is None else score, "pid": 0, "name": b""} | fields


def tick(rows: list[Row], **rest: Any) -> Flows:
    """A tick with these rows; bad ones lost 5 of 100 segments, the others none."""
    made = [flow(number, **fields) for number, fields in enumerate(rows, 1)]
    for one in made:
        one["first_ns"] = BOOT_NS + int((START - one.pop("began", 50.0)) * 1e9)
    ended = [one for one in made if "closed" in one]
    live = [one for one in made if "closed" not in one]
    tracker = Tracker(closed_s=1000)
    tracker.update(snapshot(START - 1, []))
    final = finals(ended, 0)
    for at, one in enumerate(ended):
        final["ending"]["end_ns"][at] = BOOT_NS + int((START - one["closed"]) * 1e9)
        final["ending"]["from_state"][at] = one["state"]
    flows = tracker.update(snapshot(START, live, final, **rest))
    assert len(flows.closed) == len(ended)
    closed = flows.closed
    closed.owners["name"], closed.owners["pid"] = [one["name"] for one in ended], [one["pid"] for one in ended]
    for part, listed in ((flows.live, live), (flows.closed, ended)):
        rates = part.rates
        rates["cause"] = [NUMBER[one["cause"]] for one in listed]
        rates["score"] = [one["score"] for one in listed]
        rates["state_s"] = [one.get("state_s", 1.0) for one in listed]
        rates["reset_by"] = [one.get("reset_by", 0) for one in listed]
        rates["listener"] = [one.get("listener", 0) for one in listed]
        rates["win_s"] = 20.0
        rates["win"]["drops"] = [one.get("dropped", 0) for one in listed]
        stood = [one["state"] not in (State.SYN_SENT, State.LISTEN) for one in listed]
        rates["win"]["data_segs_out"] = np.where(stood, 100, 0)
        rates["win"]["retrans_segs"] = [5 * (one["score"] > 0) for one in listed]
    return flows


def shown_by(flows: Flows, filter: str) -> set[int]:
    """Return the cookies of the rows that a filter lets through."""
    wanted = compiler.compile(filter)
    parts = [part.sockets["cookie"][wanted.mask(part, flows)].tolist() for part in (flows.live, flows.closed)]
    return {int(cookie) for part in parts for cookie in part}


def narrowed(flows: Flows, filter: str) -> Narrowed:
    """Return a user's filter, applied."""
    wanted = compiler.compile(filter)
    return Narrowed(np.concatenate([wanted.mask(part, flows) for part in (flows.live, flows.closed)]), filter)


def found(rows: list[Row], filter: str = "", **rest: Any) -> list[Finding]:
    """Return the findings of a tick of these rows, each of which has been checked."""
    flows = tick(rows, **rest)
    told = list(findings(flows, narrowed(flows, filter) if filter else None))
    check(flows, told)
    return told


def check(flows: Flows, told: list[Finding]) -> None:
    """Assert what holds of all findings: each one's filter shows its rows, and no row is in two of them."""
    seen: set[int] = set()
    for one in told:
        assert one.text.isprintable()
        shown = shown_by(flows, one.filter)
        assert len(shown) == one.rows, (one, shown)
        assert not shown & seen, one
        seen |= shown
    assert len({one.key for one in told}) == len(told)


def texts(rows: list[Row], filter: str = "", **rest: Any) -> list[str]:
    """Return the findings of these rows in words."""
    return [one.text for one in found(rows, filter, **rest)]


def remembered(memory: FindingsMemory, rows: list[Row], second: float) -> tuple[Finding, ...]:
    """Return the findings of these rows in the tick of this second."""
    flows = tick(rows)
    return memory.complete(replace(flows, snapshot=replace(flows.snapshot, time=second))).findings
