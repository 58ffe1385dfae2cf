"""Look-ups of names from a dictionary, which can be held up, and a clock that stands still."""

from __future__ import annotations

import socket
import threading

from tcptop_ops.dns.name_book import NameBook, NameKey
from tcptop_ops.dns.resolver import Resolver
from tests.support.fakes import packed

PATIENCE_S = 20


def key(address: str) -> NameKey:
    """Return the key of an address."""
    return bytes(packed(address))


HOSTS: dict[NameKey, str] = {
    key("10.2.0.1"): "alpha.example.com",
    key("10.2.0.2"): "beta.example.com",
    key("2001:db8::9"): "six.example.com",
    key("10.0.0.1"): "web-3.example.com",
    443: "https",
    22: "ssh",
}


class Asked:
    """A look-up from a dictionary that remembers what it was asked for; it can be held up."""

    def __init__(self, known: NameBook = HOSTS) -> None:
        """Know these names, and answer at once."""
        self.known = dict(known)
        self.keys: list[NameKey] = []
        self.go_on = threading.Event()
        self.go_on.set()
        self._lock = threading.Lock()

    def __call__(self, wanted: NameKey) -> str:
        """Return a name. Raises socket.herror where there is none."""
        with self._lock:
            self.keys.append(wanted)
        self.go_on.wait()
        if wanted not in self.known:
            raise socket.herror(1, "Unknown host")
        return self.known[wanted]


class Clock:
    """Stands still until it is set."""

    def __init__(self) -> None:
        """Stand at 1000 seconds."""
        self.now = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def asked_for(resolver: Resolver, *wanted: NameKey) -> NameBook:
    """Return what is known once these were looked up."""
    resolver.want(wanted)
    assert resolver.wait(PATIENCE_S)
    return resolver.book
