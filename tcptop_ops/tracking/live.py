"""The live rows of a tick: their rates, growth and verdicts, worked out for those in which something goes on.

A row is at rest if it is not among ``Snapshot.changed`` and nothing that was worked out of it can change by itself: see
``stirs``. Of such a row the last tick's rates stand, but for what grows with time: ``win_s``, ``fresh``, ``state_s``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.diagnosis import rules, verdict
from tcptop_ops.diagnosis.case import Case, Everyone
from tcptop_ops.diagnosis.memory import (
    established_late,
    notice_disorder,
    notice_unread,
    remember,
    stall_us,
)
from tcptop_ops.diagnosis.path_mtu import fill_rates
from tcptop_ops.model.arrays import Mask, gather, scatter
from tcptop_ops.model.flows import Rows
from tcptop_ops.model.pairs import Pairs
from tcptop_ops.model.records import Records
from tcptop_ops.model.snapshot import Snapshot
from tcptop_ops.tracking.known import Counts, Known
from tcptop_ops.tracking.partners import Partners
from tcptop_ops.tracking.per_second import fill_per_second
from tcptop_ops.tracking.queued_at import listeners_of, waited_for
from tcptop_ops.tracking.rates_in_turn import RatesInTurn
from tcptop_ops.tracking.resting import stirs
from tcptop_ops.tracking.slots import Slots
from tcptop_ops.tracking.window import words

MOSTLY = 0.6
"""Share of the rows from which on all are worked out: it costs no more than to pick out those."""

Indices = NDArray[np.intp]


class Times(NamedTuple):
    """When ticks were: CLOCK_MONOTONIC, ns. ``before_ns`` is 0 at the first; ``seconds``: since the last tick."""

    start_ns: int
    before_ns: int
    now_ns: int
    seconds: float
    window_s: float = 0.0  # the begin of W, seconds

    @property
    def now_s(self) -> float:
        """This tick, seconds."""
        return self.now_ns / 1e9


class Live(NamedTuple):
    """The live rows of a tick."""

    rows: Rows
    order: Indices  # indices that sort them by cookie
    pairs: Pairs
    stirred: Indices  # indices of the rows that were worked out, rising
    matching: Indices  # of those that a rule matches
    over: Indices  # of those whose cause is an earlier tick's

    @property
    def stirred_rows(self) -> Rows:
        """The rows that were worked out."""
        return self.rows if len(self.stirred) == len(self.rows) else self.rows.take(self.stirred)


class _Part(NamedTuple):
    """The rows that are worked out, side by side."""

    which: Indices  # their indices, rising
    slots: Indices
    sockets: Records
    events: Records
    states: NDArray[np.uint8]
    pairs: Pairs  # indices into these rows
    owners: Records  # of all rows of the tick


class LiveRows:
    """Works out the live rows of one tick after the other. ``known``: what is remembered of them."""

    def __init__(self, known: Known) -> None:
        """Begin before the first tick."""
        self._known = known
        self.slots = Slots()
        self.partners = Partners()
        self._rates = RatesInTurn()
        self._partner = np.zeros(0, np.intp)
        self._states = np.zeros(0, "u1")
        self._state_s = self._since_s = np.zeros(0, "f8")
        self._is_first = True

    def update(self, snapshot: Snapshot, times: Times, net_of: Records, listened: Records) -> Live:
        """Return the live rows of this tick. ``net_of``, ``listened``: as a Case has them."""
        known, sockets, events = self._known, snapshot.sockets, snapshot.events
        times = times._replace(window_s=known.window.since(times.now_s))
        new = self.slots.assign(sockets["cookie"])
        self._make_room()
        slots, before = self.slots.of_rows, self.slots.before
        changed = None if self._is_first else snapshot.changed
        born = np.arange(len(sockets)) if changed is None else changed
        new[born] |= (events["first_ns"][born] != 0) & (events["first_ns"][born] != known.first_ns[slots[born]])
        self._states = self._read_states(sockets, changed, before is not None)
        partner = self.partners.update(sockets, self._states, slots, new)
        pairs = Pairs(partner, listeners_of(snapshot, self.partners.attempts))
        which = self._stirred(changed, slots, new, pairs)
        part = self._part(which, snapshot, slots, pairs)
        counts = Counts(part.sockets, part.events)
        self._begin(part, counts, new[which], times)
        whole = len(which) == len(sockets)
        rates = self._rates.zeros(len(sockets)) if whole else self._rates.as_before(len(sockets), before, which)
        theirs = rates if whole else np.zeros(len(which), rates.dtype)
        matching, over = self._work_out(part, counts, theirs, times, snapshot, net_of, listened)
        if not whole:
            scatter(rates, which, theirs)
        self._let_time_pass(rates, slots, which, times, is_anew=before is not None or whole)
        self._partner, self._is_first = partner, False
        return Live(
            Rows(sockets, events, snapshot.owners, rates), self.slots.order, pairs, which, which[matching], which[over]
        )

    @property
    def states(self) -> NDArray[np.uint8]:
        """The state of each row of the last tick."""
        return self._states

    def _make_room(self) -> None:
        """Have a place for every slot, and few more a while after a peak."""
        if self.slots.capacity != len(self._known):
            self._known.resize(self.slots.capacity)
        moved = self.slots.packed()
        if moved is not None:
            self._known.move(moved, self.slots.capacity)
            self.partners.move(moved)

    def _read_states(self, sockets: Records, changed: Indices | None, is_other_order: bool) -> NDArray[np.uint8]:
        """Return the state of each row, side by side: of records far apart each look at all costs more than this."""
        if changed is None or is_other_order:
            states: NDArray[np.uint8] = sockets["state"].copy()
            return states
        self._states[changed] = sockets["state"][changed]
        return self._states

    def _stirred(self, changed: Indices | None, slots: Indices, new: Mask, pairs: Pairs) -> Indices:
        """Return the indices of the rows that have to be worked out, and of their other ends."""
        known = self._known
        if changed is None:
            known.had_partner[slots] = pairs.partner >= 0
            known.window.rewritten[:] = False
            return np.arange(len(slots))
        stirred = known.stirs[slots] | known.window.rewritten[slots]
        known.window.rewritten[:] = False
        stirred[changed] = True
        stirred |= new
        stirred[self.partners.learned] = True
        if pairs.partner is not self._partner:
            has = pairs.partner >= 0
            stirred |= has != known.had_partner[slots]
            known.had_partner[slots] = has
        which = np.flatnonzero(stirred)
        others = pairs.partner[which]
        stirred[others[others >= 0]] = True
        which = np.flatnonzero(stirred)
        return which if len(which) < MOSTLY * len(slots) else np.arange(len(slots))

    def _part(self, which: Indices, snapshot: Snapshot, slots: Indices, pairs: Pairs) -> _Part:
        sockets, events, owners = snapshot.sockets, snapshot.events, snapshot.owners
        if len(which) == len(sockets):
            return _Part(which, slots, sockets, events, self._states, pairs, owners)
        place = np.full(len(sockets) + 1, -1, np.intp)  # the last for those that have none, whose index is -1
        place[which] = np.arange(len(which))
        near = Pairs(place[pairs.partner[which]], place[pairs.listener[which]])
        return _Part(
            which, slots[which], gather(sockets, which), gather(events, which), self._states[which], near, owners
        )

    def _begin(self, part: _Part, counts: Counts, new: Mask, times: Times) -> None:
        """Set up the slots of sockets that are seen for the first time, and let growth begin again.

        The growth of what was in SYN-SENT begins when it is established, where only polls tell of it: timeouts and
        retransmits of its SYNs are no data's. Where callbacks tell, EVENTS tells them apart. What was wrong with the
        attempt is over in either case, and does not fade.
        """
        known = self._known
        if new.any():
            first = np.flatnonzero(new)
            sockets, events = gather(part.sockets, first), gather(part.events, first)
            began = part.slots[first]
            known.begin(began, Counts(sockets, events), sockets, events, times[:3])
        late = established_late(known.memory["state"][part.slots], part.sockets)
        known.memory["score"][part.slots[late]] = 0
        late = late[part.events["first_ns"][late] == 0]
        if len(late):
            known.window.begin(part.slots[late], gather(counts.counters, late))

    def _work_out(
        self,
        part: _Part,
        counts: Counts,
        rates: Records,
        times: Times,
        snapshot: Snapshot,
        net_of: Records,
        listened: Records,
    ) -> tuple[Indices, Indices]:
        """Fill in ``rates`` of these rows, which are zeros, and update what is remembered of them.

        Return which of them a rule matches, and whose cause is kept.
        """
        known, slots, now = self._known, part.slots, times.now_s
        self._fill_growth(part, counts, rates, times)
        rates["paired"] = self.partners.paired(slots)
        memory = gather(known.memory, slots)
        unread = remember(memory, part.sockets, part.states, part.events, now, times.seconds)
        owners = gather(part.owners, part.which[unread])
        notice_unread(memory, rates, part.sockets, owners, snapshot.activities, unread, now)
        win, win_s = rates["win"], rates["win_s"].astype("f8")
        everyone = Everyone(part.sockets, part.events, win, win_s, memory)
        is_open = np.zeros(len(part.sockets), np.uint8)
        case = Case(part.sockets, part.events, win, win_s, memory, now, is_open, net_of, listened, part.pairs, everyone)
        notice_disorder(case, times.seconds)
        suspicious = verdict.suspicious(case)
        cause, score, kept = verdict.fade(case, *verdict.judge(case, suspicious), times.seconds)
        rates["limit"] = verdict.limits(case, rates)
        memory["recv_q"], memory["score"], memory["cause"] = part.sockets["recv_q"], score, cause
        rates["listener"], rates["listeners"] = waited_for(case, cause)
        memory["listener"] = rates["listener"]
        over, matching = np.flatnonzero(kept), np.flatnonzero((score > 0) & ~kept)
        memory["matched_s"][matching] = now
        scatter(known.memory, slots, memory)
        rates["kept"][over], rates["over_s"][over] = 1, now - memory["matched_s"][over]
        unsure = verdict.unsure(part.sockets, part.events, rates["fresh"])
        rates["cause"] = np.where(unsure, rules.UNKNOWN, cause)
        rates["score"] = np.where(unsure, np.nan, score)
        fill_rates(rates, part.sockets, memory)
        rates["stall_us"] = stall_us(counts.waited, part.events, memory, now * 1e9)
        self._remember(part, counts, now)
        known.stirs[slots] = (
            suspicious
            | known.window.is_unsampled(slots, counts.counters)
            | stirs(rates, memory, part.states, counts.waited, now)
        )
        return matching, over

    def _fill_growth(self, part: _Part, counts: Counts, rates: Records, times: Times) -> None:
        known, slots = self._known, part.slots
        words(rates["win"])[:] = known.window.growth(slots, counts.counters)
        rates["win_s"] = times.now_s - np.maximum(known.since_s[slots], times.window_s)
        rates["fresh"] = known.fresh[slots]
        last = gather(known.counters, slots)
        fill_per_second(rates, counts.counters, last, counts.payload, known.payload[slots], times.seconds)

    def _remember(self, part: _Part, counts: Counts, now_s: float) -> None:
        known = self._known
        known.payload[part.slots] = counts.payload
        words(known.counters)[part.slots] = words(counts.counters)
        known.window.sample(part.slots, counts.counters, now_s)

    def _let_time_pass(self, rates: Records, slots: Indices, which: Indices, times: Times, *, is_anew: bool) -> None:
        """Fill in what only time changes, of all rows. ``which``: those worked out; ``is_anew``: the order is new."""
        known, now = self._known, times.now_s
        if is_anew:
            self._state_s, self._since_s = known.memory["state_s"][slots], known.since_s[slots]
        else:
            self._state_s[which], self._since_s[which] = (
                known.memory["state_s"][slots[which]],
                known.since_s[slots[which]],
            )
        rates["state_s"] = now - self._state_s
        rates["win_s"] = now - np.maximum(self._since_s, times.window_s)
        rates["fresh"] = known.fresh[slots]
        np.minimum(known.fresh, 254, out=known.fresh)
        known.fresh += np.uint8(1)
