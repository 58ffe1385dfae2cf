"""The lab does what it says; otherwise what is tested with it would mean nothing."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import leftovers
from tests.support.lab import Lab, Link, Traffic
from tests.support.leftovers import sweep_leftovers, wait_until
from tests.support.netns import LabError, in_netns
from tests.support.witness import RetransmitTracepoint, SsSocket, snmp, ss_socket, ss_sockets, wait_quiet

ODD = 3_000_001  # bytes
FAMILIES = pytest.mark.parametrize("family", ["ipv4", "ipv6"])


def connected(lab: Lab, link: Link, family: str = "ipv4") -> tuple[Traffic, Traffic]:
    """A server, and a client whose connection stands; nothing was sent yet."""
    address = getattr(link.b, family)
    server = lab.server(link.b.ns, "serve-sink", ODD, address=address)
    client = lab.client(link.a.ns, "connect-only", address=address, port=server.port)
    client.expect("done")
    return server, client


def send_odd(link: Link, server: Traffic, client: Traffic) -> SsSocket:
    """ODD bytes, arrived and acknowledged; the sender's socket then."""
    client.tell(f"send {ODD}")
    assert server.expect("received", timeout=60) == str(ODD)
    return wait_quiet(link.a.ns, client.port)


@FAMILIES
def test_loss_makes_retransmits_that_all_witnesses_count(lab: Lab, family: str) -> None:
    link = lab.link("sender", "receiver", offload=False)
    server, client = connected(lab, link, family)
    link.loss.set(3)
    with RetransmitTracepoint(lab, server.port) as tracepoint:
        quiet = send_odd(link, server, client)
        events = [event for event in tracepoint.events() if not event.err]

    # One segment a packet, so segments and events are the same here. All that was dropped was data, and was sent again.
    assert quiet.value("retrans_total") == len(events) == snmp(link.a.ns)["Tcp.RetransSegs"]
    assert len(events) >= lab.dropped(link.b.ns) > 0
    assert {(event.sport, event.dport, event.state) for event in events} == {
        (client.port, server.port, "TCP_ESTABLISHED")
    }
    assert {(event.source, event.target) for event in events} == {(getattr(link.a, family), getattr(link.b, family))}


def test_with_offloads_a_retransmit_may_be_many_segments(lab: Lab) -> None:
    link = lab.link("sender", "receiver")
    server, client = connected(lab, link)
    link.loss.every(20)
    with RetransmitTracepoint(lab, server.port) as tracepoint:
        quiet = send_odd(link, server, client)
        events = [event for event in tracepoint.events() if not event.err]
    counters = snmp(link.a.ns)

    assert quiet.value("retrans_total") == counters["Tcp.RetransSegs"] >= len(events) > 0
    assert counters["Ip.OutRequests"] < counters["Tcp.OutSegs"]


def test_without_offloads_each_packet_is_a_segment(lab: Lab) -> None:
    link = lab.link("sender", "receiver", offload=False)
    server, client = connected(lab, link)
    quiet = send_odd(link, server, client)
    counters = snmp(link.a.ns)

    assert counters["Ip.OutRequests"] >= counters["Tcp.OutSegs"] >= ODD // quiet.value("mss")
    assert lab.dropped(link.b.ns) == 0, "what is sent again nevertheless was overtaken on the other CPU"


def test_loss_changes_at_run_time(lab: Lab) -> None:
    link = lab.link("sender", "receiver", loss_percent=100)
    server = lab.server(link.b.ns)
    client = lab.client(link.a.ns, "send", 7, address=link.b.ipv4, port=server.port)
    wait_until(link.loss.dropped)
    link.loss.set(0)
    client.expect("sent")
    dropped = link.loss.dropped()
    wait_quiet(link.a.ns, client.port)

    assert link.loss.dropped() == dropped == lab.dropped(link.b.ns)


def test_loss_on_the_way_back(lab: Lab) -> None:
    link = lab.link("sender", "receiver")
    server, client = connected(lab, link)
    back = lab.loss(link.a)
    back.every(2)
    send_odd(link, server, client)

    assert back.dropped() == lab.dropped(link.a.ns) > 0
    assert link.loss.dropped() == 0


