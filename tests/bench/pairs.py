"""Finding both ends of 50,000 loopback connections: a tick in which nothing came, and ticks in which some did."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from tcptop_ops.model.records import SOCKET, Records
from tcptop_ops.tracking.partners import Partners
from tcptop_ops.tracking.slots import Slots
from tests.bench.figures import Line, Nonsense, figure
from tests.bench.setting import Setting

CONNECTIONS = 50_000
REPLACED = (1, 100, 1_000, 10_000)
BUDGET_MS, IDLE_MS = 15.0, 1.0
FORGOTTEN = 1_000_000  # numbers that are written before each measurement, so that no row is at hand in a cache
HOME = np.frombuffer(b"\0" * 10 + b"\xff\xff\x7f\0\0\1", "u1")


class World:
    """SOCKET rows of both ends of each connection, in an order of no meaning."""

    def __init__(self) -> None:
        self.random = np.random.default_rng(1)
        count = 2 * CONNECTIONS
        self.sockets: Records = np.zeros(count, SOCKET)
        order = self.random.permutation(count)
        self.near, self.far = order[:CONNECTIONS], order[CONNECTIONS:]
        numbers = np.arange(CONNECTIONS)
        ports, servers = numbers % 28_000 + 32_768, 1_000 + numbers // 28_000
        self.sockets["cookie"], self.sockets["state"], self.sockets["netns"] = order + 1, 1, 4_026_531_840
        self.sockets["laddr"] = self.sockets["raddr"] = HOME
        for end, local, remote in ((self.near, ports, servers), (self.far, servers, ports)):
            self.sockets["lport"][end], self.sockets["rport"][end] = local, remote
        self._next = count + 1
        self.slots, self.partners = Slots(), Partners()

    def replace(self, number: int) -> None:
        """So many connections end, and others with the same addresses and ports begin."""
        which = self.random.choice(CONNECTIONS, number, replace=False)
        for end in (self.near, self.far):
            self.sockets["cookie"][end[which]] = np.arange(self._next, self._next + number)
            self._next += number

    def tick_ms(self) -> float:
        """CPU of finding the pairs of a tick. Raises Nonsense where one is missing."""
        new = self.slots.assign(self.sockets["cookie"])
        slots = self.slots.of_rows
        states = self.sockets["state"].copy()
        np.zeros(FORGOTTEN)[:] = 1.0
        started = time.thread_time()
        partner = self.partners.update(self.sockets, states, slots, new)
        took_ms = 1e3 * (time.thread_time() - started)
        if not (np.array_equal(partner[self.near], self.far) and np.array_equal(partner[self.far], self.near)):
            raise Nonsense("a connection did not find its other end")
        return took_ms


def measure(setting: Setting) -> Iterator[Line]:
    """The lines of the table."""
    rounds = setting.of(25, 5)

    def ticks(before: Callable[[World], None]) -> list[float]:
        world = World()
        world.tick_ms()
        found = []
        for _ in range(rounds):
            before(world)
            found.append(world.tick_ms())
        return found

    head = f"both ends of {CONNECTIONS:,} connections"
    yield figure(f"{head}: the first tick", "ms", [World().tick_ms() for _ in range(setting.of(9, 3))])
    yield figure(f"{head}: nothing came or went", "ms", ticks(lambda _: None), IDLE_MS)
    for number in REPLACED:
        costs = ticks(partial(World.replace, number=number))
        yield figure(f"{head}: {number:,} were replaced", "ms", costs, BUDGET_MS)
