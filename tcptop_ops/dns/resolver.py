"""Resolve host names (reverse DNS) and service names in background threads.

Nothing waits for a name server: callers use the names known so far, and numbers for the rest.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import NamedTuple

from tcptop_ops.dns.name_book import NOBODY, NameBook, NameKey, all_keys, harmless, shower
from tcptop_ops.views.view import View

THREADS = 4
"""Number of threads that resolve names."""

MOST_WANTED = 512
"""Maximum number of names that wait for a lookup: more than a screen shows."""

MOST_KNOWN = 4096
"""Maximum number of answers that are kept; those not wanted for longest are dropped first."""

KEPT_S, FAILED_KEPT_S = 600.0, 60.0
"""Seconds that a host's name, and a failed lookup, are kept before they are looked up again."""

FIRST_WAIT_S = 1.0
"""Seconds that the first tick of an output waits for names."""

DEADLINE_S = 5.0
"""Seconds after which a late answer is discarded: it is likely to report a failing name server, not a missing name."""

LookUp = Callable[[NameKey], str]
"""A function from a key to its name; "" or OSError if there is none. It is called from several threads."""


class System:
    """The resolver of this host (nsswitch.conf(5)): hosts as its own network namespace sees them, and TCP services."""

    def __init__(self) -> None:
        """Set up a lock, since getservbyport(3) is not thread-safe."""
        self._one_at_a_time = threading.Lock()

    def __call__(self, key: NameKey) -> str:
        """Look up a name, as ``LookUp`` describes."""
        return self._service(key) if isinstance(key, int) else self._host(key)

    def _service(self, port: int) -> str:
        with self._one_at_a_time:  # getservbyport(3) returns static memory that its next call overwrites
            return socket.getservbyport(port, "tcp")

    def _host(self, packed: bytes) -> str:
        address = ipaddress.IPv6Address(packed)
        text = str(address.ipv4_mapped or address).encode()
        return socket.gethostbyaddr(text)[0]  # type: ignore[arg-type]  # bytes, as a str would import the idna codec


class Known(NamedTuple):
    """An answer, "" if there is no name. ``until``: when to ask again, on the resolver's clock."""

    name: str
    until: float


def _kept_s(key: NameKey, name: str) -> float:
    """Return how long an answer is kept, in seconds; a port's name never changes while the program runs."""
    return float("inf") if isinstance(key, int) else KEPT_S if name else FAILED_KEPT_S


class Resolver:
    """Looks up names that are wanted and keeps the answers. No method but ``wait`` blocks.

    An expired name stays in the book until the next answer. Threads are started on demand, and are daemons: they do not
    keep the process alive.
    """

    def __init__(
        self,
        look_up: LookUp | None = None,
        *,
        threads: int = THREADS,
        most_wanted: int = MOST_WANTED,
        most_known: int = MOST_KNOWN,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Set limits. ``look_up`` None is the system's resolver; ``clock`` is monotonic, in seconds."""
        self._look_up = look_up or System()
        self._most_threads, self._most_wanted, self._most_known = threads, most_wanted, most_known
        self._clock = clock
        self._tell: Callable[[], object] = lambda: None
        self._news = threading.Condition()
        self._wanted: OrderedDict[NameKey, None] = OrderedDict()
        self._asked: dict[NameKey, float] = {}  # key -> time after which its answer is discarded
        self._known: OrderedDict[NameKey, Known] = OrderedDict()  # most recently wanted last
        self._threads: list[threading.Thread] = []
        self._ended = False

    def on_change(self, tell: Callable[[], object]) -> None:
        """Set the callback for changes of the book.

        It is called from any thread, with the lock held, so it must not call this object; it is never called after
        ``close``.
        """
        self._tell = tell

    @property
    def book(self) -> NameBook:
        """A snapshot of all names known now."""
        with self._news:
            return {key: known.name for key, known in self._known.items() if known.name} or NOBODY

    def want(self, keys: Iterable[NameKey]) -> None:
        """Request names; those that are known are not looked up. Earlier requests that have not begun are dropped."""
        now = self._clock()
        with self._news:
            self._wanted.clear()
            for key in keys:
                if key in self._known:
                    self._known.move_to_end(key)
                if len(self._wanted) < self._most_wanted and key not in self._asked and self._is_due(key, now):
                    self._wanted[key] = None
            if self._wanted and not self._ended:
                self._start_threads()
                self._news.notify_all()

    def _is_due(self, key: NameKey, now: float) -> bool:
        known = self._known.get(key)
        return known is None or known.until <= now

    def _start_threads(self) -> None:
        while len(self._threads) < min(self._most_threads, len(self._wanted) + len(self._asked)):
            thread = threading.Thread(target=self._work, name=f"names-{len(self._threads)}", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # no thread to be had: with fewer, or none, names come later or not at all
                return
            self._threads.append(thread)

    def wait(self, seconds: float) -> bool:
        """Block until all requests are answered, at most this many seconds. Return whether they are."""
        with self._news:
            return self._news.wait_for(lambda: not self._wanted and not self._asked, seconds)

    def close(self) -> None:
        """Stop the threads without waiting: one that waits for an answer ends with it, or with the process."""
        with self._news:
            self._ended = True
            self._wanted.clear()
            self._news.notify_all()

    # Run by the threads

    def _work(self) -> None:
        while (key := self._next()) is not None:
            try:
                name = harmless(self._look_up(key))
            except (OSError, UnicodeError):
                name = ""
            self._keep(key, name)

    def _next(self) -> NameKey | None:
        with self._news:
            self._news.wait_for(lambda: self._wanted or self._ended)
            if self._ended:
                return None
            key, _ = self._wanted.popitem(last=False)
            self._asked[key] = self._clock() + DEADLINE_S
            return key

    def _keep(self, key: NameKey, name: str) -> None:
        with self._news:
            now = self._clock()
            name = name if now <= self._asked.pop(key) else ""
            before = self._known.pop(key, None)
            self._known[key] = Known(name, now + _kept_s(key, name))
            while len(self._known) > self._most_known:
                self._known.popitem(last=False)
            self._news.notify_all()
            if name != (before.name if before is not None else "") and not self._ended:
                self._tell()  # with the lock held, so that there is no call after close()


def for_outputs(resolver: Resolver | None = None) -> Callable[[View], View]:
    """Return a function that makes the columns of a view show names, as far as they are known.

    The first view waits for names up to FIRST_WAIT_S; later ones do not wait.
    """
    resolver = resolver or Resolver(most_wanted=MOST_KNOWN)
    wait_s = FIRST_WAIT_S

    def named(view: View) -> View:
        nonlocal wait_s
        resolver.want(all_keys(view.spec.columns, view.values))
        resolver.wait(wait_s)
        names, wait_s = resolver.book, 0.0
        columns = tuple(replace(column, show=shower(column, names)) for column in view.spec.columns)
        return replace(view, spec=replace(view.spec, columns=columns))

    return named
