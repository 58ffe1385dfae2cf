"""The real program on the real kernel: what it tells of connections whose every byte is known."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tcptop_ops.bpf import attach, kernel_calls, kernel_offsets
from tcptop_ops.bpf.attach import ALL_FLAGS, EVENT_FLAGS, MODES, RETIRE_AFTER
from tcptop_ops.explain.operators import OPERATORS
from tcptop_ops.model.enums import RetransClass, State
from tcptop_ops.model.flows import Flows
from tcptop_ops.text import address
from tcptop_ops.views import view
from tests.live.watch import Watch
from tests.support.lab import Lab, Link, Traffic
from tests.support.leftovers import wait_until
from tests.support.witness import RetransmitTracepoint, snmp, ss_socket, wait_quiet

SENT, ANSWERED = 70_001, 1_003
LINEAR_TIMEOUTS = Path("/proc/sys/net/ipv4/tcp_syn_linear_timeouts")
"""Since Linux 6.5 the first timeouts of a SYN do not double."""

NUMBER = {operator.name: operator.number for operator in OPERATORS}


@pytest.fixture
def link(lab: Lab) -> Link:
    return lab.link("near", "far", offload=False)


def connected(lab: Lab, link: Link, cgroup: Path, mode: str = "serve-sink", count: int = 0) -> tuple[Traffic, Traffic]:
    """A server and a client that holds its connection, both in the cgroup."""
    server = lab.server(link.b.ns, mode, count, cgroup=cgroup, then="hold" if count else "close", comm="farside")
    client = lab.client(
        link.a.ns, "connect-only", address=link.b.ipv4, port=server.port, cgroup=cgroup, comm="nearside"
    )
    client.expect("done")
    return server, client


def test_bytes_direction_and_owner_are_exact_while_open(lab: Lab, link: Link, cgroup: Path, watch: Watch) -> None:
    server, client = connected(lab, link, cgroup, "serve-sink", SENT)
    client.tell(f"send {SENT}")
    assert server.expect("received") == str(SENT)
    wait_quiet(link.a.ns, client.port)
    out = watch.open(client.port)
    assert (out["bytes_acked"], out["bytes_received"]) == (SENT + 1, 0), "the SYN counts, as in tcp_info"
    assert (out["direction"], out["origin"], out["state"]) == ("out", "new", "ESTAB")
    assert (out["pid"], out["process"], out["uid"], out["user"]) == (client.pid, "nearside", 0, "root")
    assert (out["raddr"], out["rport"], out["laddr"]) == (link.b.ipv4, server.port, link.a.ipv4)
    assert out["connect_ms"] is not None
    assert out["age_s"] is not None
    assert out["cgroup"] == "/" + str(cgroup.relative_to(cgroup.parent.parent))
    into = watch.open(server.port)
    assert (into["bytes_received"], into["bytes_acked"]) == (SENT, 0)
    assert (into["direction"], into["pid"], into["process"]) == ("in", server.pid, "farside")
    assert into["netns"] != out["netns"]


def test_the_final_record_has_everything(lab: Lab, link: Link, cgroup: Path, watch: Watch) -> None:
    server = lab.server(link.b.ns, "serve-echo", cgroup=cgroup, then="close", comm="farside")
    client = lab.client(
        link.a.ns,
        "exchange",
        ANSWERED,
        address=link.b.ipv4,
        port=server.port,
        cgroup=cgroup,
        then="close",
        comm="nearside",
    )
    client.expect("done")
    out, into = watch.closed(client.port), watch.closed(server.port)
    assert (out["end"], into["end"]) == ("closed", "peer-closed")
    assert out["bytes_acked"] == ANSWERED + 2, "SYN and FIN count"
    assert out["bytes_received"] - ANSWERED in (0, 1), "the peer's FIN counts if it came before the close"
    assert into["bytes_received"] == ANSWERED + 1
    assert into["bytes_acked"] - ANSWERED in (0, 1)
    assert (out["process"], out["pid"], into["process"]) == ("nearside", client.pid, "farside")
    assert into["pid"] == server.pid
    states = int(watch.events(client.port)["states"])
    active = {State.SYN_SENT, State.ESTABLISHED, State.FIN_WAIT1, State.FIN_WAIT2, State.CLOSE}
    assert states == sum(1 << s for s in active)
    passive = {State.SYN_RECV, State.ESTABLISHED, State.CLOSE_WAIT, State.LAST_ACK, State.CLOSE}
    assert int(watch.events(server.port)["states"]) == sum(1 << s for s in passive)
    assert watch.flows.totals.connections == 1, "the listener stays"


def test_retransmits_equal_the_kernels_own_witnesses(lab: Lab, link: Link, cgroup: Path, watch: Watch) -> None:
    count = 1_500_001
    server, client = connected(lab, link, cgroup, "serve-sink", count)
    link.loss.set(3)
    with RetransmitTracepoint(lab, server.port) as tracepoint:
        client.tell(f"send {count}")
        assert server.expect("received", 60) == str(count)
        link.loss.set(0)
        witness = wait_quiet(link.a.ns, client.port)
        seen = [event for event in tracepoint.events() if not event.err]
    assert lab.dropped(link.b.ns) > 0
    row, events = watch.open(client.port), watch.events(client.port)
    assert row["retrans_segs"] == witness.value("retrans_total") > 0
    assert row["retrans_win"] == row["retrans_segs"], "its whole life lies within the window"
    assert int(events["retrans_calls"]) == len(seen)
    assert int(events["retrans"].sum()) == row["retrans_segs"] == snmp(link.a.ns)["Tcp.RetransSegs"]
    assert int(events["retrans"][RetransClass.RECOVERY]) > 0
    assert row["retrans_pct"] == pytest.approx(100 * row["retrans_segs"] / witness.value("data_segs_out"), abs=0.001)


def test_a_connect_into_a_black_hole(lab: Lab, link: Link, cgroup: Path, watch: Watch) -> None:
    port = 4444
    hole = lab.black_hole(link.b.ns, port)
    client = lab.client(link.a.ns, "connect-only", address=link.b.ipv4, port=port, cgroup=cgroup, comm="hanging")
    wait_until(lambda: watch.lists(client.port), what="the SYN")
    wait_until(lambda: int(watch.events(client.port)["rto_events"]) >= 2, 10, "two SYN timeouts")
    row, events = watch.open(client.port), watch.events(client.port)
    witness = ss_socket(link.a.ns, local_port=client.port)
    assert witness is not None
    assert (row["state"], row["direction"], row["pid"]) == ("SYN-SENT", "out", client.pid)
    assert row["retrans_segs"] == witness.value("retrans_total") >= 2
    assert row["rto_events"] == int(events["rto_events"])
    doubled = 0 if LINEAR_TIMEOUTS.exists() else row["rto_events"] - 1
    assert int(events["rto_us"]) == 1_000_000 << doubled, "TCP_TIMEOUT_INIT, tcp_syn_linear_timeouts"
    assert int(events["retrans"][RetransClass.RTO]) == row["retrans_segs"]
    assert hole.dropped() == row["retrans_segs"] + 1
    client.end()
    assert watch.closed(client.port)["end"] == "abandoned"


def test_how_connects_fail(lab: Lab, link: Link, cgroup: Path, watch: Watch) -> None:
    client = lab.client(link.a.ns, "connect-only", address=link.b.ipv4, port=4445, cgroup=cgroup)
    assert client.expect("failed") == "ECONNREFUSED"
    row = watch.closed(client.port)
    assert (row["end"], row["direction"], row["pid"]) == ("refused", "out", client.pid)


def test_a_reset_is_told_on_both_sides(lab: Lab, link: Link, cgroup: Path, watch: Watch) -> None:
    server, client = connected(lab, link, cgroup)
    client.tell("reset")
    assert watch.closed(client.port)["end"] == "reset"
    assert watch.closed(server.port)["end"] == "reset"


def test_a_link_local_address_has_its_device(lab: Lab, link: Link, cgroup: Path, watch: Watch) -> None:
    script = (
        "import socket, sys\n"
        "server = socket.socket(socket.AF_INET6); server.bind(('::', 0)); server.listen()\n"
        f"index = socket.if_nametoindex({link.a.device!r})\n"
        "mine = [line.split() for line in open('/proc/net/if_inet6') if line.split()[0].startswith('fe80')]\n"
        "address = socket.inet_ntop(socket.AF_INET6, bytes.fromhex(mine[0][0]))\n"
        "client = socket.socket(socket.AF_INET6); client.connect((address, server.getsockname()[1], 0, index))\n"
        "print(client.getsockname()[1], address, flush=True); sys.stdin.read()\n"
    )
    program = lab.popen(link.a.ns, [sys.executable, "-I", "-c", script], cgroup=cgroup)
    assert program.stdout is not None
    port, address = program.stdout.readline().split()
    assert watch.open(int(port))["raddr"] == f"{address}%{link.a.device}"


def test_handshakes_that_are_not_done(lab: Lab, link: Link, cgroup: Path, watch: Watch) -> None:
    server = lab.server(link.b.ns, "serve-sink", cgroup=cgroup)
    back = lab.loss(link.a, 100)
    clients = [
        lab.client(link.a.ns, "connect-only", cgroup=cgroup, address=link.b.ipv4, port=server.port) for _ in range(3)
    ]
    wait_until(lambda: back.dropped() >= len(clients), what="SYN-ACKs lost")
    [row] = [row for row in watch.rows() if row["state"] == "LISTEN"]
    assert row["syn_recv"] == len(clients)
    at = next(i for i in range(4) if watch.flows.live.sockets["state"][i] == State.LISTEN)
    [(source, count)] = view.top_sources(watch.flows, watch.flows.live.take(np.array([at])))
    assert (address(source), count) == (link.a.ipv4, len(clients))
    assert watch.flows.totals.by_state["SYN-RECV"] == len(clients)
    assert len(watch.flows.live) == 1 + len(clients), "no row for a request socket"


def received(watch: Watch, port: int, count: int) -> bool:
    return bool(watch.open(port)["bytes_received"] == count)


def test_seven_flags_at_birth_and_three_after(lab: Lab, link: Link, cgroup: Path, watch: Watch) -> None:
    server, client = connected(lab, link, cgroup)
    assert watch.flags(client.port) == watch.flags(server.port) == ALL_FLAGS
    for turn in range(RETIRE_AFTER):
        client.tell("send 1")
        assert client.expect("sent") == "1"
        wait_until(partial(received, watch, server.port, turn + 1), what="a byte")
    assert watch.flags(client.port) == watch.flags(server.port) == EVENT_FLAGS
    told = {"RTT_CB", "PARSE_HDR_OPT_CB", "HDR_OPT_LEN_CB", "STATE_CB", "TCP_CONNECT_CB", "TIMEOUT_INIT", "NEEDS_ECN"}
    assert all(watch.calls(NUMBER[name]) for name in told | {"ACTIVE_ESTABLISHED_CB", "PASSIVE_ESTABLISHED_CB"})
    assert watch.calls(NUMBER["WRITE_HDR_OPT_CB"]) == 0, "nothing was reserved"


@pytest.mark.parametrize("mode", ["every", "events"])
def test_other_sets_of_callbacks(lab: Lab, link: Link, cgroup: Path, mode: str) -> None:
    with Watch(cgroup, callbacks=mode) as watch:
        server, client = connected(lab, link, cgroup, "serve-sink", SENT)
        client.tell(f"send {SENT}")
        server.expect("received")
        assert watch.flags(client.port) == MODES[mode]["BIRTH_FLAGS"]
        assert watch.flags(server.port) == MODES[mode]["BIRTH_FLAGS"]
        assert (watch.calls(NUMBER["RTT_CB"]) > 0) == (mode == "every")


def test_a_receiver_is_exact_and_so_is_one_that_falls_silent(lab: Lab, link: Link, cgroup: Path, watch: Watch) -> None:
    server, client = connected(lab, link, cgroup, "serve-sink", SENT)
    client.tell(f"send {SENT}")
    server.expect("received")
    assert watch.open(server.port)["bytes_received"] == SENT
    silent = watch.open(server.port)
    assert (silent["bytes_received"], silent["rx_bytes_per_s"]) == (SENT, 0)
    client.tell("send 5")
    client.expect("sent")
    wait_until(lambda: watch.open(server.port)["bytes_received"] == SENT + 5, what="five bytes more")


@pytest.mark.needs("HAVE_ADOPTION")
def test_a_connection_older_than_the_program(lab: Lab, link: Link, cgroup: Path) -> None:
    server, client = connected(lab, link, cgroup)
    with Watch(cgroup) as watch:
        row = watch.open(client.port)
        assert (row["origin"], row["direction"], row["state"], row["pid"]) == ("adopted", None, "ESTAB", client.pid)
        assert watch.flags(client.port) == EVENT_FLAGS
        client.tell("close")
        assert watch.closed(client.port)["end"] == "closed"
        assert watch.closed(server.port)["end"] == "peer-closed"


@pytest.mark.needs("HAVE_ADOPTION")
def test_retransmits_of_an_adopted_connection_are_exact_from_then_on(lab: Lab, link: Link, cgroup: Path) -> None:
    count = 400_001
    server, client = connected(lab, link, cgroup, "serve-sink", 2 * count)
    link.loss.set(3)
    client.tell(f"send {count}")
    client.expect("sent", 60)
    link.loss.set(0)
    before = wait_quiet(link.a.ns, client.port).value("retrans_total")
    with Watch(cgroup) as watch, RetransmitTracepoint(lab, server.port) as tracepoint:
        first = watch.flows.tick
        assert (first, watch.open(client.port)["retrans_segs"]) == (0, before)
        link.loss.set(3)
        client.tell(f"send {count}")
        assert server.expect("received", 60) == str(2 * count)
        link.loss.set(0)
        since = wait_quiet(link.a.ns, client.port).value("retrans_total") - before
        row, events = watch.open(client.port), watch.events(client.port)
        assert before > 0
        assert row["retrans_win"] == int(events["retrans"].sum()) == since > 0
        assert int(events["retrans_calls"]) == len([event for event in tracepoint.events() if not event.err])
        assert row["retrans_segs"] == before + since


def test_short_connections_are_all_listed(lab: Lab, link: Link, cgroup: Path, watch: Watch) -> None:
    count = 3000
    server = lab.server(link.b.ns, "serve-sink", cgroup=cgroup, then="close", comm="farside")
    client = lab.client(
        link.a.ns, "short-connections", count, address=link.b.ipv4, port=server.port, cgroup=cgroup, comm="nearside"
    )
    ticks: list[Flows] = []

    def closed() -> int:
        ticks.append(watch.tick())
        return sum(flows.totals.closed for flows in ticks)

    client.expect("done", 60)
    wait_until(lambda: closed() >= 2 * count, 10, f"{2 * count} ends")
    watch.tick()
    assert closed() == 2 * count
    assert sum(flows.totals.opened for flows in ticks) == 2 * count
    assert len(watch.flows.closed) == 2 * count
    names, counts = np.unique(watch.flows.closed.owners["name"], return_counts=True)
    assert dict(zip(names.tolist(), counts.tolist(), strict=True)) == {b"farside": count, b"nearside": count}


def test_a_full_map_is_counted_and_said(lab: Lab, link: Link, cgroup: Path) -> None:
    with Watch(cgroup, map_size=2) as watch:
        server = lab.server(link.b.ns, "serve-sink", cgroup=cgroup)  # the first row: the listener
        clients = [
            lab.client(link.a.ns, "connect-only", address=link.b.ipv4, port=server.port, cgroup=cgroup)
            for _ in range(3)
        ]
        for client in clients:
            client.expect("done")
        flows = watch.tick()
        assert int(flows.snapshot.counters["untracked"]) >= 5
        assert "--map-size" in flows.snapshot.notes[0]
        assert len(flows.live) == 7, "the iterator lists them all the same"


def test_sockets_elsewhere_are_not_listed(lab: Lab, link: Link, cgroup: Path, watch: Watch) -> None:
    server = lab.server(link.b.ns, "serve-sink")
    client = lab.client(link.a.ns, "connect-only", address=link.b.ipv4, port=server.port)
    client.expect("done")
    assert len(watch.tick()) == 0
    assert int(watch.flows.snapshot.counters["calls"].sum()) == 0


@pytest.mark.parametrize("features", [["HAVE_PID", "HAVE_COMM", "HAVE_CGROUP"], []], ids=["no BTF", "nothing"])
def test_a_kernel_without_iterators(
    lab: Lab, link: Link, cgroup: Path, monkeypatch: pytest.MonkeyPatch, features: list[str]
) -> None:
    monkeypatch.setattr(attach, "attempts", lambda *_: [features])
    with Watch(cgroup) as watch:
        server, client = connected(lab, link, cgroup)
        client.tell(f"send {SENT}")
        client.expect("sent")
        wait_until(partial(received, watch, server.port, SENT), what="all bytes")
        wait_quiet(link.a.ns, client.port)
        row = watch.open(client.port)
        assert (row["bytes_acked"], row["direction"], row["origin"]) == (SENT + 1, "out", "new")
        wait_until(lambda: watch.open(client.port)["pid"], what="a look at all descriptors")
        row = watch.open(client.port)
        assert (row["pid"], row["process"]) == (client.pid, "nearside")
        client.tell("close")
        out, into = watch.closed(client.port), watch.closed(server.port)
        assert (out["end"], out["bytes_acked"], out["raddr"]) == ("closed", SENT + 2, link.b.ipv4)
        assert (into["end"], into["bytes_received"]) == ("peer-closed", SENT + 1)


def test_a_kernel_without_adoption(lab: Lab, link: Link, cgroup: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the BTF lacks the option's name, as before 6.12, what has to do with it is not even compiled."""
    older = replace(kernel_offsets.of_kernel(), has_option=False)
    monkeypatch.setattr(kernel_offsets, "of_kernel", lambda: older)
    _, old = connected(lab, link, cgroup)
    with Watch(cgroup) as watch:
        assert "HAVE_ADOPTION" not in watch.source.attached.features
        assert watch.source.attached.refused == {}
        _, young = connected(lab, link, cgroup)
        assert (watch.open(old.port)["origin"], watch.open(young.port)["origin"]) == ("listed", "new")
        assert (watch.flags(old.port), watch.flags(young.port)) == (0, ALL_FLAGS)


