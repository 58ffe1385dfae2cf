"""Closed rows that stay listed for a while, and those that may be listed again. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.diagnosis import rules
from tcptop_ops.diagnosis.attempts import Attempts
from tcptop_ops.diagnosis.connecting import UNANSWERED_SCORE
from tcptop_ops.diagnosis.rules import LINGERING_SCORE
from tcptop_ops.model.enums import State
from tcptop_ops.model.flows import RATES, Rows, empty
from tcptop_ops.model.records import FINAL, OWNED, Records
from tcptop_ops.tracking.per_second import at_rest

BAD_CLOSED_S = 60.0
"""How long a closed row stays listed whose score is LINGERING_SCORE or more."""


MAX_LINGERING = 200_000
"""Most closed rows that are kept; the oldest are dropped first."""


class Lingering:
    """The rows that closed lately, those of a tick together."""

    def __init__(self, closed_s: float, attempts: Attempts) -> None:
        """Begin with none. ``closed_s``: how long they stay, seconds; ``attempts`` judges those that were given up."""
        self._closed_s = closed_s
        self._attempts = attempts
        self._parts: deque[Rows] = deque()

    @property
    def records(self) -> list[tuple[Records, Records]]:
        """SOCKET and EVENTS rows of those that are kept."""
        return [(part.sockets, part.events) for part in self._parts]

    def update(self, ended: Rows, now_ns: int) -> Rows:
        """Keep these closed rows, drop those whose time is over or that are too many, and return what is listed."""
        if len(ended):
            self._parts.append(ended)
        parts = (self._judged_again(part) for part in self._parts)
        self._parts = deque(rest for part in parts if len(rest := self._still_kept(part, now_ns)))
        while (excess := sum(map(len, self._parts)) - MAX_LINGERING) > 0:
            oldest = self._parts.popleft()
            if len(oldest) > excess:
                self._parts.appendleft(oldest.take(np.arange(excess, len(oldest))))
        return self._closed_rows(now_ns)

    def _judged_again(self, part: Rows) -> Rows:
        """Judge the attempts that were given up by what came of others, which may end later than they."""
        failed, lost = self._attempts.judged(part)
        unanswered = part.rates["cause"] == rules.SYN_UNANSWERED
        failed &= ~unanswered & ((part.rates["cause"] == rules.IDLE) | (part.rates["cause"] == rules.HEALTHY))
        lost &= unanswered
        if not (failed.any() or lost.any()):
            return part
        rates = part.rates.copy()
        rates["cause"][failed], rates["score"][failed] = rules.SYN_UNANSWERED, UNANSWERED_SCORE
        rates["cause"][lost], rates["score"][lost] = rules.IDLE, 0.0
        return replace(part, rates=rates)

    def _still_kept(self, part: Rows, now_ns: int) -> Rows:
        """Return the closed rows that are to stay listed, or may be again: attempts of which others will tell more."""
        assert part.endings is not None
        keep = self._is_shown(part, now_ns)
        if self._closed_s > 0:
            young = part.endings["from_state"] == State.SYN_SENT
            keep |= young & (now_ns - part.endings["end_ns"].astype("f8") < BAD_CLOSED_S * 1e9)
        return part if keep.all() else part.take(keep)

    def _is_shown(self, part: Rows, now_ns: int) -> NDArray[np.bool_]:
        assert part.endings is not None
        closed_s = (now_ns - part.endings["end_ns"].astype("f8")) / 1e9
        shown: NDArray[np.bool_] = closed_s < self._closed_s
        if self._closed_s > 0:
            shown |= (part.rates["score"] >= LINGERING_SCORE) & (closed_s < BAD_CLOSED_S)
        return shown

    def _closed_rows(self, now_ns: int) -> Rows:
        shown = [(part, self._is_shown(part, now_ns)) for part in self._parts]
        parts = [part if which.all() else part.take(which) for part, which in shown if which.any()]
        if not parts:
            return nothing_closed()
        closed = Rows(
            np.concatenate([p.sockets for p in parts]),
            np.concatenate([p.events for p in parts]),
            np.concatenate([p.owners for p in parts]),
            np.concatenate([p.rates for p in parts]),
            np.concatenate([p.endings for p in parts if p.endings is not None]),
        )
        self._parts = deque([replace(p, rates=at_rest(p.rates)) for p in self._parts])
        return closed


def nothing_closed() -> Rows:
    """Return closed rows, none of them."""
    final = np.zeros(0, FINAL)
    return Rows(final["socket"], final["events"], empty(OWNED), empty(RATES), final["ending"])
