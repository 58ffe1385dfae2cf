"""Metrics: what is counted, how many series there can be, what a reader makes of them; and whom the server serves."""

from __future__ import annotations

import importlib.util
import re
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcptop_ops.cli import arguments, main
from tcptop_ops.errors import Failed, Unsupported, Usage
from tcptop_ops.host.signals import Stop
from tcptop_ops.model.enums import State
from tcptop_ops.model.records import COUNTERS
from tcptop_ops.outputs import metrics_server
from tcptop_ops.outputs.metric_family import EDGES_S, Family, Histogram, count_series
from tcptop_ops.outputs.metric_groups import DIMENSIONS, LONGEST_LABEL, OTHER, TOP
from tcptop_ops.outputs.metrics_server import MetricsServer
from tcptop_ops.outputs.openmetrics import MOST_SERIES, Metrics, Own
from tcptop_ops.tracking.tracker import Tracker
from tests.support.fakes import BOOT_NS, HOSTILE, FakeSource, finals, flow, scrambled, snapshot
from tests.support.leftovers import wait_until

OWN = Own(1.5, 30_000_000)


class Watched:
    """Ticks of made-up flows, a second apart; the families of the last one by name and labels."""

    def __init__(self, top: int = TOP) -> None:
        self.tracker, self.metrics = Tracker(), Metrics(top)
        self.seconds = -1
        self.families: tuple[Family, ...] = ()
        self.tick([])

    def tick(self, flows: list[dict[str, Any]], **rest: Any) -> Watched:
        self.seconds += 1
        return self.take(snapshot(self.seconds, flows, **rest))

    def take(self, at: Any) -> Watched:
        self.families = self.metrics.add(self.tracker.update(at), OWN)
        return self

    def family(self, name: str) -> dict[tuple[str, ...], Any]:
        [found] = [family for family in self.families if family.name == f"tcptop_{name}"]
        return dict(found.series)

    def value(self, name: str, *labels: str) -> Any:
        return self.family(name)[labels]

    def labels(self, dimension: str) -> set[str]:
        return {labels[0] for labels in self.family(f"{dimension}_connections")} - {OTHER}


def test_counters_go_on_and_gauges_are_now() -> None:
    watched = Watched()
    watched.tick([flow(1), flow(2)], opened=2)
    watched.tick([flow(1, retrans_segs=3, bytes_acked=1000), flow(2, bytes_received=50)])
    watched.tick([flow(1, retrans_segs=4, bytes_acked=1500), flow(2, bytes_received=50)], opened=5)
    assert watched.value("retransmitted_segments") == 4
    assert (watched.value("sent_bytes"), watched.value("received_bytes")) == (1500, 50)
    assert watched.value("opened_connections") == 7
    assert watched.value("sockets", "ESTAB") == 2
    assert watched.value("sockets", "LISTEN") == 0
    assert watched.value("process_connections", "nginx") == 2
    assert watched.value("process_retransmitted_segments", "nginx") == 4
    assert watched.value("process_sent_bytes", "nginx") == 1500
    assert watched.value("ticks") == 4
    watched.tick([])
    assert watched.value("process_connections", "nginx") == 0
    assert watched.value("process_sent_bytes", "nginx") == 1500


def test_what_came_before_the_start_does_not_count() -> None:
    watched = Watched()
    tracker_sees_it_now = flow(1, retrans_segs=900, bytes_acked=10**9, origin=0, first_ns=0)
    watched.tick([tracker_sees_it_now]).tick([tracker_sees_it_now])
    assert (watched.value("retransmitted_segments"), watched.value("sent_bytes")) == (0, 0)


def test_a_connection_that_closed_is_counted_by_its_end() -> None:
    watched = Watched()
    gone = finals([flow(1, states=1 << 9 | 1 << 8, first_ns=BOOT_NS + 1, bytes_acked=70)], BOOT_NS + 500_000_000)
    listener = finals([flow(2, first_ns=BOOT_NS + 1)], BOOT_NS + 500_000_000, from_state=State.LISTEN)
    watched.tick([], closed=gone).tick([], closed=listener)
    assert watched.value("closed_connections", "peer-closed") == 1
    assert sum(watched.family("closed_connections").values()) == 1
    assert watched.value("process_sent_bytes", "nginx") == 70
    assert watched.value("process_connections", "nginx") == 0


