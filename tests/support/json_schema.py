"""The JSON schema, made of the tables of columns, operators, causes and states.

``python -m tests.support.json_schema`` writes the file anew.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

import tcptop_ops
from tcptop_ops.bpf.attach import MODES
from tcptop_ops.bpf.load_shedding import LIGHT
from tcptop_ops.diagnosis.cause import Blame
from tcptop_ops.diagnosis.host_figures import FIGURES
from tcptop_ops.diagnosis.rules import CAUSES
from tcptop_ops.diagnosis.verdict import LIMITS
from tcptop_ops.explain.operators import OPERATORS
from tcptop_ops.filters.compiler import IDENTITIES, NAMES
from tcptop_ops.model.enums import STATE_NAMES
from tcptop_ops.outputs.json_lines import SCHEMA, totals
from tcptop_ops.tracking.tracker import Tracker
from tcptop_ops.views import column_readers
from tcptop_ops.views.column import Column
from tcptop_ops.views.column_sets import OUTPUT
from tests.support.fakes import snapshot

FILE = Path(tcptop_ops.__file__).with_name("outputs") / "schema.json"

Schema = dict[str, Any]

WHOLE: Schema = {"type": "integer", "minimum": 0}
NUMBER: Schema = {"type": "number", "minimum": 0}
TEXT: Schema = {"type": "string"}
MOMENT: Schema = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$"}


def names_of(column: Column) -> list[str] | None:
    """Return the names that a column is limited to; None: it holds any text."""
    owners = [name.decode() for name in column_readers._OWNERS.tolist() if name]
    few = NAMES | {
        "cause": tuple(cause.name for cause in CAUSES),
        "limit": tuple(filter(None, LIMITS)),
        "owner": tuple(owners),
    }
    return list(few[column.id]) if column.id in few else None


def of_column(column: Column) -> Schema:
    """Return the schema of a field: each may be null.

    What ``plain`` makes of a number tells which kind of number it is. Its bounds are those of the column: no number
    that stands for "not known" lies between them.
    """
    about = {"description": column.help}
    if not column.right:
        names = names_of(column)
        return about | ({"type": ["string", "null"]} if names is None else {"enum": [*names, None]})
    if not column.is_number and column.id in IDENTITIES:
        return about | {"type": ["integer", "null"], "minimum": 1}
    if isinstance(column.plain(np.float64(1.5)), int):
        return about | {"type": ["integer", "null"], "minimum": int(column.least), "maximum": int(column.most)}
    return about | {"type": ["number", "null"], "minimum": column.least, "maximum": column.most}


def an_object(properties: dict[str, Schema], about: str = "") -> Schema:
    """Return the schema of an object: all of the properties are required, more may come."""
    described = {"description": about} if about else {}
    return described | {"type": "object", "required": list(properties), "properties": properties}


def of_totals() -> Schema:
    """Return the schema of the totals: ``by_state`` has the states that there are."""
    tracker = Tracker()
    found = totals(tracker.update(snapshot(0, [])))
    fields = {name: WHOLE if isinstance(value, int) else NUMBER for name, value in found.items()}
    states = {"type": "object", "propertyNames": {"enum": list(STATE_NAMES.values())}, "additionalProperties": WHOLE}
    return an_object(fields | {"by_state": states}, "sums over the host; rates and counts are of this tick")


def of_finding() -> Schema:
    """Return the schema of a finding."""
    about = {
        "text": TEXT | {"description": "what is wrong, with which connections"},
        "filter": TEXT | {"description": "shows these connections, as --filter and on the screen"},
        "blame": {"description": "whose fault it is; null: not known", "enum": [*get_args(Blame), None]},
        "rows": WHOLE | {"description": "how many connections the filter shows"},
        "since": MOMENT | {"description": "when the first of them was seen bad"},
    }
    return an_object(about, "a fault that several connections share, or that a listener has; the gravest come first")


def of_host_counters() -> Schema:
    """Return the schema of the figures of the host."""
    about = "the host as a whole; null: not known here. per_s: of counters, over the window; netns: where it is most"
    whole = {"type": ["integer", "null"], "minimum": 0}
    fields: dict[str, Schema] = {
        "value": whole | {"description": "now; of a counter since the first tick"},
        "per_s": {"type": ["number", "null"], "minimum": 0},
        "limit": whole,
        "netns": whole,
    }
    figures = {figure.name: an_object(fields, f"{figure.means} ({figure.source})") for figure in FIGURES}
    return an_object(figures, about)


def made() -> Schema:
    """Return the schema, from the tables of columns, of operators, of causes and of states."""
    calls = an_object({operator.name: WHOLE for operator in OPERATORS})
    row = {column.id: of_column(column) for column in OUTPUT} | {
        "evidence": TEXT | {"description": "what speaks for the cause, in words; empty where nothing is wrong"}
    }
    top: dict[str, Schema] = {
        "schema": {"const": SCHEMA},
        "time": MOMENT,
        "host": TEXT,
        "kernel": TEXT,
        "source": TEXT | {"description": "sockops or sockdiag; another one's while a recording is played"},
        "callbacks_mode": {
            "description": "as --callbacks; light: so many connections come that new ones are asked for events alone; "
            "null: no program",
            "enum": [*MODES, LIGHT, None],
        },
        "interval_s": NUMBER | {"description": "since the tick before"},
        "window_s": NUMBER | {"description": "what recent means"},
        "tick": WHOLE,
        "callbacks": {
            "description": "calls since the start; null where no program counts",
            "oneOf": [{"type": "null"}, calls],
        },
        "totals": of_totals(),
        "host_counters": of_host_counters(),
        "findings": {"type": "array", "items": of_finding()},
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
    """Return what the file has to be."""
    return json.dumps(made(), indent=1) + "\n"


def validate(tick: Any) -> None:
    """Assert that a tick is as the file says. Raises jsonschema.ValidationError."""
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator(json.loads(FILE.read_text())).validate(tick)


if __name__ == "__main__":
    FILE.write_text(as_text())