def test_a_delayed_ack_is_told(lab: Lab, link: Link, cgroup: Path, watch: Watch) -> None:
    """A socket whose data nobody reads acknowledges late; Nagle's algorithm waits for that with the next byte."""
    server = lab.server(link.b.ns, "serve-sink", 1, cgroup=cgroup, address=link.b.ipv4, then="hold")
    client = lab.client(link.a.ns, "connect-only", address=link.b.ipv4, port=server.port, cgroup=cgroup)
    client.expect("done")
    server.expect("accepted")
    enough = threading.Event()

    def write() -> None:
        while not enough.wait(0.002):
            client.tell("send 1")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        wait_until(lambda: watch.open(server.port)["timer"] == "delack", 20, "an acknowledgement that is put off")
    finally:
        enough.set()
        writer.join()


def attached_to(cgroup: Path) -> list[int]:
    fd = os.open(cgroup, os.O_RDONLY)
    try:
        return kernel_calls.programs_at(fd)[0]
    finally:
        os.close(fd)


@pytest.mark.needs("HAVE_ADOPTION")
def test_nothing_is_left_after_close(lab: Lab, link: Link, cgroup: Path) -> None:
    with Watch(cgroup) as watch:
        _server, client = connected(lab, link, cgroup)
        assert watch.flags(client.port) == ALL_FLAGS
        assert len(attached_to(cgroup)) == 1
    assert attached_to(cgroup) == []
    with Watch(cgroup, adopt=False) as later:
        assert later.flags(client.port) == 0
        assert later.open(client.port)["origin"] == "listed"


def test_nothing_is_attached_after_sigkill(cgroup: Path) -> None:
    code = (
        "import sys; from tests.live.watch import Watch; from pathlib import Path;"
        f"w = Watch(Path({str(cgroup)!r})); print('up', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "up\n"
        assert len(attached_to(cgroup)) == 1
        child.send_signal(signal.SIGKILL)
    wait_until(lambda: attached_to(cgroup) == [], what="the link to die with its process")
