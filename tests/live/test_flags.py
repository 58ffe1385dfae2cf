"""Callback flags belong to sockets, and to whoever set them first: what is adopted, given back and left alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from tcptop_ops.bpf import load_shedding
from tcptop_ops.bpf.attach import ALL_FLAGS, EVENT_FLAGS
from tests.live.conftest import BCC_PYTHON
from tests.live.watch import Watch
from tests.support.lab import Lab, Link, Traffic
from tests.support.leftovers import wait_until

SETTER = Path(__file__).with_name("setter.py")
RTO, RETRANS, STATE, RTT = 1, 2, 4, 8  # BPF_SOCK_OPS_*_CB_FLAG


@pytest.fixture
def link(lab: Lab) -> Link:
    return lab.link("near", "far", offload=False)


@contextmanager
def setter(lab: Lab, cgroup: Path, flags: str) -> Iterator[None]:
    """Another program at the cgroup, for a while."""
    other = Traffic(lab.popen(None, [BCC_PYTHON, "-I", str(SETTER), str(cgroup), flags]))
    other.expect("ready")
    try:
        yield
    finally:
        other.end()


def connected(lab: Lab, link: Link, cgroup: Path) -> tuple[Traffic, Traffic]:
    server = lab.server(link.b.ns, address=link.b.ipv4, cgroup=cgroup)
    client = lab.client(link.a.ns, "connect-only", address=link.b.ipv4, port=server.port, cgroup=cgroup)
    client.expect("done")
    server.expect("accepted")
    return server, client


def flags_left(cgroup: Path, *ports: int) -> list[int]:
    """As an iterator that changes nothing reads them."""
    with Watch(cgroup, adopt=False) as watch:
        return [watch.flags(port) for port in ports]


def found(watch: Watch, port: int) -> int:
    return int(watch.events(port)["found"])


@pytest.mark.needs("HAVE_ADOPTION")
def test_nothing_is_asked_of_old_sockets_without_adoption(lab: Lab, link: Link, cgroup: Path) -> None:
    server, client = connected(lab, link, cgroup)
    with Watch(cgroup, adopt=False) as watch:
        assert watch.flags(client.port) == watch.flags(server.port) == 0
        assert {row["origin"] for row in watch.rows()} == {"listed"}
        assert int(watch.tick().snapshot.counters["adopted"]) == 0
        _, young = connected(lab, link, cgroup)
        assert (watch.open(young.port)["origin"], watch.flags(young.port)) == ("new", ALL_FLAGS)
        assert watch.flags(client.port) == 0
    assert flags_left(cgroup, client.port, young.port) == [0, 0]


@pytest.mark.needs("HAVE_ADOPTION")
def test_bits_that_somebody_set_before_stay(lab: Lab, link: Link, cgroup: Path) -> None:
    with setter(lab, cgroup, str(RTO | RTT)):
        server, client = connected(lab, link, cgroup)
    ports = client.port, server.port
    assert flags_left(cgroup, *ports) == [RTO | RTT] * 2
    with Watch(cgroup) as watch:
        assert watch.open(client.port)["origin"] == "adopted"
        assert [found(watch, port) for port in ports] == [RTO | RTT] * 2
        assert [watch.flags(port) for port in ports] == [EVENT_FLAGS | RTT] * 2
    assert flags_left(cgroup, *ports) == [RTO | RTT] * 2


@pytest.mark.needs("HAVE_ADOPTION")
def test_a_socket_that_has_all_three_is_adopted_too(lab: Lab, link: Link, cgroup: Path) -> None:
    """It calls every program that is attached: ours only has to remember it."""
    with setter(lab, cgroup, str(EVENT_FLAGS)):
        server, client = connected(lab, link, cgroup)
    with Watch(cgroup) as watch:
        assert (watch.open(client.port)["origin"], found(watch, client.port)) == ("adopted", EVENT_FLAGS)
        client.tell("close")
        assert watch.closed(client.port)["end"] == "closed"
        server.tell("close")
        assert watch.closed(server.port)["end"] == "peer-closed"


def test_all_three_are_left_where_somebody_set_them(lab: Lab, link: Link, cgroup: Path) -> None:
    with setter(lab, cgroup, str(EVENT_FLAGS)):
        server, client = connected(lab, link, cgroup)
    with Watch(cgroup) as watch:
        watch.tick()
    assert flags_left(cgroup, client.port, server.port) == [EVENT_FLAGS] * 2


@pytest.mark.needs("HAVE_ADOPTION")
def test_flags_that_somebody_overwrote_are_set_again(lab: Lab, link: Link, cgroup: Path) -> None:
    with Watch(cgroup) as watch, setter(lab, cgroup, "0"):
        _, client = connected(lab, link, cgroup)
        assert watch.flags(client.port) == 0, "as this pass found them"
        wait_until(lambda: watch.flags(client.port) == EVENT_FLAGS, what="the flags to be set again")
        assert watch.open(client.port)["origin"] == "new"
        client.tell("close")
        assert watch.closed(client.port)["end"] == "closed"


@pytest.mark.needs("HAVE_ADOPTION")
def test_nothing_is_taken_away_beside_another_program(lab: Lab, link: Link, cgroup: Path) -> None:
    """It may live by a bit that both of us set."""
    server, client = connected(lab, link, cgroup)
    with setter(lab, cgroup, f"|{RTO}"):
        with Watch(cgroup) as watch:
            assert [program["name"] for program in watch.source.attached.neighbours] == ["other"]
            assert watch.flags(client.port) == EVENT_FLAGS
        assert flags_left(cgroup, client.port, server.port) == [EVENT_FLAGS] * 2


def test_nor_beside_one_that_came_later(lab: Lab, link: Link, cgroup: Path) -> None:
    with Watch(cgroup) as watch, setter(lab, cgroup, f"|{RTO}"):
        _, client = connected(lab, link, cgroup)
        assert watch.flags(client.port) == ALL_FLAGS
        watch.source.close()
        [left] = flags_left(cgroup, client.port)
    assert left & RTO, "it asked for this one, after us"


@pytest.mark.needs("HAVE_ADOPTION")
def test_a_listener_and_its_children(lab: Lab, link: Link, cgroup: Path) -> None:
    """Children inherit a listener's flags: what they have of ours goes with us."""
    server = lab.server(link.b.ns, address=link.b.ipv4, cgroup=cgroup)
    with Watch(cgroup) as watch:
        client = lab.client(link.a.ns, "connect-only", address=link.b.ipv4, port=server.port, cgroup=cgroup)
        client.expect("done")
        watch.tick()
        sockets = watch.flows.live.sockets
        [listener] = sockets[sockets["rport"] == 0]
        assert int(listener["cb_flags"]) == EVENT_FLAGS, "a listener never gets the per-packet ones"
        assert found(watch, server.port) == 0
    with Watch(cgroup, adopt=False) as later:
        assert np.all(later.flows.live.sockets["cb_flags"] == 0)
        assert len(later.flows.live) == 3