def test_listeners_are_no_connections() -> None:
    watched = Watched().tick([flow(1, state=State.LISTEN, peer=("0.0.0.0", 0), name=b"door")])
    assert watched.value("sockets", "LISTEN") == 1
    assert watched.value("process_connections", OTHER) == 0
    assert watched.labels("process") == watched.labels("remote") == set()


def test_round_trip_times_of_those_that_moved_data() -> None:
    watched = Watched()
    for sent in (100, 200, 300):
        watched.tick(
            [
                flow(1, bytes_acked=sent, srtt_us=900),
                flow(2, bytes_acked=sent, srtt_us=9_000_000, peer=("192.0.2.1", 5)),
                flow(3, bytes_acked=100, srtt_us=10, first_ns=0, origin=0),
            ]
        )
    found = watched.value("srtt_seconds")
    assert isinstance(found, Histogram)
    at_most = dict(zip((*EDGES_S, None), found.at_most, strict=True))
    observed = at_most[None]
    assert (at_most[0.0005], at_most[0.001], at_most[2.5]) == (0, observed / 2, observed / 2)
    assert found.sum == pytest.approx(observed / 2 * 9.0009)
    there = watched.value("remote_srtt_seconds", "192.0.2.0/24")
    assert (there.at_most[-2], there.at_most[-1]) == (0, observed / 2)


def test_flows_by_cause() -> None:
    full = flow(3, state=State.LISTEN, peer=("0.0.0.0", 0), recv_q=9, send_q=8)
    watched = Watched()
    for tries in (0, 1, 2):
        watched.tick([flow(1, state=State.SYN_SENT, retransmits=tries), flow(2), full])
    causes = {labels[0]: count for labels, count in watched.family("flows").items() if count}
    assert causes == {"syn-unanswered": 1, "idle": 1, "accept-queue": 1}
    assert watched.value("bad_flows") == 2
    assert watched.value("process_bad_connections", "nginx") == 1


def crowd(count: int, **fields: Any) -> list[dict[str, Any]]:
    """Each of a process, a service and a network of its own."""
    return [
        flow(n, name=b"p%d" % n, peer=(f"10.{n >> 8}.{n & 255}.1", 1), cgroup_id=n, bytes_acked=n, **fields)
        for n in range(1, count + 1)
    ]


def services(count: int) -> dict[int, str]:
    return {n: f"/system.slice/s{n}.service" for n in range(1, count + 1)}


def test_the_number_of_series_is_bounded() -> None:
    watched = Watched()
    for _ in range(3):
        watched.tick(crowd(600), cgroups=services(600))
    for dimension in DIMENSIONS:
        assert len(watched.labels(dimension)) == TOP
    assert 500 < count_series(watched.families) < MOST_SERIES


def test_those_that_matter_are_told_of_and_the_others_are_together() -> None:
    watched = Watched(top=2)
    bad = flow(1000, name=b"ill", retrans_segs=9)
    heavy = flow(1001, name=b"heavy", bytes_acked=10**9)
    watched.tick([*crowd(30), bad, heavy], cgroups=services(30))
    watched.tick([*crowd(30), bad | {"retrans_segs": 20}, heavy | {"bytes_acked": 2 * 10**9}], cgroups=services(30))
    assert watched.labels("process") == {"ill", "heavy"}
    assert watched.value("process_connections", OTHER) == 30
    sent = watched.family("process_sent_bytes")
    assert sum(sent.values()) == watched.value("sent_bytes")


