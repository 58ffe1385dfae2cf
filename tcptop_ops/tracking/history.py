"""The last ticks, for graphs: a compact row for each connection that sent, received or has a score. Pure.

A tick's rows are sorted by cookie. The ticks are a tuple that is replaced as a whole, so that one thread may add while
another reads.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.model.arrays import find_sorted
from tcptop_ops.model.flows import Flows
from tcptop_ops.model.records import Records

SAMPLE = np.dtype([("cookie", "u8"), ("srtt_us", "u4"), ("cwnd", "u4"), ("tx", "f4"), ("rx", "f4"), ("retrans", "f4")])
"""One connection in one tick: ``tx`` and ``rx`` in bytes a second, ``retrans`` in segments a second."""

MOST_SAMPLES = 500_000
"""Samples that are kept: of 28 bytes each, 14 MB."""

MOST_TICKS = 3600
"""Ticks that are kept at most: an hour of one a second."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class HistoryTick:
    """One tick of the history."""

    at_s: float  # CLOCK_MONOTONIC
    samples: Records  # SAMPLE, sorted by cookie


@dataclass(frozen=True)
class Series:
    """One connection over time: one value per tick, the oldest first; NaN where nothing is known."""

    ago_s: Floats  # seconds before the last tick of the series
    srtt_us: Floats
    cwnd: Floats
    tx: Floats
    rx: Floats
    retrans: Floats

    def __len__(self) -> int:
        """Return the number of ticks."""
        return len(self.ago_s)


class History:
    """The last ticks. The oldest are dropped beyond ``most`` samples in all, or MOST_TICKS ticks."""

    def __init__(self, most: int = MOST_SAMPLES) -> None:
        """Begin with no ticks. ``most``: samples to keep at most; the newest tick is kept whatever its size."""
        self._most = most
        self._ticks: tuple[HistoryTick, ...] = ()
        self._held = 0

    def __len__(self) -> int:
        """Return the number of samples, not of ticks."""
        return self._held

    def clear(self) -> None:
        """Drop all ticks."""
        self._ticks, self._held = (), 0

    def add(self, flows: Flows, always: Iterable[int] = ()) -> None:
        """Add a tick; the first of a tracker has no rates and is ignored. ``always``: cookies to keep even if idle."""
        if flows.seconds <= 0:
            return
        samples = _samples(flows, always)
        ticks = [*self._ticks, HistoryTick(flows.snapshot.now_ns / 1e9, samples)]
        held, drop = self._held + len(samples), 0
        while drop < len(ticks) - 1 and (held > self._most or len(ticks) - drop > MOST_TICKS):
            held -= len(ticks[drop].samples)
            drop += 1
        self._ticks, self._held = tuple(ticks[drop:]), held

    def series(self, cookie: int, last: int, until_s: float = float("inf")) -> Series:
        """Return the last ``last`` ticks of a connection, up to ``until_s`` (CLOCK_MONOTONIC).

        A tick without a sample between two that have one means rest: its rates are 0, ``srtt_us`` and ``cwnd`` NaN.
        """
        ticks = [tick for tick in self._ticks[-MOST_TICKS:] if tick.at_s <= until_s][-last:]
        found = np.full((5, len(ticks)), np.nan)
        wanted = np.array([cookie], "u8")
        for at, tick in enumerate(ticks):
            places, is_there = find_sorted(tick.samples["cookie"], wanted)
            if is_there[0]:
                found[:, at] = tick.samples[places[0]].item()[1:]
        known = np.flatnonzero(~np.isnan(found[0]))
        if len(known):
            quiet = found[2:, known[0] : known[-1]]
            quiet[np.isnan(quiet)] = 0.0
        found[:2][found[:2] == 0] = np.nan
        times = np.array([tick.at_s for tick in ticks])
        return Series(times[-1] - times if len(ticks) else times, *found)


def _samples(flows: Flows, always: Iterable[int]) -> Records:
    rates, sockets = flows.live.rates, flows.live.sockets
    stirred = np.arange(len(rates)) if flows.stirred is None else flows.stirred
    wanted = np.zeros(len(stirred), np.bool_)
    for name in ("tx_bytes_per_s", "rx_bytes_per_s", "retrans_per_s", "score"):
        wanted |= rates[name][stirred] > 0
    found = np.zeros(len(rates), np.bool_)
    found[stirred[wanted]] = True
    for cookie in always:
        if cookie:
            found |= sockets["cookie"] == cookie
    which = np.flatnonzero(found)
    which = which[np.argsort(sockets["cookie"][which], kind="stable")]
    samples = np.empty(len(which), SAMPLE)
    for name in ("cookie", "srtt_us", "cwnd"):
        samples[name] = sockets[name][which]
    for name, rate in (("tx", "tx_bytes_per_s"), ("rx", "rx_bytes_per_s"), ("retrans", "retrans_per_s")):
        samples[name] = rates[rate][which]
    return samples