def test_where_very_many_connections_come_new_ones_are_asked_for_events_alone(
    lab: Lab, link: Link, cgroup: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Watch(cgroup) as watch:
        monkeypatch.setattr(load_shedding, "FROM_PER_S", 0)  # one is very many
        monkeypatch.setattr(load_shedding, "UNTIL_PER_S", -1)
        _, first = connected(lab, link, cgroup)
        assert watch.flags(first.port) == ALL_FLAGS
        flows = watch.tick()
        assert flows.snapshot.callbacks_mode == "light"
        assert any(note.startswith("light: ") for note in flows.snapshot.notes)
        _, second = connected(lab, link, cgroup)
        assert watch.flags(second.port) == EVENT_FLAGS
        monkeypatch.setattr(load_shedding, "FROM_PER_S", 1e9)
        monkeypatch.setattr(load_shedding, "CALM_S", 0)
        assert watch.tick().snapshot.callbacks_mode == "all"
        _, third = connected(lab, link, cgroup)
        assert watch.flags(third.port) == ALL_FLAGS


def test_what_the_command_line_asks_for_stands(
    lab: Lab, link: Link, cgroup: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_shedding, "FROM_PER_S", 0)
    with Watch(cgroup, callbacks="all") as watch:
        connected(lab, link, cgroup)
        assert watch.tick().snapshot.callbacks_mode == "all"