def test_a_newcomer_that_matters_more_takes_a_place_and_no_counter_leaps() -> None:
    watched = Watched(top=1)
    watched.tick([flow(1, name=b"first", bytes_acked=100)])
    assert watched.labels("process") == {"first"}
    watched.tick([flow(1, name=b"first", bytes_acked=200), flow(2, name=b"much", bytes_acked=10, first_ns=BOOT_NS)])
    assert watched.labels("process") == {"first"}, "it matters no more than that"
    before = watched.value("process_sent_bytes", OTHER)
    for sent in range(1, 300):
        watched.tick([flow(2, name=b"much", bytes_acked=sent * 10**6, retrans_segs=sent)])
        if watched.labels("process") == {"much"}:
            break
        assert watched.value("process_sent_bytes", OTHER) >= before
        before = watched.value("process_sent_bytes", OTHER)
    assert watched.labels("process") == {"much"}
    assert watched.value("process_sent_bytes", OTHER) == before
    assert watched.value("process_sent_bytes", "much") <= 10**6


def test_no_two_series_have_the_same_labels() -> None:
    """A process may be called other; two names cut to one length may look the same, or be told alike."""
    long = "x" * (LONGEST_LABEL + 10)
    cgroups = {1: f"/{long}1", 2: f"/{long}2", 3: "/other", 4: ""}
    rows = [flow(n, name=name, cgroup_id=n % 5) for n, name in enumerate([*HOSTILE, b"other", b"\x1b", b"\\x1b"])]
    watched = Watched().tick(rows, cgroups=cgroups)
    for family in watched.families:
        assert len(dict(family.series)) == len(family.series), family.name
    assert {"other", "other (2)"} <= {label for (label,) in watched.family("process_connections")}
    for (label,) in (*watched.family("process_connections"), *watched.family("service_connections")):
        assert len(label) <= LONGEST_LABEL + 5
        assert all(" " <= c <= "~" for c in label)


@settings(max_examples=30)
@given(st.integers(0, 2**32))
def test_anything_can_be_measured(seed: int) -> None:
    watched = Watched(top=3)
    for number in range(3):
        watched.take(scrambled(6, seed + number, number + 1))
    assert count_series(watched.families) < MOST_SERIES
    for family in watched.families:
        for _, value in family.series:
            numbers = [*value.at_most, value.sum] if isinstance(value, Histogram) else [value]
            assert all(np.isfinite(number) and number >= 0 for number in numbers), family.name


# --- the text


def parsed(families: tuple[Family, ...], open_metrics: bool) -> dict[str, Any]:
    """What prometheus_client's own reader finds in it, by family."""
    pytest.importorskip("prometheus_client")
    from prometheus_client import parser
    from prometheus_client.openmetrics import parser as open_parser

    kind, text = metrics_server.exposition(families, open_metrics)
    assert ("openmetrics" in kind) == open_metrics
    read: Any = open_parser if open_metrics else parser
    return {family.name: family for family in read.text_string_to_metric_families(text.decode())}


@pytest.mark.parametrize("open_metrics", [True, False])
def test_a_reader_finds_what_was_counted(open_metrics: bool) -> None:
    counters = np.zeros((), COUNTERS)
    counters["calls"][3] = 12
    watched = Watched()
    for sent in (1, 2):
        watched.tick([flow(1, bytes_acked=sent * 100, name=b'a"\\\n')], counters=counters)
    found = parsed(watched.families, open_metrics)
    names = {family.name for family in watched.families}
    assert set(found) == (names if open_metrics else names - {"tcptop_monitor"} | {"tcptop_monitor_info"})
    assert {sample.labels["process"] for sample in found["tcptop_process_connections"].samples} == {'a"\\\\x0a', OTHER}
    samples = {(s.name, *sorted(s.labels.values())): s.value for family in found.values() for s in family.samples}
    assert samples["tcptop_callbacks_total", "TCP_CONNECT_CB"] == 12
    assert samples["tcptop_self_cpu_seconds_total",] == 1.5
    assert samples["tcptop_monitor_info", "all", "fake"] == 1
    assert len(samples) == count_series(watched.families)


DOCS = Path(__file__).parents[2] / "docs"


def named_in(name: str) -> set[str]:
    """Metrics; those of which the docs say ``tcptop_process_*`` apart."""
    return set(re.findall(r"\btcptop_\w*[a-z]\b(?!_)", (DOCS / name).read_text()))


