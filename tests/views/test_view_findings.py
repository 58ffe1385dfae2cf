"""The findings of a view: of all rows, or of those that its filter lets through."""

from __future__ import annotations

from dataclasses import replace

from tcptop_ops.diagnosis.findings.memory import FindingsMemory
from tcptop_ops.filters import compiler
from tcptop_ops.model.enums import State
from tcptop_ops.views.view import Spec, make
from tests.support.bad_rows import Row, row, tick


def failing(name: bytes, port: int) -> list[Row]:
    return [row("syn-unanswered", state=State.SYN_SENT, peer=("10.0.0.5", port), name=name, pid=port)] * 4


FLOWS = FindingsMemory().complete(tick(failing(b"app", 80) + failing(b"job", 25)))


def names(filter: str | None, group: str = "none") -> list[str]:
    spec = Spec(filter=None if filter is None else compiler.compile(filter), group=group)
    return sorted(one.text.split()[0] for one in make(FLOWS, spec).findings)


def test_without_a_filter_they_are_those_of_the_tick() -> None:
    assert make(FLOWS, Spec()).findings is FLOWS.findings
    assert names(None) == ["app", "job"]


def test_with_one_they_are_of_its_rows_in_groups_too() -> None:
    assert names("process = job") == names("process = job", "process") == ["job"]
    assert names("port = 443") == []


def test_since_when_is_known_there_too() -> None:
    told = {one.key: 1000.0 for one in FLOWS.findings}
    assert FLOWS.bad is not None
    flows = replace(FLOWS, bad=replace(FLOWS.bad, told_since=told))
    [one] = make(flows, Spec(filter=compiler.compile("process = job"))).findings
    assert one.since == 1000.0


def test_of_a_tick_that_nobody_completed() -> None:
    flows = replace(FLOWS, bad=None, findings=())
    [one] = make(flows, Spec(filter=compiler.compile("process = job"))).findings
    assert one.rows == 4
