"""Two snapshots to rates, verdicts and totals, row by row of the arrays."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.diagnosis import end_verdict, rules, verdict
from tcptop_ops.diagnosis.attempts import Attempts
from tcptop_ops.diagnosis.case import Case
from tcptop_ops.diagnosis.end_verdict import Verdicts
from tcptop_ops.diagnosis.memory import stall_us
from tcptop_ops.diagnosis.path_mtu import fill_rates
from tcptop_ops.model.endings import end_codes
from tcptop_ops.model.enums import Origin
from tcptop_ops.model.flows import RATES, Flows, Rows, owners_from_events
from tcptop_ops.model.listener_drops import none_listening
from tcptop_ops.model.namespace_counters import none_known
from tcptop_ops.model.records import UNKNOWN_U32, Records
from tcptop_ops.model.snapshot import Snapshot
from tcptop_ops.tracking.host_growth import HostGrowth
from tcptop_ops.tracking.known import Counts, Known
from tcptop_ops.tracking.lingering import Lingering, nothing_closed
from tcptop_ops.tracking.listener_drops import ListenerDrops
from tcptop_ops.tracking.live import LiveRows, Times
from tcptop_ops.tracking.namespace_growth import NamespaceGrowth
from tcptop_ops.tracking.other_end import reset_by
from tcptop_ops.tracking.partners import partners_of
from tcptop_ops.tracking.past import Past
from tcptop_ops.tracking.per_second import fill_per_second
from tcptop_ops.tracking.totals import totals_of
from tcptop_ops.tracking.window import words


class Tracker:
    """Turns one snapshot after the other into flows. What it remembers of a socket is in arrays, by slot."""

    def __init__(self, window_s: float = 20.0, closed_s: float = 5.0) -> None:
        """Begin with no sockets. ``window_s``: length of W; ``closed_s``: how long a closed row stays, seconds."""
        self._window_s = window_s
        self._known = Known(window_s)
        self._live = LiveRows(self._known)
        self._growth = NamespaceGrowth(window_s)
        self._net_of = none_known()
        self._host = HostGrowth(window_s)
        self._listener_drops = ListenerDrops(window_s)
        self._listened = none_listening()
        self._before: Times | None = None
        self._attempts = Attempts()
        self._lingering = Lingering(closed_s, self._attempts)
        self._past = Past()
        self._tick = -1

    def update(self, snapshot: Snapshot) -> Flows:
        """Return the flows of this snapshot. The first has no rates: ``seconds`` is 0."""
        times = self._times(snapshot.now_ns)
        now = times.now_s
        self._net_of = self._growth.update(snapshot.namespace_counters, now)
        self._listened = self._listener_drops.update(snapshot, now)
        ended = self._ended(snapshot, now, times.seconds)
        live = self._live.update(snapshot, times, self._net_of, self._listened)
        stirred = live.stirred_rows
        if self._before is not None:
            self._attempts.update(stirred, ended, times.before_ns, times.now_ns)
        self._before = times
        self._tick += 1
        closed = self._lingering.update(ended, times.now_ns)
        totals = totals_of(snapshot, self._live.states, stirred, ended, times.seconds)
        self._past.note(live.matching, live.over)
        past = self._past.update(live.rows, closed)
        flows = Flows(snapshot, live.rows, closed, live.order, times.seconds, self._window_s, self._tick, totals)
        host = self._host.update(snapshot, self._net_of, self._growth)
        told = replace(flows, listened=self._listened, pairs=live.pairs, net_of=self._net_of, past=past, host=host)
        return replace(told, stirred=live.stirred)

    def _times(self, now_ns: int) -> Times:
        before = self._before
        if before is None:
            return Times(now_ns, 0, now_ns, 0.0)
        return Times(before.start_ns, before.now_ns, now_ns, now_ns / 1e9 - before.now_s)

    def _judge_ended(
        self,
        ended: Records,
        slots: NDArray[np.intp],
        known: NDArray[np.bool_],
        waited: NDArray[np.uint32],
        rates: Records,
        now: float,
        live: Records,
    ) -> None:
        """Fill in cause, score and time lost of rows that closed: how they ended counts, and no score fades.

        ``waited``: ``waited_us`` of these rows; ``live``: SOCKET rows of those that are open still.
        """
        sockets, events, ending = ended["socket"], ended["events"], ended["ending"]
        memory = _at(self._known.memory, slots, known)
        codes = end_codes(sockets, events, ended["ending"])
        win, win_s = rates["win"], rates["win_s"].astype("f8")
        case = Case(sockets, events, win, win_s, memory, now, codes, self._net_of, self._listened)
        found = Verdicts(*verdict.fade(case, *verdict.judge(case), 0.0))
        by_whom = reset_by(ended, codes, live, self._lingering.records)
        told = end_verdict.decide(case, ending, by_whom, found)
        rates["cause"], rates["score"], rates["kept"], rates["reset_by"] = told.cause, told.score, told.kept, by_whom
        rates["over_s"] = np.where(told.kept, np.maximum(ending["end_ns"] / 1e9 - memory["matched_s"], 0), 0)
        fill_rates(rates, sockets, memory)
        rates["listener"] = np.where(rules.OF_LISTENER[told.cause], memory["listener"], 0)
        rates["stall_us"] = stall_us(waited, events, memory, ending["end_ns"])
        rates["state_s"] = np.where(known, now - memory["state_s"], 0.0)

    def _ended(self, snapshot: Snapshot, now: float, seconds: float) -> Rows:
        """Return the rows that closed in this tick, with their rates and growth up to the end."""
        final = snapshot.closed
        if not len(final):
            return nothing_closed()
        sockets, events = final["socket"], final["events"]
        slots, known = self._live.slots.find(sockets["cookie"])
        known[known] = self._known.first_ns[slots[known]] == events["first_ns"][known]
        counts = Counts(sockets, events)
        current, payload = counts.counters, counts.payload
        since = self._known.window.since(now)
        base, last, sent = (
            _at(self._known.window.oldest, slots, known),
            _at(self._known.counters, slots, known),
            _at(self._known.payload, slots, known),
        )
        unmet = ~known & (events["origin"] != Origin.NEW)
        base[unmet] = last[unmet] = current[unmet]
        sent[unmet] = payload[unmet]
        blank = sockets["family"] == 0  # its final record was lost: keep the last known counters
        current[blank] = last[blank]
        rates = np.zeros(len(final), RATES)
        words(rates["win"])[:] = words(current) - words(base)
        _forget_unknown(rates["win"], current, base)
        rates["win_s"] = now - np.maximum(events["first_ns"] / 1e9, since)
        rates["paired"] = partners_of(sockets) >= 0
        rates["paired"][known] |= self._live.partners.paired(slots[known])
        fill_per_second(rates, current, last, payload, sent, seconds)
        self._judge_ended(final, slots, known, counts.waited, rates, now, snapshot.sockets)
        owners = snapshot.closed_owners if snapshot.closed_owners is not None else owners_from_events(events)
        return Rows(sockets, events, owners, rates, final["ending"])


def _forget_unknown(win: Records, current: Records, base: Records) -> None:
    """Take off growth to or from a counter that the kernel did not tell: a final record may tell others than polls."""
    words(win)[(words(current) == UNKNOWN_U32) | (words(base) == UNKNOWN_U32)] = 0


def _at(values: NDArray[Any], slots: NDArray[np.intp], known: NDArray[np.bool_]) -> NDArray[Any]:
    """Return the values in these slots, zero where ``known`` is False."""
    found = np.zeros((len(slots), *values.shape[1:]), values.dtype)
    found[known] = values[slots[known]]
    return found