@FAMILIES
def test_a_black_hole_leaves_the_client_in_syn_sent_until_it_opens(lab: Lab, family: str) -> None:
    link = lab.link("client", "server")
    address = getattr(link.b, family)
    server = lab.server(link.b.ns, "serve-sink", address=address)
    hole = lab.black_hole(link.b.ns, server.port)
    client = lab.client(link.a.ns, "connect-only", address=address, port=server.port)

    wait_until(lambda: hole.dropped() >= 2, 15, "a SYN sent again")
    waiting = ss_socket(link.a.ns, local_port=client.port)
    assert waiting
    assert waiting.state == "SYN-SENT"
    assert waiting.value("retrans_total") >= 1
    assert waiting.timer.startswith("on,")

    hole.open()
    client.expect("connected", timeout=30)
    assert hole.dropped() == snmp(link.a.ns)["Tcp.RetransSegs"]  # one more was sent, and one of all was the first


def test_a_rate_makes_a_queue(lab: Lab) -> None:
    link = lab.link("sender", "receiver", rate="20mbit", offload=False)
    server, client = connected(lab, link, "ipv6")
    quiet = send_odd(link, server, client)

    assert link.router
    assert quiet.value("rtt") > 10 > quiet.value("minrtt")  # milliseconds; the queue holds 50
    assert quiet.congestion == "cubic"


def test_traffic_sends_exactly_and_shows_who_it_is(lab: Lab) -> None:
    link = lab.link("client", "server")
    source = lab.server(link.b.ns, "serve-source", ODD, comm="tct-source")
    reader = lab.client(
        link.a.ns, "receive", ODD, address=link.b.ipv4, port=source.port, source_port=40_001, congestion="reno"
    )
    assert reader.expect("received") == str(ODD)
    assert source.expect("accepted") == "40001"
    reading = ss_socket(link.a.ns, local_port=40_001)
    sending = wait_quiet(link.b.ns, source.port, state="ESTAB")

    assert reading
    assert (reading.peer, reading.peer_port, reading.congestion) == (link.b.ipv4, source.port, "reno")
    assert reading.value("bytes_received") == ODD
    assert sending.value("bytes_acked") == ODD  # it was connected to, so no SYN of its own is counted
    assert sending.congestion == "cubic"
    assert Path(f"/proc/{source.pid}/comm").read_text() == "tct-source\n"


def test_traffic_obeys_lines(lab: Lab) -> None:
    link = lab.link("client", "server")
    server = lab.server(link.b.ns)
    client = lab.client(link.a.ns, "send", 11, address=link.b.ipv4, port=server.port)
    client.expect("done")
    client.tell("send 6")
    assert client.expect("sent") == "6"
    client.tell("shutdown")
    assert server.expect("received") == "17"
    wait_until(lambda: ss_socket(link.b.ns, local_port=server.port, state="CLOSE-WAIT"))
    server.tell("close")
    server.expect("done")
    wait_until(lambda: ss_socket(link.a.ns, local_port=client.port, state="TIME-WAIT"))


def test_a_reset_ends_both_sides(lab: Lab) -> None:
    link = lab.link("client", "server")
    server = lab.server(link.b.ns)
    client = lab.client(link.a.ns, "connect-only", address=link.b.ipv4, port=server.port)
    client.expect("done")
    server.expect("accepted")
    client.tell("reset")
    with pytest.raises(LabError, match="ECONNRESET"):
        server.expect("received")
    assert [each.state for each in ss_sockets(link.a.ns)] == []


def test_exchanges_and_short_connections(lab: Lab) -> None:
    link = lab.link("client", "server")
    echo = lab.server(link.b.ns, "serve-echo", then="close")
    lab.client(link.a.ns, "exchange", 101, address=link.b.ipv4, port=echo.port, then="close").expect("done")
    lab.client(link.a.ns, "short-connections", 50, address=link.b.ipv4, port=echo.port).expect("done")

    assert snmp(link.a.ns)["Tcp.ActiveOpens"] == 51
    assert snmp(link.b.ns)["Tcp.PassiveOpens"] == 51
    assert snmp(link.b.ns)["TcpExt.ListenOverflows"] == 0


