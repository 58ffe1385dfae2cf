"""The metrics of the last tick over HTTP, written by prometheus_client (the extra ``metrics`` of this package).

A request is answered in a thread of its own from text that is made once a tick, at the first request for it: it never
touches the source. A client has DEADLINE_S in all, however slow it is; of MOST_CLIENTS at a time the oldest is
disconnected for the next one, so that those who hold connections open keep nobody out.
"""

from __future__ import annotations

import importlib.util
import ipaddress
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from tcptop_ops.errors import Failed, Unsupported, exhausted
from tcptop_ops.host.self_usage import resident_bytes
from tcptop_ops.model.flows import Flows
from tcptop_ops.outputs.metric_family import EDGES_S, Family, Histogram
from tcptop_ops.outputs.openmetrics import Metrics, Own

if TYPE_CHECKING:
    from prometheus_client import Metric

DEADLINE_S = 5.0
"""From the connection to the last byte of the answer."""

MOST_CLIENTS = 8
LARGEST_REQUEST = 8192
PATH = "/metrics"
OPEN_METRICS = "application/openmetrics-text"


def require_client() -> None:
    """Import what the server needs. Raises Unsupported where prometheus_client is missing."""
    if importlib.util.find_spec("prometheus_client") is None:
        raise Unsupported(
            "--metrics needs the Python package prometheus_client",
            "pipx install 'tcptop-ops[metrics]', or: pipx inject tcptop-ops prometheus_client;"
            " in a checkout: .venv/bin/pip install prometheus_client",
        )
    import prometheus_client.core
    import prometheus_client.openmetrics.exposition  # noqa: F401 - root may be needed to read them


class Page:
    """The answer of a tick, in either format: made once, at the first request for it."""

    def __init__(self, families: tuple[Family, ...]) -> None:
        """Take the families that the exposition is made of."""
        self._families = families
        self._made: dict[bool, tuple[str, bytes]] = {}
        self._lock = threading.Lock()

    def text(self, open_metrics: bool) -> tuple[str, bytes]:
        """Return the content type, and the text."""
        with self._lock:
            if open_metrics not in self._made:
                self._made[open_metrics] = exposition(self._families, open_metrics)
            return self._made[open_metrics]


def exposition(families: tuple[Family, ...], open_metrics: bool) -> tuple[str, bytes]:
    """Return content type and text: OpenMetrics, or the older format of Prometheus."""
    from prometheus_client import CollectorRegistry
    from prometheus_client import exposition as older
    from prometheus_client.openmetrics import exposition as newer
    from prometheus_client.registry import Collector

    class Once(Collector):
        def collect(self) -> Iterator[Metric]:
            return map(metric, families)

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Once())
    if open_metrics:
        return newer.CONTENT_TYPE_LATEST, newer.generate_latest(registry)  # type: ignore[no-untyped-call]
    return older.CONTENT_TYPE_LATEST, older.generate_latest(registry)


def metric(family: Family) -> Metric:
    """Return the same as an object of prometheus_client."""
    from prometheus_client import core

    made: Metric
    if family.kind == "histogram":
        made = core.HistogramMetricFamily(family.name, family.help, labels=family.labels)
        names = [*map(str, EDGES_S), "+Inf"]
        for labels, value in family.series:
            assert isinstance(value, Histogram)
            made.add_metric(labels, list(zip(names, value.at_most, strict=True)), value.sum)
        return made
    if family.kind == "info":
        made = core.InfoMetricFamily(family.name, family.help)
        for labels, _ in family.series:
            made.add_metric((), dict(zip(family.labels, labels, strict=True)))
        return made
    kind = core.CounterMetricFamily if family.kind == "counter" else core.GaugeMetricFamily
    made = kind(family.name, family.help, labels=family.labels)
    for labels, value in family.series:
        assert not isinstance(value, Histogram)
        made.add_metric(labels, value)
    return made


