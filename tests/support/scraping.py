"""Scrapes of the metrics that the program serves."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request
from contextlib import closing, suppress
from typing import Any

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def fetch(url: str, accept: str = "application/openmetrics-text;version=1.0.0") -> str:
    """Return the body. Raises OSError."""
    with urllib.request.urlopen(urllib.request.Request(url, headers={"Accept": accept}), timeout=20) as answer:
        text: str = answer.read().decode()
    return text


def samples(url: str) -> Samples:
    """Return the samples of a scrape, by name and sorted labels. Raises OSError."""
    from prometheus_client.openmetrics import parser

    read: Any = parser  # its functions have no types
    families = read.text_string_to_metric_families(fetch(url))
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def value(found: Samples, name: str, **labels: str) -> float:
    """Return a sample of this program; 0 where there is none."""
    return found.get((f"tcptop_{name}", tuple(sorted(labels.items()))), 0.0)


def free_port() -> int:
    """Return a port of loopback that nobody listens on now."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        return int(server.getsockname()[1])


def answers(url: str) -> bool:
    """Return whether there is something to scrape already."""
    with suppress(urllib.error.URLError):
        return bool(fetch(url))
    return False