@pytest.mark.parametrize("name", ["metrics.md", "alerts.yml"])
def test_the_docs_name_nothing_else_than_there_is(name: str) -> None:
    pytest.importorskip("prometheus_client")
    watched = Watched().tick([flow(1, bytes_acked=1)])
    _, text = metrics_server.exposition(watched.families, True)
    served = set(re.findall(r"^(\w+)", text.decode(), re.MULTILINE)) | {family.name for family in watched.families}
    assert len(named_in(name)) > 8
    assert named_in(name) - served == set()


def test_the_docs_name_all_that_is_told_of_the_host() -> None:
    endings = {"counter": "_total", "info": "_info"}
    told = {family.name + endings.get(family.kind, "") for family in Watched().families}
    of_groups = tuple(f"tcptop_{dimension}_" for dimension in DIMENSIONS)
    assert {name for name in told if not name.startswith(of_groups)} - named_in("metrics.md") == set()


def test_what_is_missing_is_told_with_the_way_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Unsupported):
        metrics_server.require_client()
    assert main.main(["--json", "--metrics", "9464", "--source", "sockdiag"]) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("tcptop-ops: --metrics needs the Python package prometheus_client\nhint: pipx install ")


# --- the address


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("9464", ("127.0.0.1", 9464)),
        (":9464", ("127.0.0.1", 9464)),
        ("localhost:1", ("127.0.0.1", 1)),
        ("0.0.0.0:9464", ("0.0.0.0", 9464)),
        ("[::1]:9464", ("::1", 9464)),
        ("192.0.2.7:0", ("192.0.2.7", 0)),
    ],
)
def test_another_address_is_asked_for(text: str, where: tuple[str, int]) -> None:
    found = arguments.parse(["--json", "--metrics", text])
    assert found is not None
    assert found.metrics == where


@pytest.mark.parametrize(
    "text", ["", "x", "9464x", "127.0.0.1", "127.0.0.1:65536", "::1:9464", "[127.0.0.1]:1", "a.b:1"]
)
def test_a_wrong_address(text: str) -> None:
    with pytest.raises(Usage, match="metrics"):
        arguments.parse(["--json", "--metrics", text])


# --- the server


@pytest.fixture
def server() -> Iterator[tuple[MetricsServer, int]]:
    """One that has had a tick; and its port."""
    pytest.importorskip("prometheus_client")
    made = MetricsServer("127.0.0.1", 0)
    port = int(made.start().rpartition(":")[2].partition("/")[0])
    with closing(made):
        made.observe(Tracker().update(snapshot(0, [flow(1)])))
        yield made, port


def ask(port: int, request: bytes) -> bytes:
    """All that is answered."""
    with socket.create_connection(("127.0.0.1", port), 20) as client:
        client.sendall(request)
        return b"".join(iter(lambda: client.recv(65536), b""))


