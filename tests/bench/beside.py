"""What the program costs beside other sock_ops programs, and with a full map."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tests.bench import load
from tests.bench.figures import Line, Nonsense, Note, figure, ratios
from tests.bench.load import EXCHANGE, SHORT, Load
from tests.bench.setting import Held, Monitor, Place, Setting, attached, monitored, place
from tests.support.lab import Traffic

PYTHON = "/usr/bin/python3"  # the distribution's, which has bcc
TUNER = Path(__file__).parents[1] / "live" / "tuner.py"
OTHERS = (1, 2, 4)
ROWS = 1_024  # of the map that is to be full; half of the sockets held would be enough to fill it
FILLERS = 4_096


def tune(where: Place) -> None:
    """One more program, as people run them, attached to the same cgroup."""
    before = len(attached(where.cgroup))
    started = Traffic(where.lab.popen(None, [PYTHON, "-I", str(TUNER), str(where.cgroup)]))
    started.expect("ready")
    if len(attached(where.cgroup)) != before + 1:
        raise Nonsense("the other program is not attached")


def beside(where: Place, loads: list[Load], setting: Setting) -> Iterator[Line]:
    """With so many others, each of which has been there before."""
    others = 0
    for wanted in OTHERS[:1] if setting.quick else OTHERS:
        while others < wanted:
            tune(where)
            others += 1
        measured = partial(monitored, where.cgroup)
        found = load.pairs(loads, measured, setting.of(7, 2), setting.of(500, 200))
        for one, rates in zip(loads, found, strict=True):
            head = f"beside {others} other{'s' if others > 1 else ''}"
            yield figure(f"{head}: {one.kind.name}", "ratio", ratios(rates.with_it, rates.without))


def full(where: Place, loads: list[Load], setting: Setting) -> Iterator[Line]:
    """With a map that turns births away."""
    found = [load.Pairs([], []) for _ in loads]
    head = f"--map-size {ROWS}, full"
    for _ in range(setting.of(7, 2)):
        with monitored(where.cgroup, "--map-size", str(ROWS)) as monitor:
            held = Held(where)
            started = where.lab.started
            held.grow(FILLERS)
            for one, into in zip(loads, found, strict=True):
                into.with_it.append(one.rate(setting.of(500, 200)))
            require_full(monitor)
        for one, into in zip(loads, found, strict=True):
            into.without.append(one.rate(setting.of(500, 200)))
        where.lab.end_since(started)
    for one, rates in zip(loads, found, strict=True):
        yield figure(f"{head}: {one.kind.name}", "ratio", ratios(rates.with_it, rates.without))


def require_full(monitor: Monitor) -> None:
    """Raises Nonsense where every birth found room."""
    totals = monitor.wait_for_tick()["totals"]
    if not totals["untracked"]:
        raise Nonsense(f"the map was not full: {totals}")


def measure(setting: Setting) -> Iterator[Line]:
    """The lines of the table."""
    with load.built() as program:
        if program is None:
            yield Note(load.NO_COMPILER)
            return
        with place() as where:
            load.ready(where.ns)
            here = load.loopback(where.ns)
            loads = [Load(where.lab, program, kind, here, where.cgroup) for kind in (EXCHANGE, SHORT)]
            yield from full(where, loads, setting)
            yield from beside(where, loads, setting)
