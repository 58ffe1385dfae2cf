"""Two snapshots to rates, verdicts and totals, row by row of the arrays."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.diagnosis import end_verdict, rules, verdict
from tcptop_ops.diagnosis.attempts import Attempts
from tcptop_ops.diagnosis.case import MEMORY, Case, Everyone
from tcptop_ops.diagnosis.connecting import UNANSWERED_SCORE
from tcptop_ops.diagnosis.end_verdict import Verdicts
from tcptop_ops.diagnosis.memory import (
    established_late,
    first_memory,
    notice_disorder,
    notice_unread,
    probe_segments,
    remember,
    stall_us,
    waited_us,
)
from tcptop_ops.diagnosis.path_mtu import fill_rates
from tcptop_ops.diagnosis.rules import LINGERING_SCORE
from tcptop_ops.model.arrays import gather, scatter
from tcptop_ops.model.counters import COUNTED
from tcptop_ops.model.endings import end_codes
from tcptop_ops.model.enums import Origin, State
from tcptop_ops.model.flows import RATES, Flows, Rows, Totals, empty, owners_from_events, rto_events
from tcptop_ops.model.listener_drops import none_listening
from tcptop_ops.model.namespace_counters import none_known
from tcptop_ops.model.pairs import Pairs, no_pairs
from tcptop_ops.model.records import FINAL, OWNED, UNKNOWN_U32, Records
from tcptop_ops.model.snapshot import Snapshot
from tcptop_ops.tracking.host_growth import HostGrowth
from tcptop_ops.tracking.listener_drops import ListenerDrops
from tcptop_ops.tracking.local_pairs import counts_once
from tcptop_ops.tracking.namespace_growth import NamespaceGrowth
from tcptop_ops.tracking.other_end import reset_by
from tcptop_ops.tracking.partners import Partners, partners_of
from tcptop_ops.tracking.past import Past
from tcptop_ops.tracking.queued_at import listeners_of, waited_for
from tcptop_ops.tracking.slots import Slots
from tcptop_ops.tracking.totals import by_state
from tcptop_ops.tracking.window import Window, words

BAD_CLOSED_S = 60.0
"""How long a closed row stays listed whose score is LINGERING_SCORE or more."""


MAX_LINGERING = 200_000
"""Most closed rows that are kept; the oldest are dropped first."""


PER_SECOND = ("retrans_segs", "rto_events")
"""Of COUNTED, what is told as a rate since the last snapshot."""


def counted(sockets: Records, events: Records, waited: NDArray[np.uint32]) -> Records:
    """Return the present values of the counters whose growth within W is wanted, as COUNTED rows.

    ``waited``: ``waited_us`` of these rows; that of SYNs is taken off.
    """
    now = np.empty(len(sockets), COUNTED)
    for name in COUNTED.names or ():
        if name in (sockets.dtype.names or ()):
            now[name] = sockets[name]
    now["rto_events"] = rto_events(sockets, events)
    now["rto_wait_us"] = waited - events["syn_wait_us"]
    now["probe_segs"] = probe_segments(events)
    now["retrans_calls"] = events["retrans_calls"]
    return now


class Tracker:
    """Turns one snapshot after the other into flows. What it remembers of a socket is in arrays, by slot."""

    def __init__(self, window_s: float = 20.0, closed_s: float = 5.0) -> None:
        """Begin with no sockets. ``window_s``: length of W; ``closed_s``: how long a closed row stays, seconds."""
        self._window_s = window_s
        self._closed_s = closed_s
        self._slots = Slots()
        self._window = Window(window_s)
        self._growth = NamespaceGrowth(window_s)
        self._net_of = none_known()
        self._host = HostGrowth(window_s)
        self._listener_drops = ListenerDrops(window_s)
        self._listened = none_listening()
        self._bytes = np.zeros((0, 2), "u8")
        self._last = np.zeros(0, COUNTED)
        self._first_ns = np.zeros(0, "u8")
        self._since = np.zeros(0, "f8")
        self._fresh = np.zeros(0, "u1")
        self._memory = np.zeros(0, MEMORY)
        self._before: float | None = None
        self._start_ns = self._before_ns = 0
        self._lingering: deque[Rows] = deque()
        self._past = Past()
        self._partners = Partners()
        self._pairs = no_pairs(0)
        self._attempts = Attempts()
        self._tick = -1

    def update(self, snapshot: Snapshot) -> Flows:
        """Return the flows of this snapshot. The first has no rates: ``seconds`` is 0."""
        now = snapshot.now_ns / 1e9
        seconds = now - self._before if self._before is not None else 0.0
        if self._before is None:
            self._start_ns = snapshot.now_ns
        self._net_of = self._growth.update(snapshot.namespace_counters, now)
        self._listened = self._listener_drops.update(snapshot, now)
        ended = self._ended(snapshot, now, seconds)
        order, slots, new = self._slots.assign(snapshot.sockets["cookie"])
        live = self._live(snapshot, slots, new, now, seconds)
        if self._before is not None:
            self._attempts.update(live, ended, self._before_ns, snapshot.now_ns)
        self._linger(ended, snapshot.now_ns)
        self._before, self._before_ns = now, snapshot.now_ns
        self._tick += 1
        closed = self._closed_rows(snapshot.now_ns)
        totals = self._totals(snapshot, live, ended, seconds)
        past = self._past.update(live, closed)
        flows = Flows(snapshot, live, closed, order, seconds, self._window_s, self._tick, totals)
        host = self._host.update(snapshot, self._net_of, self._growth)
        return replace(flows, listened=self._listened, pairs=self._pairs, net_of=self._net_of, past=past, host=host)

    def _grow(self) -> None:
        extra = self._slots.capacity - len(self._last)
        if extra <= 0:
            return
        self._window.grow(self._slots.capacity)
        self._bytes = np.concatenate([self._bytes, np.zeros((extra, 2), "u8")])
        self._last = np.concatenate([self._last, np.zeros(extra, COUNTED)])
        self._first_ns = np.concatenate([self._first_ns, np.zeros(extra, "u8")])
        self._since = np.concatenate([self._since, np.zeros(extra)])
        self._fresh = np.concatenate([self._fresh, np.zeros(extra, "u1")])
        self._memory = np.concatenate([self._memory, np.zeros(extra, MEMORY)])

    def _live(
        self, snapshot: Snapshot, slots: NDArray[np.intp], new: NDArray[np.bool_], now: float, seconds: float
    ) -> Rows:
        sockets, events = snapshot.sockets, snapshot.events
        self._grow()
        waited = waited_us(sockets, events)
        new |= (events["first_ns"] != 0) & (events["first_ns"] != self._first_ns[slots])
        current = counted(sockets, events, waited)
        if new.any():
            first = np.flatnonzero(new)
            began, those, theirs = (gather(part, first) for part in (current, sockets, events))
            self._begin(slots[first], began, those, theirs, snapshot.now_ns)
        self._begin_again(slots, current, sockets, events)
        payload = _bytes(sockets)
        rates = self._rates(slots, current, payload, now, seconds)
        states = sockets["state"].copy()  # of records far apart: each look at all of them costs more than this
        self._pairs = Pairs(
            self._partners.update(sockets, states, slots, new), listeners_of(snapshot, self._partners.attempts)
        )
        rates["paired"] = self._partners.paired(slots)
        self._judge(slots, snapshot, states, waited, rates, now, seconds)
        self._remember(slots, current, payload, now)
        return Rows(sockets, events, snapshot.owners, rates)

    def _begin(self, slots: NDArray[np.intp], current: Records, sockets: Records, events: Records, now_ns: int) -> None:
        """Set up the slots of sockets that are seen for the first time.

        The growth of one whose birth within W was seen begins at 0; so do its rates if it was born since the last tick.
        Any other begins at its present counters: a snapshot may have missed it, or its namespace was found late.
        """
        first = events["first_ns"]
        whole = (events["origin"] == Origin.NEW) & (first >= max(self._start_ns, now_ns - int(self._window_s * 1e9)))
        born = whole & (first >= self._before_ns)
        base, last = current.copy(), current.copy()
        base[whole] = last[born] = np.zeros((), COUNTED)
        not_told = words(current) == UNKNOWN_U32
        words(base)[not_told] = words(last)[not_told] = UNKNOWN_U32
        self._window.begin(slots, base)
        self._last[slots] = last
        self._bytes[slots] = np.where(born[:, None], 0, _bytes(sockets))
        self._first_ns[slots] = first
        self._since[slots] = np.where(whole, first / 1e9, now_ns / 1e9)
        self._fresh[slots] = 0
        self._memory[slots] = first_memory(sockets, events, now_ns / 1e9)

    def _begin_again(self, slots: NDArray[np.intp], current: Records, sockets: Records, events: Records) -> None:
        """Let the growth of what was in SYN-SENT begin when it is established, where only polls tell of it.

        Timeouts and retransmits of its SYNs are no data's: where callbacks tell, EVENTS tells them apart. What was
        wrong with the attempt is over in either case, and does not fade.
        """
        late = established_late(self._memory["state"][slots], sockets)
        self._memory["score"][slots[late]] = 0
        late = late[events["first_ns"][late] == 0]
        if len(late):
            self._window.begin(slots[late], gather(current, late))

    def _rates(
        self, slots: NDArray[np.intp], current: Records, payload: NDArray[np.uint64], now: float, seconds: float
    ) -> Records:
        rates = np.zeros(len(slots), RATES)
        since = self._window.since(now)
        words(rates["win"])[:] = self._window.growth(slots, current)
        rates["win_s"] = now - np.maximum(self._since[slots], since)
        rates["fresh"] = self._fresh[slots]
        last = {name: self._last[name][slots] for name in PER_SECOND}
        _fill_per_second(rates, current, last, payload, self._bytes[slots], seconds)
        return rates

    def _judge(
        self,
        slots: NDArray[np.intp],
        snapshot: Snapshot,
        states: NDArray[np.uint8],
        waited: NDArray[np.uint32],
        rates: Records,
        now: float,
        seconds: float,
    ) -> None:
        """Fill in the fields of ``rates`` that ``diagnosis`` works out for live rows, and update their memory."""
        sockets, events = snapshot.sockets, snapshot.events
        memory = gather(self._memory, slots)
        notice_unread(memory, rates, snapshot, remember(memory, sockets, states, events, now, seconds))
        win, win_s = rates["win"], rates["win_s"].astype("f8")
        known = (self._net_of, self._listened)
        everyone = Everyone(sockets, events, win, win_s, memory)
        is_open = np.zeros(len(sockets), np.uint8)
        case = Case(sockets, events, win, win_s, memory, now, is_open, *known, self._pairs, everyone)
        notice_disorder(case, seconds)
        cause, score, kept = verdict.fade(case, *verdict.judge(case), seconds)
        rates["limit"] = verdict.limits(case, rates)
        memory["recv_q"], memory["score"], memory["cause"] = sockets["recv_q"], score, cause
        rates["listener"], rates["listeners"] = waited_for(case, cause)
        memory["listener"] = rates["listener"]
        over, matching = np.flatnonzero(kept), np.flatnonzero((score > 0) & ~kept)
        memory["matched_s"][matching] = now
        self._past.note(matching, over)
        scatter(self._memory, slots, memory)
        rates["kept"][over], rates["over_s"][over] = 1, now - memory["matched_s"][over]
        unsure = verdict.unsure(sockets, events, rates["fresh"])
        rates["cause"] = np.where(unsure, rules.UNKNOWN, cause)
        rates["score"] = np.where(unsure, np.nan, score)
        fill_rates(rates, sockets, memory)
        rates["stall_us"] = stall_us(waited, events, memory, now * 1e9)
        rates["state_s"] = now - memory["state_s"]

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
        memory = _at(self._memory, slots, known)
        codes = end_codes(sockets, events, ended["ending"])
        win, win_s = rates["win"], rates["win_s"].astype("f8")
        case = Case(sockets, events, win, win_s, memory, now, codes, self._net_of, self._listened)
        found = Verdicts(*verdict.fade(case, *verdict.judge(case), 0.0))
        by_whom = reset_by(ended, codes, live, [(part.sockets, part.events) for part in self._lingering])
        told = end_verdict.decide(case, ending, by_whom, found)
        rates["cause"], rates["score"], rates["kept"], rates["reset_by"] = told.cause, told.score, told.kept, by_whom
        rates["over_s"] = np.where(told.kept, np.maximum(ending["end_ns"] / 1e9 - memory["matched_s"], 0), 0)
        fill_rates(rates, sockets, memory)
        rates["listener"] = np.where(rules.OF_LISTENER[told.cause], memory["listener"], 0)
        rates["stall_us"] = stall_us(waited, events, memory, ending["end_ns"])
        rates["state_s"] = np.where(known, now - memory["state_s"], 0.0)

    def _remember(self, slots: NDArray[np.intp], current: Records, payload: NDArray[np.uint64], now: float) -> None:
        self._bytes[slots] = payload
        words(self._last)[slots] = words(current)
        self._fresh[slots] = np.minimum(self._fresh[slots], 254) + 1
        self._window.sample(slots, current, now)

    def _ended(self, snapshot: Snapshot, now: float, seconds: float) -> Rows:
        """Return the rows that closed in this tick, with their rates and growth up to the end."""
        final = snapshot.closed
        if not len(final):
            return _nothing()
        sockets, events = final["socket"], final["events"]
        slots, known = self._slots.find(sockets["cookie"])
        known[known] = self._first_ns[slots[known]] == events["first_ns"][known]
        waited = waited_us(sockets, events)
        current = counted(sockets, events, waited)
        since = self._window.since(now)
        base, last, sent = (
            _at(self._window.oldest, slots, known),
            _at(self._last, slots, known),
            _at(self._bytes, slots, known),
        )
        unmet = ~known & (events["origin"] != Origin.NEW)
        base[unmet] = last[unmet] = current[unmet]
        sent[unmet] = _bytes(sockets[unmet])
        blank = sockets["family"] == 0  # its final record was lost: keep the last known counters
        current[blank] = last[blank]
        rates = np.zeros(len(final), RATES)
        words(rates["win"])[:] = words(current) - words(base)
        _forget_unknown(rates["win"], current, base)
        rates["win_s"] = now - np.maximum(events["first_ns"] / 1e9, since)
        rates["paired"] = partners_of(sockets) >= 0
        rates["paired"][known] |= self._partners.paired(slots[known])
        _fill_per_second(rates, current, last, _bytes(sockets), sent, seconds)
        self._judge_ended(final, slots, known, waited, rates, now, snapshot.sockets)
        owners = snapshot.closed_owners if snapshot.closed_owners is not None else owners_from_events(events)
        return Rows(sockets, events, owners, rates, final["ending"])

    def _linger(self, ended: Rows, now_ns: int) -> None:
        """Keep these closed rows, and drop those whose time is over or that are too many."""
        if len(ended):
            self._lingering.append(ended)
        parts = (self._judged_again(part) for part in self._lingering)
        self._lingering = deque(rest for part in parts if len(rest := self._still_kept(part, now_ns)))
        while (excess := sum(map(len, self._lingering)) - MAX_LINGERING) > 0:
            oldest = self._lingering.popleft()
            if len(oldest) > excess:
                self._lingering.appendleft(oldest.take(np.arange(excess, len(oldest))))

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
        shown = [(part, self._is_shown(part, now_ns)) for part in self._lingering]
        parts = [part if which.all() else part.take(which) for part, which in shown if which.any()]
        if not parts:
            return _nothing()
        closed = Rows(
            np.concatenate([p.sockets for p in parts]),
            np.concatenate([p.events for p in parts]),
            np.concatenate([p.owners for p in parts]),
            np.concatenate([p.rates for p in parts]),
            np.concatenate([p.endings for p in parts if p.endings is not None]),
        )
        self._lingering = deque([replace(p, rates=_at_rest(p.rates)) for p in self._lingering])
        return closed

    def _totals(self, snapshot: Snapshot, live: Rows, ended: Rows, seconds: float) -> Totals:
        moved = [np.flatnonzero(p.rates["tx_bytes_per_s"] + p.rates["rx_bytes_per_s"]) for p in (live, ended)]
        once = [
            which[counts_once(gather(p.sockets, which), p.rates["paired"][which])]
            for p, which in zip((live, ended), moved, strict=True)
        ]
        parts = [live.rates, ended.rates]
        retrans = sum(float(p["retrans_per_s"].sum()) for p in parts)
        rto = sum(float(p["rto_per_s"].sum()) for p in parts)
        sent = sum(int(p["win"]["data_segs_out"].sum(dtype="u8")) for p in parts)
        again = sum(int(p["win"]["retrans_segs"].sum(dtype="u8")) for p in parts)
        return Totals(
            connections=len(live),
            by_state=by_state(snapshot),
            opened=snapshot.opened,
            closed=len(ended) if ended.endings is None else int((ended.endings["from_state"] != State.LISTEN).sum()),
            retrans_segs=round(retrans * seconds),
            rto_events=round(rto * seconds),
            retrans_per_s=retrans,
            rto_per_s=rto,
            retrans_pct=100.0 * again / sent if sent else float("nan"),
            tx_bytes_per_s=sum(float(p["tx_bytes_per_s"][o].sum()) for p, o in zip(parts, once, strict=True)),
            rx_bytes_per_s=sum(float(p["rx_bytes_per_s"][o].sum()) for p, o in zip(parts, once, strict=True)),
        )


def _nothing() -> Rows:
    """Return closed rows, none of them."""
    final = np.zeros(0, FINAL)
    return Rows(final["socket"], final["events"], empty(OWNED), empty(RATES), final["ending"])


def _bytes(sockets: Records) -> NDArray[np.uint64]:
    """Return the payload so far, a row per socket, two columns: bytes acknowledged, bytes received."""
    return np.stack([sockets["bytes_acked"], sockets["bytes_received"]], axis=1)


def _forget_unknown(win: Records, current: Records, base: Records) -> None:
    """Take off growth to or from a counter that the kernel did not tell: a final record may tell others than polls."""
    words(win)[(words(current) == UNKNOWN_U32) | (words(base) == UNKNOWN_U32)] = 0


def _fill_per_second(
    rates: Records,
    current: Records,
    last: Records | Mapping[str, NDArray[np.uint32]],
    payload: NDArray[np.uint64],
    before: NDArray[np.uint64],
    seconds: float,
) -> None:
    """Fill in the four rates: growth from ``last`` (PER_SECOND) and ``before`` (see ``_bytes``) by ``seconds``."""
    if seconds <= 0:
        return
    grown = _grown(payload, before)
    rates["tx_bytes_per_s"], rates["rx_bytes_per_s"] = grown[:, 0] / seconds, grown[:, 1] / seconds
    rates["retrans_per_s"] = (current["retrans_segs"] - last["retrans_segs"]) / seconds
    rates["rto_per_s"] = (current["rto_events"] - last["rto_events"]) / seconds


def _grown(now: NDArray[np.uint64], before: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the growth of a 64-bit counter; 0 where it fell, since the socket was used for another connection."""
    return np.where(now >= before, now - before, 0)


def _at(values: NDArray[Any], slots: NDArray[np.intp], known: NDArray[np.bool_]) -> NDArray[Any]:
    """Return the values in these slots, zero where ``known`` is False."""
    found = np.zeros((len(slots), *values.shape[1:]), values.dtype)
    found[known] = values[slots[known]]
    return found


def _at_rest(rates: Records) -> Records:
    """Return a copy for the ticks after the close: the rates are 0, the growth within W stays."""
    rest: Records = rates.copy()
    for name in ("tx_bytes_per_s", "rx_bytes_per_s", "retrans_per_s", "rto_per_s"):
        rest[name] = 0
    return rest