def test_listen_only_accepts_nothing(lab: Lab) -> None:
    link = lab.link("client", "server")
    server = lab.server(link.b.ns, "listen-only", backlog=1)
    client = lab.client(link.a.ns, "send-endless", address=link.b.ipv4, port=server.port)
    client.expect("connected")

    def limited() -> bool:
        found = ss_socket(link.a.ns, local_port=client.port)
        return found is not None and found.value("rwnd_limited") > 0

    wait_until(limited, what="a receiver's window that is full")


def test_processes_are_born_into_their_cgroup(lab: Lab) -> None:
    link = lab.link("client", "server")
    cgroup = lab.cgroup("service")
    server = lab.server(link.b.ns, cgroup=cgroup)
    listener = ss_socket(link.b.ns, local_port=server.port, state="LISTEN")

    assert listener
    assert listener.cgroup == f"/{lab.prefix}/service"
    assert (cgroup / "cgroup.procs").read_text().split() == [str(server.pid)]


def test_this_process_can_visit_a_cgroup_and_a_namespace(lab: Lab) -> None:
    link = lab.link("here", "there")
    before = Path("/proc/self/cgroup").read_text()
    with lab.inside(lab.cgroup("visitor")):
        listener = in_netns(link.a.ns, lambda: socket.create_server((link.a.ipv4, 0)))
    port = listener.getsockname()[1]
    seen = ss_socket(link.a.ns, local_port=port, state="LISTEN")
    listener.close()

    assert seen
    assert seen.cgroup == f"/{lab.prefix}/visitor"
    assert seen.inode
    assert Path("/proc/self/cgroup").read_text() == before
    with pytest.raises(ZeroDivisionError):
        in_netns(link.a.ns, lambda: 1 // 0)


def running(pid: int | str) -> bool:
    """Whether the process runs; one that is dead, but not buried yet by its parent, has no command line."""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except (FileNotFoundError, ProcessLookupError):
        return False


def fill_and_fail(lab: Lab) -> None:
    link = lab.link("client", "server", loss_percent=1, rate="1gbit")
    server = lab.server(link.b.ns, cgroup=lab.cgroup("busy"))
    lab.cgroup("empty")
    with RetransmitTracepoint(lab, server.port):
        assert len(leftovers.existing(lab.prefix)) == 5  # three namespaces, a cgroup, a trace instance
    shell = lab.popen(link.a.ns, ["sh", "-c", "sleep 1000 & echo $!; exec sleep 1000"])
    assert shell.stdout
    raise ZeroDivisionError(server.pid, int(shell.stdout.readline()))  # the latter is a child that we did not start


def test_everything_is_undone_after_an_error() -> None:
    lab = Lab()
    with pytest.raises(ZeroDivisionError) as failure, lab:
        fill_and_fail(lab)

    assert leftovers.existing(lab.prefix) == []
    assert [running(pid) for pid in failure.value.args] == [False, False]


KILLED = """
import sys
from tests.support.lab import Lab
from tests.support.witness import RetransmitTracepoint
lab = Lab().__enter__()
link = lab.link("client", "server", loss_percent=1)
server = lab.server(link.b.ns, cgroup=lab.cgroup("busy"))
tracepoint = RetransmitTracepoint(lab, server.port).__enter__()
print(lab.prefix, server.pid, flush=True)
sys.stdin.read()
"""


def test_everything_is_undone_when_the_owner_is_killed() -> None:
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", KILLED], cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout
        prefix, pid = owner.stdout.readline().split()
        assert len(leftovers.existing(prefix)) == 4
        os.kill(owner.pid, signal.SIGKILL)

    wait_until(lambda: not leftovers.existing(prefix), 10, "the watcher's tidying")
    assert not running(pid)


def test_the_sweep_takes_what_dead_owners_left_and_nothing_else(lab: Lab) -> None:
    ours = lab.namespace("kept")
    with subprocess.Popen(["true"]) as dead:
        pass
    orphan = f"{leftovers.MARK}{dead.pid}-orphan"
    subprocess.run(["ip", "netns", "add", orphan], check=True)

    assert orphan in sweep_leftovers()
    assert leftovers.existing(orphan) == []
    assert ours in "".join(leftovers.existing(lab.prefix))
