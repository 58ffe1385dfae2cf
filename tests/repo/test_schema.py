"""The JSON schema that is shipped is what the table of columns says, and what --json prints is what it says."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tcptop_ops.bpf.attach import MODES
from tcptop_ops.bpf.load_shedding import LIGHT
from tcptop_ops.model.host_description import HostDescription
from tcptop_ops.outputs.json_lines import json_line
from tcptop_ops.tracking.tracker import Tracker
from tcptop_ops.views.column_sets import OUTPUT
from tcptop_ops.views.view import Spec, make
from tests.support.fakes import BOOT_NS, finals, flow, scrambled, snapshot
from tests.support.json_schema import FILE, as_text, validate

HOST = HostDescription("box", "6.12.0")
OWN = {"cpu_pct": 0.5, "rss_bytes": 1000, "view_ms": 0.1}


def test_the_file_is_what_the_tables_say() -> None:
    assert FILE.read_text() == as_text(), "write it anew: python -m tests.support.json_schema"


def test_the_schema_is_a_valid_one() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    # Raises SchemaError where it is none.
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


@pytest.mark.parametrize("mode", [*MODES, LIGHT])
def test_each_mode_of_the_callbacks_is_valid(mode: str) -> None:
    tick = printed(Tracker(), snapshot(0, [flow(1)], callbacks_mode=mode))
    assert tick["callbacks_mode"] == mode
    validate(tick)


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
