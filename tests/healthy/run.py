"""Healthy traffic of every kind for some minutes, the monitor beside it, and what it said: ``python -m tests.healthy``.

Run it as root. The exit status is 1 if a row scored, something was found, a kind had no row or a client did not get
what it asked for.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from tests.healthy import places
from tests.healthy.judge import Verdict
from tests.support.lab import Lab, Traffic

WARM_UP_S = 2.0
"""Before the monitor starts: connections of a second age, idle and busy, are there already."""


def watch(lab: Lab, cgroup: Path, words: list[str], ticks: int, see: Callable[[str], None]) -> int:
    """Run the monitor for so many ticks, hand on each line, and return its exit status."""
    argv = [sys.executable, "-m", "tcptop_ops", "--json", "-n", str(ticks), *words]
    monitor = lab.popen(None, argv, cgroup=cgroup.parent)
    assert monitor.stdout
    for line in monitor.stdout:
        see(line)
    return monitor.wait()


def complaints(clients: list[Traffic]) -> list[str]:
    """Return the lives of clients that did not end as they should."""
    return [line for client in clients for line in client.told("broken")]


def options(source: str, delay_s: float, cgroup: Path, sites: list[places.Site]) -> list[str]:
    """Return the monitor's: what others do on this host is not asked."""
    inodes = sorted(set().union(*map(places.netns, sites)))
    where = " or ".join(f"netns = {inode}" for inode in inodes)
    only = ["--cgroup", str(cgroup)] if source != "sockdiag" else []
    return ["--source", source, "-d", f"{delay_s:g}", "-f", where, *only]


def run(args: argparse.Namespace, say: Callable[[str], None]) -> Verdict:
    """Run it. Raises LabError or TimeoutError where the traffic could not be made."""
    verdict = Verdict()
    with Lab() as lab, open(args.rows, "w") if args.rows else open("/dev/null", "w") as rows:
        cgroup = lab.cgroup("watched")
        sites = places.sites(lab)
        clients = places.start(lab, cgroup, sites)
        threading.Event().wait(WARM_UP_S)
        every = max(1, round(60 / args.delay))

        def see(line: str) -> None:
            tick = json.loads(line)
            known = verdict.scored
            verdict.take(tick)
            for row in tick["connections"]:
                if row["score"]:
                    print(json.dumps({"tick": verdict.ticks} | row), file=rows)
            if verdict.scored > known or verdict.ticks % every == 0:
                say(f"tick {verdict.ticks}: {len(tick['connections'])} rows, {verdict.scored} scored so far")

        words = [*options(args.source, args.delay, cgroup, sites), *args.options]
        status = watch(lab, cgroup, words, round(args.minutes * 60 / args.delay), see)
        if status:
            verdict.failures[f"the monitor ended with status {status}"] += 1
        verdict.failures.update(complaints(clients))
    return verdict


def main() -> int:
    """Run it as the command line says; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.healthy", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--delay", type=float, default=1.0)
    parser.add_argument("--source", choices=("auto", "sockops", "sockdiag"), default="auto")
    parser.add_argument("--rows", metavar="FILE", help="where to write each row that scores, a line of JSON each tick")
    parser.add_argument("options", nargs="*", metavar="OPTION", help="more options of the monitor, after --")
    args = parser.parse_args()
    verdict = run(args, lambda line: print(line, flush=True))
    print(*verdict.lines(), sep="\n")
    return 0 if verdict.well else 1