class MetricsServer:
    """A TickObserver that serves the metrics of the last tick, at one address."""

    notes: tuple[str, ...] = ()

    def __init__(self, address: str, port: int) -> None:
        """Take where to listen; port 0: any that is free. Nothing listens before ``start``."""
        self._address, self._port = address, port
        self._metrics = Metrics()
        self._page: Page | None = None
        self._listener: socket.socket | None = None
        self._is_over = threading.Event()
        self._clients: dict[socket.socket, None] = {}  # the oldest first
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._accept, name="metrics", daemon=True)

    def observe(self, flows: Flows) -> None:
        """Count another tick, and serve it from now on."""
        self._page = Page(self._metrics.add(flows, Own(time.process_time(), resident_bytes())))

    def start(self) -> str:
        """Listen, in a thread of its own, and return the URL. Once. Raises Failed where that can't be."""
        is_six = ":" in self._address
        family = socket.AF_INET6 if is_six else socket.AF_INET
        try:
            self._listener = socket.create_server(
                (self._address, self._port),
                family=family,
                backlog=16,
                dualstack_ipv6=self._address == "::" and socket.has_dualstack_ipv6(),
            )
        except OSError as error:
            hint = "root was given up: a port from 1024 on is needed" if isinstance(error, PermissionError) else ""
            where = f"[{self._address}]:{self._port}" if is_six else f"{self._address}:{self._port}"
            raise Failed(
                f"cannot serve metrics at {where}: {os.strerror(error.errno or 0)}",
                hint or "another port, or an address of this host: --metrics 127.0.0.1:9464",
            ) from error
        self._port = self._listener.getsockname()[1]
        try:
            self._thread.start()
        except RuntimeError as error:
            self._listener.close()
            self._listener = None
            raise exhausted(error) or error from error
        return f"http://{f'[{self._address}]' if is_six else self._address}:{self._port}{PATH}"

    def close(self) -> None:
        """Stop listening, and disconnect all clients. May be called twice."""
        self._is_over.set()
        listener, self._listener = self._listener, None
        if listener is None:
            return
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
        self._thread.join()
        listener.close()
        with self._lock:
            for client in self._clients:
                _hang_up(client)

    def _accept(self) -> None:
        assert self._listener is not None
        listener = self._listener
        while not self._is_over.is_set():
            try:
                client, _ = listener.accept()
            except OSError:  # shut down; or no descriptor is left: others may come back to us
                self._is_over.wait(0.1)
                continue
            self._take(client)

    def _take(self, client: socket.socket) -> None:
        with self._lock:
            if len(self._clients) >= MOST_CLIENTS:
                _hang_up(next(iter(self._clients)))
                del self._clients[next(iter(self._clients))]
            self._clients[client] = None
        try:
            threading.Thread(target=self._serve, args=(client,), name="metrics client", daemon=True).start()
        except RuntimeError:  # no thread to be had
            self._forget(client)

    def _forget(self, client: socket.socket) -> None:
        with self._lock:
            self._clients.pop(client, None)
            client.close()  # under the lock: nobody hangs up on a descriptor that is somebody else's by now

    def _serve(self, client: socket.socket) -> None:
        deadline = time.monotonic() + DEADLINE_S
        try:
            with suppress(OSError):
                answer = self._answer(_request(client, deadline))
                client.settimeout(max(deadline - time.monotonic(), 0.001))
                client.sendall(answer)
        finally:
            self._forget(client)

    def _answer(self, request: bytes) -> bytes:
        """Return the whole answer to these lines, nothing to none at all."""
        first, *lines = request.decode("latin-1").split("\r\n")
        words = first.split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            return _response("400 Bad Request", b"not HTTP\n") if request else b""
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if words[0] not in ("GET", "HEAD"):
            return _response("405 Method Not Allowed", b"GET or HEAD\n")
        if not self._is_meant(headers.get("host", "")):
            return _response("403 Forbidden", b"these metrics are for this host alone\n")
        if words[1].partition("?")[0] != PATH:
            return _response("404 Not Found", f"the metrics are at {PATH}\n".encode())
        page = self._page
        if page is None:
            return _response("503 Service Unavailable", b"no tick was made yet\n")
        kind, body = page.text(OPEN_METRICS in headers.get("accept", ""))
        return _response("200 OK", body, kind, is_head=words[0] == "HEAD")

    def _is_meant(self, host: str) -> bool:
        """Return whether a request for this name may be answered.

        On the loopback address only names of this host may: a name that a web page's owner made lead here would have
        the browser on this host read the answer for that page (DNS rebinding).
        """
        if not ipaddress.ip_address(self._address).is_loopback:
            return True
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() and not host.endswith("]") else host
        with suppress(ValueError):
            return bool(ipaddress.ip_address(name.strip("[]")))
        return name in ("", "localhost", socket.gethostname())


def _hang_up(client: socket.socket) -> None:
    with suppress(OSError):
        client.shutdown(socket.SHUT_RDWR)


def _request(client: socket.socket, deadline: float) -> bytes:
    """Return the lines before the empty one; nothing where it does not come, or not in time. Raises OSError."""
    request = b""
    while b"\r\n\r\n" not in request:
        client.settimeout(max(deadline - time.monotonic(), 0.001))
        more = client.recv(4096)
        request += more
        if not more or len(request) > LARGEST_REQUEST:
            return b""
    return request.partition(b"\r\n\r\n")[0]


def _response(status: str, body: bytes, kind: str = "text/plain; charset=utf-8", *, is_head: bool = False) -> bytes:
    lines = (
        f"HTTP/1.1 {status}",
        f"Content-Type: {kind}",
        f"Content-Length: {len(body)}",
        "X-Content-Type-Options: nosniff",
        "Connection: close",
    )
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + (b"" if is_head else body)
