"""Faults of a connection attempt, and twins of them that are none (see ``faults``)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from tests.live.stage import Fault, Stage, at_clients
from tests.support.lab import Link, Traffic
from tests.support.packet_drops import FirstSyns, Reject

DIALLER = Path(__file__).with_name("dialler.py")
PORT = 9
NONE = "idle"


def dialler(stage: Stage, link: Link, *words: object) -> Traffic:
    """Start ``dialler.py`` at the near end."""
    argv = [sys.executable, "-I", str(DIALLER), *map(str, words)]
    return Traffic(stage.lab.popen(link.a.ns, argv, cgroup=stage.cgroup))


def _at(cause: str, link: Link, tries: Traffic, number: int) -> Fault:
    """Return a fault of the first attempts of a dialler."""
    where = [(link.a.ipv4, int(tries.expect("tried"))) for _ in range(number)]
    return Fault(cause, where, {link.a.ipv4, link.b.ipv4})


def rejected(stage: Stage) -> Fault:
    """A firewall that answers SYNs with ICMP."""
    link = stage.link()
    Reject(link.b.ns, PORT, "icmp type admin-prohibited")
    return at_clients("rejected", link, stage.clients(link, PORT, "connect-only"))


def given_up(stage: Stage) -> Fault:
    """A program that gives each attempt up after a third of a second, before a SYN is sent again."""
    link = stage.link()
    stage.lab.black_hole(link.b.ns, PORT)
    return _at("syn-unanswered", link, dialler(stage, link, "give-up", link.b.ipv4, PORT), 8)


def syn_kept_back(stage: Stage) -> Fault:
    """Own output rules that drop the SYN."""
    link = stage.link()
    stage.lab.own_drop(link.a)
    return at_clients("local-drop", link, stage.clients(link, PORT, "connect-only"))


def syn_lost(stage: Stage) -> Fault:
    """The first SYN of each connection is lost, and then all is well."""
    link = stage.link()
    server = stage.server(link)
    FirstSyns(link.b.ns, server.port)
    return at_clients("syn-lost", link, stage.connected(link, server.port, "connect-only"))


def raced(stage: Stage, stagger: float = 0.0) -> Fault:
    """Attempts that lose to another connection of their program, all the time."""
    link = stage.link()
    stage.lab.black_hole(link.b.ns, PORT)
    winner = (link.b.ipv4, stage.server(link).port)
    tries = dialler(stage, link, "race", link.b.ipv4, PORT, "--winner", *winner, "--stagger", stagger)
    return _at(NONE, link, tries, 6)


def raced_late(stage: Stage) -> Fault:
    """The same, a quarter of a second apart."""
    return raced(stage, 0.25)


def given_up_once(stage: Stage) -> Fault:
    """One attempt that is given up soon."""
    link = stage.link()
    stage.lab.black_hole(link.b.ns, PORT)
    return _at(NONE, link, dialler(stage, link, "give-up", link.b.ipv4, PORT, "--count", 1), 1)


FAULTS: dict[str, Callable[[Stage], Fault]] = {
    "rejected": rejected,
    "syn-unanswered, given up": given_up,
    "local-drop, a SYN": syn_kept_back,
    "syn-lost": syn_lost,
}

TWINS: dict[str, Callable[[Stage], Fault]] = {
    "happy eyeballs, at once": raced,
    "happy eyeballs, staggered": raced_late,
    "one attempt given up": given_up_once,
}
"""What looks alike and is no fault: no row of it may score."""
