"""The window against one that keeps every sample whole."""

from __future__ import annotations

from collections import deque

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tcptop_ops.model.counters import COUNTED
from tcptop_ops.model.records import Records
from tcptop_ops.tracking.window import SAMPLES, Window

W = 10.0
SLOTS = 4


class Whole:
    """A row of all slots for each sample. ``since``: when the oldest was taken."""

    def __init__(self) -> None:
        self.rows: deque[tuple[float, Records]] = deque()
        self.bare = np.zeros(SLOTS, COUNTED)

    def begin(self, slot: int, counters: Records) -> None:
        for row in (self.bare, *(row for _, row in self.rows)):
            row[slot] = counters[0]

    def since(self, now: float) -> float:
        while len(self.rows) > 1 and self.rows[0][0] < now - W - 1e-6:
            self.rows.popleft()
        return self.rows[0][0] if self.rows else now

    def oldest(self) -> Records:
        return self.rows[0][1] if self.rows else self.bare

    def sample(self, live: list[int], counters: Records, now: float) -> None:
        if self.rows and now - self.rows[-1][0] < W / (SAMPLES - 1) - 1e-6:
            return
        if len(self.rows) == SAMPLES:
            self.rows.popleft()
        row = (self.rows[-1][1] if self.rows else self.bare).copy()
        row[live] = counters
        self.rows.append((now, row))


def counters(values: list[int]) -> Records:
    found = np.zeros(len(values), COUNTED)
    found["retrans_segs"] = values
    found["retrans_calls"] = [value // 2 for value in values]
    return found


STEP = st.tuples(
    st.sampled_from([0.1, 0.5, 1.0, 1.0, 3.0, 11.0]),  # seconds since the last tick
    st.sets(st.integers(0, SLOTS - 1)),  # slots that begin another life
    st.lists(st.integers(0, 3), min_size=SLOTS, max_size=SLOTS),  # by how much each grows
)


@given(st.lists(STEP, max_size=60))
def test_a_window_tells_what_whole_samples_tell(steps: list[tuple[float, set[int], list[int]]]) -> None:
    window, whole = Window(W), Whole()
    window.resize(2)
    window.resize(SLOTS)
    values, live, now = [0] * SLOTS, set[int](), 100.0
    for passed, born, grown in steps:
        now += passed
        for slot in born:
            values[slot] = grown[slot]
            window.begin(np.array([slot]), counters([grown[slot]]))
            whole.begin(slot, counters([grown[slot]]))
        live |= born
        values = [value + more for value, more in zip(values, grown, strict=True)]
        slots = sorted(live)
        current = counters([values[slot] for slot in slots])
        assert window.since(now) == whole.since(now)
        told = window.growth(np.array(slots, np.intp), current)
        wanted = current["retrans_segs"] - whole.oldest()["retrans_segs"][slots]
        assert told[:, 0].tolist() == wanted.tolist()
        assert window.oldest[slots].tolist() == whole.oldest()[slots].tolist()
        window.sample(np.array(slots, np.intp), current, now)
        whole.sample(slots, current, now)
