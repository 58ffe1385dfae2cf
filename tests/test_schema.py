"""The JSON schema that is shipped is what the table of columns says, and what --json prints is what it says.

``python -m tests.test_schema`` writes the file anew.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tcptop_ops
from tcptop_ops import readers
from tcptop_ops.columns import OUTPUT, Column
from tcptop_ops.diagnosis import CAUSES, LIMITS
from tcptop_ops.filters import NAMES
from tcptop_ops.host_description import HostDescription
from tcptop_ops.operators import OPERATORS
from tcptop_ops.outputs.json_lines import SCHEMA, json_line, totals
from tcptop_ops.snapshot import STATE_NAMES
from tcptop_ops.tracker import Tracker
from tcptop_ops.view import Spec, make
from tests.fakes import BOOT_NS, finals, flow, scrambled, snapshot

FILE = Path(tcptop_ops.__file__).with_name("outputs") / "schema.json"
HOST = HostDescription("box", "6.12.0")
OWN = {"cpu_pct": 0.5, "rss_bytes": 1000, "view_ms": 0.1}

Schema = dict[str, Any]

WHOLE: Schema = {"type": "integer", "minimum": 0}
NUMBER: Schema = {"type": "number", "minimum": 0}
TEXT: Schema = {"type": "string"}


def names_of(column: Column) -> list[str] | None:
    """What a column that holds one of a few names may hold; None: any text."""
    owners = [name.decode() for name in readers._OWNERS.tolist() if name]
    few = NAMES | {
        "cause": tuple(cause.name for cause in CAUSES),
        "limit": tuple(filter(None, LIMITS)),
        "owner": tuple(owners),
    }
    return list(few[column.id]) if column.id in few else None


def of_column(column: Column) -> Schema:
    """Every field may be null. What ``plain`` makes of a number tells which kind of number it is."""
    about = {"description": column.help}
    if not column.right:
        names = names_of(column)
        return about | ({"type": ["string", "null"]} if names is None else {"enum": [*names, None]})
    kind = "integer" if isinstance(column.plain(np.float64(1.5)), int) else "number"
    return about | {"type": [kind, "null"]}


def an_object(properties: dict[str, Schema], about: str = "") -> Schema:
    """All of them are there; more may come."""
    described = {"description": about} if about else {}
    return described | {"type": "object", "required": list(properties), "properties": properties}


def of_totals() -> Schema:
    """``by_state`` has the states that there are."""
    tracker = Tracker()
    found = totals(tracker.update(snapshot(0, [])))
    fields = {name: WHOLE if isinstance(value, int) else NUMBER for name, value in found.items()}
    states = {"type": "object", "propertyNames": {"enum": list(STATE_NAMES.values())}, "additionalProperties": WHOLE}
    return an_object(fields | {"by_state": states}, "sums over the host; rates and counts are of this tick")


def made() -> Schema:
    """The schema, from the tables of columns, of operators, of causes and of states."""
    calls = an_object({operator.name: WHOLE for operator in OPERATORS})
    row = {column.id: of_column(column) for column in OUTPUT} | {
        "evidence": TEXT | {"description": "what speaks for the cause, in words; empty where nothing is wrong"}
    }
    top: dict[str, Schema] = {
        "schema": {"const": SCHEMA},
        "time": {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$"},
        "host": TEXT,
        "kernel": TEXT,
        "source": TEXT | {"description": "sockops or sockdiag; another one's while a recording is played"},
        "callbacks_mode": {"enum": ["all", "every", "events", None]},
        "interval_s": NUMBER | {"description": "since the tick before"},
        "window_s": NUMBER | {"description": "what recent means"},
        "tick": WHOLE,
        "callbacks": {
            "description": "calls since the start; null where no program counts",
            "oneOf": [{"type": "null"}, calls],
        },
        "totals": of_totals(),
        "findings": {"type": "array", "items": an_object({"text": TEXT, "filter": TEXT})},
        "notes": {"type": "array", "items": TEXT},
        "self": an_object({"cpu_pct": NUMBER, "rss_bytes": WHOLE, "view_ms": NUMBER, "poll_ms": NUMBER}),
        "connections": {"type": "array", "items": an_object(row, "a connection; null: the kernel does not tell")},
    }
    about = (
        "A tick of tcptop-ops --json. Fields may be added; none is renamed or removed as long as this is the schema."
    )
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:{SCHEMA.replace('/', ':')}",
        "title": SCHEMA,
    } | an_object(top, about)


def as_text() -> str:
    return json.dumps(made(), indent=1) + "\n"


def validate(tick: Any) -> None:
    """Raises jsonschema.ValidationError."""
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator(json.loads(FILE.read_text())).validate(tick)


def test_the_file_is_what_the_tables_say() -> None:
    assert FILE.read_text() == as_text(), "write it anew: python -m tests.test_schema"


def test_the_schema_is_one() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(json.loads(FILE.read_text()))


def printed(tracker: Tracker, at: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json_line(make(tracker.update(at), Spec()), HOST, OWN))
    return found


def test_a_tick_is_valid() -> None:
    tracker = Tracker()
    tracker.update(snapshot(0, [flow(1)], users={0: "root"}))
    closed = finals([flow(9, states=1 << 9 | 1 << 8)], BOOT_NS + 500_000_000)
    tick = printed(tracker, snapshot(1, [flow(1, backoff=3), flow(2, state=10)], closed=closed, callbacks_mode="all"))
    assert len(tick["connections"]) == 3
    validate(tick)
    validate(printed(tracker, snapshot(2, [], callbacks_mode="")))


def test_a_tick_of_anything_has_the_types_and_the_names() -> None:
    """Sockets of all zeros, all ones and any bits: states that the kernel does not have are null, or are not there."""
    for seed in range(20):
        tracker = Tracker(closed_s=1e9)
        tracker.update(scrambled(5, seed))
        tick = printed(tracker, scrambled(5, seed + 1, 1))
        for row in tick["connections"]:
            assert row.keys() == {column.id for column in OUTPUT} | {"evidence"}
        validate({**tick, "totals": {**tick["totals"], "by_state": {}}})


@pytest.mark.parametrize(
    ("field", "value"),
    [("srtt_us", "1"), ("pid", 1.5), ("state", "ESTABLISHED"), ("process", 3), ("cause", "none"), ("evidence", None)],
)
def test_another_type_or_name_is_refused(field: str, value: Any) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    tick = printed(Tracker(), snapshot(0, [flow(1)]))
    validate(tick)
    tick["connections"][0][field] = value
    with pytest.raises(jsonschema.ValidationError):
        validate(tick)
    del tick["connections"][0][field]
    with pytest.raises(jsonschema.ValidationError):
        validate(tick)


if __name__ == "__main__":
    FILE.write_text(as_text())
