"""What the last ticks were like, for graphs: a compact row for each connection that moved, or that is bad. Pure.

A tick's rows are sorted by cookie. All ticks are one tuple that is replaced as a whole, so that one thread may add
while another one reads.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.snapshot import Records
from tcptop_ops.tracker import Flows, Rows

SAMPLE = np.dtype([("cookie", "u8"), ("srtt_us", "u4"), ("cwnd", "u4"), ("tx", "f4"), ("rx", "f4"), ("retrans", "f4")])
"""``tx`` and ``rx`` bytes a second, ``retrans`` segments a second, within the tick."""

MOST_SAMPLES = 500_000
"""28 bytes each: 14 MB."""

MOST_TICKS = 3600

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Tick:
    """SAMPLE rows of one tick."""

    at_s: float  # CLOCK_MONOTONIC
    samples: Records


@dataclass(frozen=True)
class Series:
    """One connection, a value a tick, the oldest first; NaN where nothing is known. ``ago_s``: before the last tick."""

    ago_s: Floats
    srtt_us: Floats
    cwnd: Floats
    tx: Floats
    rx: Floats
    retrans: Floats

    def __len__(self) -> int:
        return len(self.ago_s)


class History:
    """The last ticks, as many as hold ``most`` samples together, and MOST_TICKS at most."""

    def __init__(self, most: int = MOST_SAMPLES) -> None:
        self._most = most
        self._ticks: tuple[Tick, ...] = ()
        self._held = 0

    def __len__(self) -> int:
        """Samples."""
        return self._held

    def clear(self) -> None:
        """Know nothing."""
        self._ticks, self._held = (), 0

    def add(self, flows: Flows, always: Iterable[int] = ()) -> None:
        """Take in a tick; a first one has no rates and is left out. ``always``: cookies to keep even where idle."""
        if flows.seconds <= 0:
            return
        samples = _samples(flows.live, always)
        ticks = [*self._ticks, Tick(flows.snapshot.now_ns / 1e9, samples)]
        held, drop = self._held + len(samples), 0
        while drop < len(ticks) - 1 and (held > self._most or len(ticks) - drop > MOST_TICKS):
            held -= len(ticks[drop].samples)
            drop += 1
        self._ticks, self._held = tuple(ticks[drop:]), held

    def series(self, cookie: int, last: int, until_s: float = float("inf")) -> Series:
        """The last so many ticks up to this instant. Between two samples of a connection, none: nothing moved."""
        ticks = [tick for tick in self._ticks[-MOST_TICKS:] if tick.at_s <= until_s][-last:]
        found = np.full((5, len(ticks)), np.nan)
        for at, tick in enumerate(ticks):
            place = int(np.searchsorted(tick.samples["cookie"], np.uint64(cookie)))
            if place < len(tick.samples) and tick.samples["cookie"][place] == cookie:
                found[:, at] = tick.samples[place].item()[1:]
        known = np.flatnonzero(~np.isnan(found[0]))
        if len(known):
            quiet = found[2:, known[0] : known[-1]]
            quiet[np.isnan(quiet)] = 0.0
        found[:2][found[:2] == 0] = np.nan
        times = np.array([tick.at_s for tick in ticks])
        return Series(times[-1] - times if len(ticks) else times, *found)


def _samples(live: Rows, always: Iterable[int]) -> Records:
    rates, sockets = live.rates, live.sockets
    wanted = (rates["tx_bytes_per_s"] > 0) | (rates["rx_bytes_per_s"] > 0) | (rates["retrans_per_s"] > 0)
    wanted |= rates["score"] > 0
    for cookie in always:
        wanted |= sockets["cookie"] == cookie
    which = np.flatnonzero(wanted)
    which = which[np.argsort(sockets["cookie"][which], kind="stable")]
    samples = np.empty(len(which), SAMPLE)
    for name in ("cookie", "srtt_us", "cwnd"):
        samples[name] = sockets[name][which]
    for name, rate in (("tx", "tx_bytes_per_s"), ("rx", "rx_bytes_per_s"), ("retrans", "retrans_per_s")):
        samples[name] = rates[rate][which]
    return samples
