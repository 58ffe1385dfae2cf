"""Names of hosts, by reverse DNS, and of services, looked up by a few threads of their own.

Nobody waits for a name server: whoever draws takes the names that are known by then, and the numbers for the rest.
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

from tcptop_ops.namebook import NOBODY, Key, NameBook, all_keys, harmless, shower
from tcptop_ops.view import View

THREADS = 4
MOST_WANTED = 512
"""Names that may wait to be looked up: more than a screen shows."""

MOST_KNOWN = 4096
KEPT_S, FAILED_KEPT_S = 600.0, 60.0
FIRST_WAIT_S = 1.0
DEADLINE_S = 5.0
"""An answer that takes longer is none: the name server's, not the host's, is what it tells of."""

LookUp = Callable[[Key], str]
"""The name of an address or of a port; "" or OSError where there is none. Called by several threads."""


class System:
    """What this host's resolver says (nsswitch.conf(5)): hosts of its own network namespace, and TCP's services."""

    def __init__(self) -> None:
        self._one_at_a_time = threading.Lock()

    def __call__(self, key: Key) -> str:
        """See LookUp."""
        return self._service(key) if isinstance(key, int) else self._host(key)

    def _service(self, port: int) -> str:
        with self._one_at_a_time:  # getservbyport(3) answers in memory that its next call writes to
            return socket.getservbyport(port, "tcp")

    def _host(self, packed: bytes) -> str:
        address = ipaddress.IPv6Address(packed)
        text = str(address.ipv4_mapped or address).encode()
        return socket.gethostbyaddr(text)[0]  # type: ignore[arg-type]  # text would be encoded, by a codec imported now


class Known(NamedTuple):
    """An answer; "" is one too. ``until``: from then on it is asked for again."""

    name: str
    until: float


def _kept_s(key: Key, name: str) -> float:
    """What a port is called stays as it is while the program runs."""
    return float("inf") if isinstance(key, int) else KEPT_S if name else FAILED_KEPT_S


class Resolver:
    """Looks up what is wanted now, and keeps what it found. No method waits but ``wait``.

    A name that has expired is in the book until the next answer. Threads start when they are first needed, and keep
    nobody from ending.
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
        self._look_up = look_up or System()
        self._most_threads, self._most_wanted, self._most_known = threads, most_wanted, most_known
        self._clock = clock
        self._tell: Callable[[], object] = lambda: None
        self._news = threading.Condition()
        self._wanted: OrderedDict[Key, None] = OrderedDict()
        self._asked: dict[Key, float] = {}  # key -> when an answer is too late
        self._known: OrderedDict[Key, Known] = OrderedDict()  # what was wanted last, last
        self._threads: list[threading.Thread] = []
        self._ended = False

    def on_change(self, tell: Callable[[], object]) -> None:
        """Whom to tell when the book has changed: in any thread, and it must not ask back; never after ``close``."""
        self._tell = tell

    @property
    def book(self) -> NameBook:
        """All names that are known now; it does not change any more."""
        with self._news:
            return {key: known.name for key, known in self._known.items() if known.name} or NOBODY

    def want(self, keys: Iterable[Key]) -> None:
        """Look these up, as far as they are not known; what was wanted before, and not begun, no longer is."""
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

    def _is_due(self, key: Key, now: float) -> bool:
        known = self._known.get(key)
        return known is None or known.until <= now

    def _start_threads(self) -> None:
        while len(self._threads) < min(self._most_threads, len(self._wanted) + len(self._asked)):
            thread = threading.Thread(target=self._work, name=f"names-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def wait(self, seconds: float) -> bool:
        """Until all that is wanted is answered, at most this long. True if it is."""
        with self._news:
            return self._news.wait_for(lambda: not self._wanted and not self._asked, seconds)

    def close(self) -> None:
        """End the threads, those that wait for an answer with it, or with the process: at once in any case."""
        with self._news:
            self._ended = True
            self._wanted.clear()
            self._news.notify_all()

    # In the threads

    def _work(self) -> None:
        while (key := self._next()) is not None:
            try:
                name = harmless(self._look_up(key))
            except (OSError, UnicodeError):
                name = ""
            self._keep(key, name)

    def _next(self) -> Key | None:
        with self._news:
            self._news.wait_for(lambda: self._wanted or self._ended)
            if self._ended:
                return None
            key, _ = self._wanted.popitem(last=False)
            self._asked[key] = self._clock() + DEADLINE_S
            return key

    def _keep(self, key: Key, name: str) -> None:
        with self._news:
            now = self._clock()
            name = name if now <= self._asked.pop(key) else ""
            before = self._known.pop(key, None)
            self._known[key] = Known(name, now + _kept_s(key, name))
            while len(self._known) > self._most_known:
                self._known.popitem(last=False)
            self._news.notify_all()
            if name != (before.name if before is not None else "") and not self._ended:
                self._tell()  # with the lock: nobody is told after close()


def for_outputs(resolver: Resolver | None = None) -> Callable[[View], View]:
    """What gives the columns of a view names, as far as they are known: the first view waits for some, FIRST_WAIT_S."""
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
