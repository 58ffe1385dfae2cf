"""The server of metrics: where it listens, whom it serves, and whom not."""

from __future__ import annotations

import importlib.util
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest

from tcptop_ops.cli import arguments, main
from tcptop_ops.errors import Failed, Unsupported, Usage
from tcptop_ops.host.signals import Stop
from tcptop_ops.outputs import metrics_server
from tcptop_ops.outputs.metrics_server import MetricsServer
from tcptop_ops.tracking.tracker import Tracker
from tests.support.fakes import FakeSource, flow, snapshot
from tests.support.leftovers import wait_until

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
