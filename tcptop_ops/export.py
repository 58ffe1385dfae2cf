"""A view as text for a pipe: a plain table, or JSON. Both from the table of columns."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

from tcptop_ops import evidence
from tcptop_ops import format as text
from tcptop_ops.columns import GROUP, OUTPUT, Column, find
from tcptop_ops.operators import OPERATORS
from tcptop_ops.tracker import Flows, Totals
from tcptop_ops.view import View, make, row_at

SCHEMA = "tcptop-ops/1"

WIDEST = 512
"""Characters of a cell: whoever may make a cgroup may give it a path of 4096 bytes, and every line would be as long."""


BETWEEN = "  "
"""Two columns of the table."""


def json_object(view: View, host: dict[str, Any], own: dict[str, float]) -> dict[str, Any]:
    """One tick as the JSON object of the schema. ``host``: host and kernel; ``own``: the monitor's cost.

    It has connections; putting them together is a reader's own choice.
    """
    flows = view.flows
    snapshot = flows.snapshot
    return {
        "schema": SCHEMA,
        "time": moment(flows),
        **{name: text.storable(value) if isinstance(value, str) else value for name, value in host.items()},
        "source": snapshot.source,
        "callbacks_mode": snapshot.callbacks_mode or None,
        "interval_s": round(flows.seconds, 3),
        "window_s": flows.window_s,
        "tick": flows.tick,
        "callbacks": callbacks(flows),
        "totals": totals(flows),
        "findings": [{"text": text.storable(one.text), "filter": one.filter} for one in flows.findings],
        "notes": [text.storable(note) for note in snapshot.notes],
        "self": own | {"poll_ms": round(snapshot.poll_s * 1000, 3)},
        "connections": connections(view),
    }


def moment(flows: Flows) -> str:
    """When the tick was: RFC 3339, UTC, to the millisecond."""
    told = datetime.fromtimestamp(flows.snapshot.time, timezone.utc).isoformat(timespec="milliseconds")
    return told.replace("+00:00", "Z")


def callbacks(flows: Flows) -> dict[str, int] | None:
    """Calls since the start of each of the fifteen operators; null where no program counts."""
    if not flows.snapshot.callbacks_mode:
        return None
    calls = flows.snapshot.counters["calls"]
    return {operator.name: int(calls[operator.number]) for operator in OPERATORS}


def totals(flows: Flows) -> dict[str, Any]:
    """Sums over the host."""
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


def connections(view: View) -> list[dict[str, Any]]:
    """The rows of the view, every field; of groups their connections."""
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
    """What speaks for the verdict on each row; most have none."""
    scores = view.values(find("score"))
    return [evidence.sentence(row_at(view, at), view.flows) if score > 0 else "" for at, score in enumerate(scores)]


def json_line(view: View, host: dict[str, Any], own: dict[str, float]) -> str:
    """One tick as one line of JSON."""
    return json.dumps(json_object(view, host, own), separators=(",", ":")) + "\n"


def table(view: View, width: int | None) -> str:
    """One tick as a plain table of at most ``width`` characters a line (None: as wide as the columns).

    A group is a line, with its name and how many connections it has before all other columns. The columns that do not
    fit are left out, from the right: half a number would be another number. A word may be cut at the edge.
    """
    columns = view.spec.columns
    cells = [_cells(view, column) for column in columns]
    if view.groups is not None:
        names = [text.shorten(title, WIDEST) for title in group_titles(view)]
        counts = [find("connections").show(value) for value in view.values(GROUP)]
        columns, cells = (GROUP, find("connections"), *columns), [names, counts, *cells]
    widths = [max(map(len, [column.title.split(" ")[0], *body])) for column, body in zip(columns, cells, strict=True)]
    columns = columns[: _fitting(columns, widths, width)]
    lines = [heading(view.flows), _line([c.title.split(" ")[0] for c in columns], columns, widths)]
    lines += [_line(list(row), columns, widths) for row in zip(*cells[: len(columns)], strict=True)]
    return "".join(line.rstrip()[:width] + "\n" for line in lines) + "\n"


def _fitting(columns: tuple[Column, ...], widths: list[int], width: int | None) -> int:
    """How many of the columns fit; one at least."""
    edge = -len(BETWEEN)
    for number, (column, wide) in enumerate(zip(columns, widths, strict=True)):
        begin = edge + len(BETWEEN)
        edge = begin + wide
        if width is not None and edge > width:
            is_cut = not column.right and begin + len(column.title.split(" ")[0]) <= width
            return max(number + is_cut, 1)
    return len(columns)


def _cells(view: View, column: Column) -> list[str]:
    if column.id in view.flows.snapshot.missing:
        return [text.UNKNOWN] * len(view)
    shows = [column.show if entry >= 0 else column.show_of_group for entry in view.order.tolist()]
    return [text.shorten(show(value), WIDEST) for show, value in zip(shows, view.values(column), strict=True)]


def group_titles(view: View) -> list[str]:
    """Of groups; a connection has none."""
    numbers = [view.group_at(position) for position in range(len(view))]
    return ["" if view.groups is None or number is None else view.groups.title(number) for number in numbers]


def _line(cells: list[str], columns: tuple[Column, ...], widths: list[int]) -> str:
    shown = zip(cells[: len(columns)], columns, widths[: len(columns)], strict=True)
    return BETWEEN.join(cell.rjust(width) if column.right else cell.ljust(width) for cell, column, width in shown)


def heading(flows: Flows) -> str:
    """One line about the tick."""
    t = flows.totals
    clock = datetime.fromtimestamp(flows.snapshot.time).astimezone().strftime("%H:%M:%S")
    states = " ".join(f"{name} {count}" for name, count in t.by_state.items())
    return (
        f"{clock} {flows.snapshot.source} | {t.connections} sockets | {states} | retr {text.si(t.retrans_per_s)}/s"
        f" RTO {text.si(t.rto_per_s)}/s | tx {text.si(t.tx_bytes_per_s)}B/s rx {text.si(t.rx_bytes_per_s)}B/s"
    )