def get(port: int, path: str = "/metrics", method: str = "GET", **headers: str) -> tuple[int, str, str]:
    """Status, head and body."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in ({"Host": "localhost"} | headers).items())
    head, _, body = ask(port, f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode()).decode().partition("\r\n\r\n")
    return int(head.split(" ")[1]), head, body


def test_what_is_served(server: tuple[MetricsServer, int]) -> None:
    _, port = server
    status, head, body = get(port)
    assert status == 200
    assert "Content-Type: text/plain" in head
    assert f"Content-Length: {len(body)}" in head
    assert 'tcptop_sockets{state="ESTAB"} 1.0\n' in body
    status, head, body = get(port, Accept="application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    assert "Content-Type: application/openmetrics-text" in head
    assert body.endswith("# EOF\n")
    assert get(port, method="HEAD")[2] == ""
    assert get(port, "/metrics?x=1")[0] == 200
    assert get(port, "/")[0] == get(port, "/metrics/x")[0] == 404
    assert get(port, method="POST")[0] == 405
    assert ask(port, b"\x16\x03\x01\r\n\r\n").startswith(b"HTTP/1.1 400 ")


def test_a_new_tick_is_served(server: tuple[MetricsServer, int]) -> None:
    made, port = server
    get(port)
    made.observe(Tracker().update(snapshot(0, [flow(1), flow(2), flow(3)])))
    assert 'tcptop_sockets{state="ESTAB"} 3.0\n' in get(port)[2]


def test_before_the_first_tick() -> None:
    with closing(MetricsServer("127.0.0.1", 0)) as made:
        port = int(made.start().rpartition(":")[2].partition("/")[0])
        assert get(port)[0] == 503


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("localhost:9464", 200),
        ("127.0.0.1:9464", 200),
        ("[::1]:9464", 200),
        (socket.gethostname(), 200),
        ("evil.example", 403),
        ("evil.example:9464", 403),
        ("127.0.0.1.evil.example", 403),
    ],
)
def test_a_web_page_that_calls_this_host_its_own_gets_nothing(
    host: str, status: int, server: tuple[MetricsServer, int]
) -> None:
    assert get(server[1], Host=host)[0] == status


def test_who_is_silent_or_endless_keeps_nobody_out(server: tuple[MetricsServer, int]) -> None:
    _, port = server
    with ExitStack() as stack:
        silent = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), 20))
            for _ in range(3 * metrics_server.MOST_CLIENTS)
        ]
        for client in silent:
            client.sendall(b"GET /metrics HTTP/1.1\r\nX: ")
        assert get(port)[0] == 200
        assert silent[0].recv(1) == b"", "the eldest was put out"
    assert ask(port, b"G" * (metrics_server.LARGEST_REQUEST + 1)) == b""
    assert get(port)[0] == 200


def test_who_is_slow_is_put_out(server: tuple[MetricsServer, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_server, "DEADLINE_S", 0.05)
    with socket.create_connection(("127.0.0.1", server[1]), 20) as client:
        client.sendall(b"GET ")
        assert client.recv(1) == b""


def test_who_does_not_read_is_let_go(server: tuple[MetricsServer, int], monkeypatch: pytest.MonkeyPatch) -> None:
    made, port = server
    monkeypatch.setattr(metrics_server, "DEADLINE_S", 0.2)
    monkeypatch.setattr(metrics_server.Page, "text", lambda *_: ("text/plain", b"x" * 50_000_000))
    with socket.create_connection(("127.0.0.1", port), 20) as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        wait_until(lambda: not made._clients, 20, "the client being let go")


def test_a_closed_server_listens_no_longer(server: tuple[MetricsServer, int]) -> None:
    made, port = server
    made.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 20)


def test_a_port_that_is_taken_is_told(server: tuple[MetricsServer, int]) -> None:
    with pytest.raises(Failed, match=f"cannot serve metrics at 127.0.0.1:{server[1]}: Address already in use$"):
        MetricsServer("127.0.0.1", server[1]).start()


def test_the_source_is_closed_where_the_port_is_taken(
    server: tuple[MetricsServer, int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tcptop_ops.sources import open

    made = FakeSource([snapshot(0, [flow(1)])])
    monkeypatch.setattr(open, "open_source", lambda *_, **__: made)
    monkeypatch.setattr(main, "begin_early", lambda *_: None)
    monkeypatch.setattr(Stop, "at_signals", lambda stop: stop)
    assert main.main(["--json", "--metrics", str(server[1])]) == 1
    assert made.closed
    assert "Address already in use" in capsys.readouterr().err


def test_without_a_terminal_and_an_output_it_only_serves(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("prometheus_client")
    from tcptop_ops.sources import open

    made = FakeSource([snapshot(second, [flow(1)]) for second in range(3)])
    monkeypatch.setattr(open, "open_source", lambda *_, **__: made)
    monkeypatch.setattr(main, "begin_early", lambda *_: None)
    monkeypatch.setattr(Stop, "at_signals", lambda stop: stop)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False)
    assert main.main(["--metrics", "0", "-n", "2", "-d", "0.1"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("tcptop-ops: metrics at http://127.0.0.1:")
    assert made.closed
