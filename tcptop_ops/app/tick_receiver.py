"""What is done with a tick in the poller's thread, before the event loop sees it, and how it gets there.

Sorting, grouping and filtering take their time, so the view is made there. The event loop only draws it. The two
threads share three things: the ``ViewState`` in force, which never changes but is replaced; one place for the newest
view; and what observes the ticks (the history, the flight recorder), which may be read while it grows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.app.view_state import ViewState
from tcptop_ops.host.ssh_session import session_of
from tcptop_ops.model.flows import Flows
from tcptop_ops.polling.observers import TickObserver
from tcptop_ops.tracking.history import History
from tcptop_ops.views.view import View, make


class TickReceiver:
    """Takes ticks in one thread, and hands on the newest view to another.

    ``state`` tells how the flows are looked at now. ``sshds``: the processes of sshd that this one descends from.
    ``published`` is called when there is a view to ``take``, and not again until it was taken. ``observers`` see each
    tick after that, with its mark. Both are called in the poller's thread.
    """

    def __init__(
        self,
        state: Callable[[], ViewState],
        *,
        sshds: frozenset[int],
        published: Callable[[], object],
        observers: Sequence[TickObserver] = (),
    ) -> None:
        """Take what is asked and told of each tick; there is no view before the first."""
        self._state = state
        self._published = published
        self._observers = tuple(observers)
        self._newest: View | None = None
        self._is_told = False
        self.sshds = sshds
        self.history = History()

    def receive(self, flows: Flows) -> None:
        """Make the view of a tick, and tell that there is one. In the poller's thread."""
        state = self._state()
        self._remember(flows, state)
        marked = replace(flows, mark=state.mark, session=session_of(flows, self.sshds))
        view = make(marked, state.spec)
        view.findings  # noqa: B018  # made here, and kept: it takes its time where very many rows are bad
        self._newest = view
        if not self._is_told:
            self._is_told = True
            self._published()
        for observer in self._observers:
            observer.observe(marked)

    def lead_in(self, flows: Flows | None) -> None:
        """Remember a tick from before the place that a recording is entered at; None: forget all, it comes anew."""
        if flows is None:
            self.history.clear()
        else:
            self._remember(flows, self._state())

    def _remember(self, flows: Flows, state: ViewState) -> None:
        """Keep what graphs are made of; of the connection that is looked at, even where it is idle."""
        self.history.add(flows, (state.watched, state.selected))

    def take(self) -> View | None:
        """Return the newest view, or None before the first. In the event loop. What came in between is left out."""
        self._is_told = False  # before it is read: a newer one is told again
        return self._newest


def calls_per_s(before: View | None, now: View) -> NDArray[np.float64] | None:
    """Return how often the kernel called each operator, a second, between two ticks; by number. None at the first."""
    if before is None or now.flows.seconds <= 0:
        return None
    earlier, later = (view.flows.snapshot.counters["calls"].astype(np.float64) for view in (before, now))
    passed_s = (now.flows.snapshot.now_ns - before.flows.snapshot.now_ns) / 1e9
    return np.maximum(later - earlier, 0.0) / passed_s if passed_s > 0 else None
