"""What holds whatever the rows are."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tcptop_ops.diagnosis.findings.tell import findings
from tcptop_ops.diagnosis.rules import CAUSES, RULES
from tcptop_ops.filters import compiler
from tcptop_ops.model.enums import Direction, State
from tcptop_ops.tracking.tracker import Tracker
from tests.support.bad_rows import NUMBER, Row, check, narrowed, row, shown_by, tick
from tests.support.fakes import scrambled


@given(st.integers(0, 2**32 - 1))
def test_any_rows_make_findings_that_can_be_filtered_by(seed: int) -> None:
    made = scrambled(60, seed, 0)
    made.sockets["cookie"] = np.arange(60)
    flows = Tracker().update(made)
    flows.live.rates["score"] = 50
    flows.live.rates["cause"][:30] = NUMBER["loss"]
    flows.live.rates["cause"][30:] = np.arange(30) % len(CAUSES)
    flows.live.rates["win"]["data_segs_out"] = 9
    for found in findings(flows):
        assert compiler.compile(found.filter).text
        assert found.text.isprintable()


ADDRESSES = st.sampled_from(["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.7.1", "2001:db8::1", "2001:db8::2", "127.0.0.1"])
STATES = st.sampled_from([State.ESTABLISHED, State.SYN_SENT, State.CLOSE_WAIT, State.LISTEN])


@st.composite
def rows_alike(draw: st.DrawFn) -> list[Row]:
    """Some rows that have all but their cookies in common."""
    state = draw(STATES)
    port = 0 if state == State.LISTEN else draw(st.sampled_from([80, 443]))
    fields = {
        "state": state,
        "peer": ("0.0.0.0" if state == State.LISTEN else draw(ADDRESSES), port),
        "local": ("10.0.0.9", draw(st.sampled_from([80, 5000]))),
        "direction": Direction.LISTEN
        if state == State.LISTEN
        else draw(st.sampled_from([Direction.IN, Direction.OUT])),
        "netns": draw(st.sampled_from([1, 2])),
        "pid": draw(st.sampled_from([0, 7, 8])),
        "name": draw(st.sampled_from([b"", b"app", b"two words"])),
    }
    if draw(st.booleans()):
        fields["closed"] = draw(st.sampled_from([1.0, 59.0, 70.0]))
    cause = draw(st.sampled_from(["healthy", "healthy", *(rule.name for rule in RULES)]))
    score = 0.0 if cause == "healthy" else draw(st.sampled_from([5.0, 20.0, 60.0]))
    return [row(cause, score, **fields)] * draw(st.integers(1, 12))


@given(st.lists(rows_alike(), max_size=9), st.sampled_from(["", "port = 443", "pid = 7 or host = 10.0.0.1"]))
@settings(deadline=None)
def test_each_filter_shows_the_rows_of_its_finding(parts: list[list[Row]], filter: str) -> None:
    flows = tick([one for part in parts for one in part])
    told = list(findings(flows, narrowed(flows, filter) if filter else None))
    check(flows, told)
    if filter:
        wanted = narrowed(flows, filter).wanted
        cookies = np.concatenate([flows.live.sockets["cookie"], flows.closed.sockets["cookie"]])
        for one in told:
            assert shown_by(flows, one.filter) <= set(cookies[wanted].tolist())


@given(st.lists(rows_alike(), max_size=9))
def test_happy_rows_make_none(parts: list[list[Row]]) -> None:
    rows = [one | {"cause": "healthy", "score": 0.0} for part in parts for one in part]
    assert findings(tick(rows)) == ()
