"""A tick as a line of JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

from tcptop_ops import text
from tcptop_ops.diagnosis import evidence
from tcptop_ops.diagnosis.host_readings import readings
from tcptop_ops.explain.operators import OPERATORS
from tcptop_ops.model.flows import Finding, Flows, Totals
from tcptop_ops.model.host_description import HostDescription
from tcptop_ops.views.column_lookup import find
from tcptop_ops.views.column_sets import OUTPUT
from tcptop_ops.views.view import View, make, row_at

SCHEMA = "tcptop-ops/1"
"""What ``schema.json`` describes, and each object names."""


def json_object(view: View, host: HostDescription, own: dict[str, float]) -> dict[str, Any]:
    """Return one tick as the JSON object of the schema. ``own``: what the monitor itself costs.

    It has connections, never groups: putting them together is a reader's own choice.
    """
    flows = view.flows
    snapshot = flows.snapshot
    return {
        "schema": SCHEMA,
        "time": moment(flows),
        "host": text.storable(host.host),
        "kernel": text.storable(host.kernel),
        "source": snapshot.source,
        "callbacks_mode": snapshot.callbacks_mode or None,
        "interval_s": round(flows.seconds, 3),
        "window_s": flows.window_s,
        "tick": flows.tick,
        "callbacks": callbacks(flows),
        "totals": totals(flows),
        "host_counters": host_counters(flows),
        "findings": [finding(one) for one in view.findings],
        "notes": [text.storable(note) for note in snapshot.notes],
        "self": own | {"poll_ms": round(snapshot.poll_s * 1000, 3)},
        "connections": connections(view),
    }


def finding(one: Finding) -> dict[str, Any]:
    """Return a finding as the JSON object of the schema."""
    return {
        "text": text.storable(one.text),
        "filter": text.storable(one.filter),
        "blame": one.blame or None,
        "rows": one.rows,
        "since": rfc3339(one.since),
    }


def moment(flows: Flows) -> str:
    """Return when the tick was: RFC 3339, UTC, to the millisecond."""
    return rfc3339(flows.snapshot.time)


def rfc3339(seconds: float) -> str:
    """Return a time, CLOCK_REALTIME, as RFC 3339, UTC, to the millisecond."""
    told = datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="milliseconds")
    return told.replace("+00:00", "Z")


def callbacks(flows: Flows) -> dict[str, int] | None:
    """Return the calls since the start of each of the fifteen operators; null where no program counts."""
    if not flows.snapshot.callbacks_mode:
        return None
    calls = flows.snapshot.counters["calls"]
    return {operator.name: int(calls[operator.number]) for operator in OPERATORS}


def totals(flows: Flows) -> dict[str, Any]:
    """Return the sums over the host."""
    t: Totals = flows.totals
    counters = flows.snapshot.counters
    return {
        "connections": t.connections,
        "by_state": t.by_state,
        "namespaces": flows.snapshot.namespaces,
        "adopted": int(counters["adopted"]),
        "untracked": int(counters["untracked"]),
        "opened": t.opened,
        "closed": t.closed,
        "retrans_segs": t.retrans_segs,
        "retrans_per_s": round(t.retrans_per_s, 3),
        "rto_events": t.rto_events,
        "rto_per_s": round(t.rto_per_s, 3),
        "tx_bytes_per_s": round(t.tx_bytes_per_s),
        "rx_bytes_per_s": round(t.rx_bytes_per_s),
    }


def host_counters(flows: Flows) -> dict[str, Any]:
    """Return the figures of the host by their names; null where one is not known."""
    return {
        one.figure.name: {
            "value": one.value,
            "per_s": None if one.per_s is None else round(one.per_s, 3),
            "limit": one.limit,
            "netns": one.netns or None,
        }
        for one in readings(flows)
    }


def connections(view: View) -> list[dict[str, Any]]:
    """Return the rows of the view, with every field; of groups their connections."""
    if view.groups is not None:
        view = make(view.flows, replace(view.spec, group="none"))
    missing = view.flows.snapshot.missing
    names = [column.id for column in OUTPUT]
    fields = [
        [None] * len(view) if column.id in missing else [column.plain(value) for value in view.values(column)]
        for column in OUTPUT
    ]
    told = _evidence(view)
    return [
        dict(zip(names, row, strict=True)) | {"evidence": words}
        for row, words in zip(zip(*fields, strict=True), told, strict=True)
    ]


def _evidence(view: View) -> list[str]:
    """Return what speaks for the verdict on each row, in words; "" for most."""
    scores = view.values(find("score"))
    return [evidence.sentence(row_at(view, at), view.flows) if score > 0 else "" for at, score in enumerate(scores)]


def json_line(view: View, host: HostDescription, own: dict[str, float]) -> str:
    """Return one tick as one line of JSON."""
    return json.dumps(json_object(view, host, own), separators=(",", ":")) + "\n"
