"""Owners worked out for the rows that changed are those that working out every row gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tcptop_ops.host.owners import Owners
from tcptop_ops.model.enums import Direction, State
from tcptop_ops.model.records import OWNER, Records
from tests.support.fakes import flow, records

STATES = [State.ESTABLISHED, State.ESTABLISHED, State.FIN_WAIT2, State.LAST_ACK, State.CLOSE_WAIT, State.SYN_SENT]
NAMES = [b"", b"nginx", b"kworker", b"a name of 15 by"]
DIRECTIONS = [Direction.IN, Direction.OUT, Direction.UNKNOWN]


def _owners() -> Owners:
    return Owners(lambda pid, start, comm: comm, lambda pid, comm: comm.startswith(b"kw"))


@dataclass
class World:
    """Sockets that come, go and change."""

    random: np.random.Generator
    flows: dict[int, dict[str, Any]] = field(default_factory=dict)
    before: dict[int, bytes] = field(default_factory=dict)
    cookie: int = 0

    def born(self) -> None:
        self.cookie += 1
        listens = self.random.integers(4) == 0
        self.flows[self.cookie] = flow(
            self.cookie,
            state=State.LISTEN if listens else self._one(STATES),
            inode=self.cookie if listens or self.random.integers(2) else 0,
            local=("10.0.0.1", int(self.random.integers(80, 82))),
            peer=("0.0.0.0", 0) if listens else ("10.0.0.2", 5000 + self.cookie),
            direction=self._one(DIRECTIONS),
            pid=0,
            name=b"",
        )
        self._called(self.flows[self.cookie])

    def _called(self, one: dict[str, Any]) -> None:
        one["pid"] = int(self.random.integers(0, 4))
        one["name"] = NAMES[one["pid"]]

    def _one(self, of: list[Any]) -> Any:
        return of[self.random.integers(len(of))]

    def dies(self) -> None:
        if self.flows:
            del self.flows[self._one(list(self.flows))]

    def changes(self) -> None:
        if self.flows:
            one = self.flows[self._one(list(self.flows))]
            name = self._one(["inode", "state", "pid", "direction", "recv_q"])
            if name == "pid":
                self._called(one)
                return
            one[name] = {
                "inode": one["cookie"] - one["inode"],
                "state": one["state"] if one["state"] == State.LISTEN else self._one(STATES),
                "direction": self._one(DIRECTIONS),
                "recv_q": 1,
            }[name]

    def turns(self) -> None:
        cookies = list(self.flows)
        self.random.shuffle(cookies)
        self.flows = {cookie: self.flows[cookie] for cookie in cookies}

    def descriptors(self) -> Records:
        held = [one for one in self.flows.values() if one["inode"] and self.random.integers(4)]
        found = np.zeros(len(held), OWNER)
        for at, one in enumerate(held):
            found[at]["cookie"], found[at]["inode"], found[at]["fd"] = one["cookie"], one["inode"], 7
            found[at]["pid"], found[at]["comm"] = 1 + one["cookie"] % 3, b"holder"
        return found

    def tick(self) -> tuple[Records, Records, Any]:
        sockets, events, _ = records(list(self.flows.values()))
        told = {cookie: sockets[at].tobytes() + events[at].tobytes() for at, cookie in enumerate(self.flows)}
        changed = [at for at, cookie in enumerate(self.flows) if self.before.get(cookie) != told[cookie]]
        self.before = told
        return sockets, events, np.array(changed, np.intp)


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    ticks=st.lists(
        st.lists(st.sampled_from(["born", "born", "dies", "changes", "changes", "turns", "learn"]), max_size=5),
        min_size=2,
        max_size=20,
    ),
)
def test_owners_of_what_changed(seed: int, ticks: list[list[str]]) -> None:
    world, some, every = World(np.random.default_rng(seed)), _owners(), _owners()
    for _ in range(8):
        world.born()
    before: dict[int, bytes] = {}
    for steps in ticks:
        for step in steps:
            if step != "learn":
                getattr(world, step)()
        sockets, events, changed = world.tick()
        if "learn" in steps:
            rows = world.descriptors()
            some.learn(rows, sockets)
            every.learn(rows, sockets)
        ours, theirs = some.assign(sockets, events, changed), every.assign(sockets, events)
        assert np.array_equal(ours, theirs)
        now = {int(cookie): ours[at].tobytes() for at, cookie in enumerate(sockets["cookie"])}
        if some.changed is not None:
            told = set(some.changed.tolist())
            other = {at for at, cookie in enumerate(now) if before.get(cookie) != now[cookie]}
            assert other <= told
        before = now
