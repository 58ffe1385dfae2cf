"""What traffic loses while the program watches it: rates with it as a share of rates without, in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

from tests.bench import load
from tests.bench.figures import Line, Note, figure, ratios
from tests.bench.load import BULK, BULK_64, EXCHANGE, MIXED, SHORT, Load, Path4
from tests.bench.setting import Setting, monitored, place

CALLBACKS = ("all", "events", "every")
BUDGETS = {
    ("all", EXCHANGE): 0.98,
    ("events", EXCHANGE): 0.995,
    ("all", SHORT): 0.93,
    ("events", SHORT): 0.92,
    ("all", BULK): 0.99,
    ("all", BULK_64): 0.99,
    ("all", MIXED): 0.99,
}

A_TICK_MS = 1000
"""As long as a tick of the program: each run has one in it."""

Measured = Callable[[], AbstractContextManager[object]]


def lines(loads: Sequence[Load], measured: Measured, setting: Setting, head: str, callbacks: str) -> Iterator[Line]:
    """A ratio of each load."""
    found = load.pairs(loads, measured, setting.of(7, 3), setting.of(A_TICK_MS, 200))
    for one, rates in zip(loads, found, strict=True):
        budget = BUDGETS.get((callbacks, one.kind))
        yield figure(f"{head}: {one.name}", "ratio", ratios(rates.with_it, rates.without), budget)


def measure(setting: Setting) -> Iterator[Line]:
    """The lines of the table."""
    with load.built() as program:
        if program is None:
            yield Note(load.NO_COMPILER)
            return
        with place() as where:
            link = where.lab.link("near", "far")
            load.ready(where.ns, link.a.ns, link.b.ns)

            def made(kind: load.Kind, path: Path4, cgroup: Path = where.cgroup) -> Load:
                return Load(where.lab, program, kind, path, cgroup)

            here, there = load.loopback(where.ns), load.over(link)
            outside = where.lab.cgroup("outside")
            at_home = [made(kind, here) for kind in (EXCHANGE, SHORT, BULK, MIXED)[: setting.of(4, 3)]]

            def measured(callbacks: str) -> Measured:
                sooner = ("-d", "0.5") if setting.quick else ()
                return partial(monitored, where.cgroup, "--callbacks", callbacks, *sooner)

            for callbacks in CALLBACKS[:1] if setting.quick else CALLBACKS:
                loads = at_home if callbacks == "all" else at_home[:3]
                yield from lines(loads, measured(callbacks), setting, f"--callbacks {callbacks}", callbacks)
            if setting.quick:
                yield Note(
                    "64 connections, veth, --callbacks events and every, and outside --cgroup: left out by --quick"
                )
                return
            abroad = [made(kind, there) for kind in (EXCHANGE, SHORT, BULK, BULK_64)]
            yield from lines(abroad, measured("all"), setting, "--callbacks all", "all")
            not_watched = [made(kind, here, outside) for kind in (EXCHANGE, SHORT)]
            yield from lines(not_watched, measured("all"), setting, "outside --cgroup", "")
