"""A row to be judged whose other end is on this host, too."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from tcptop_ops.diagnosis.case import MEMORY, Case, Everyone
from tcptop_ops.model.counters import COUNTED
from tcptop_ops.model.pairs import Pairs
from tcptop_ops.model.records import EVENTS, SOCKET
from tests.support.cases import case


def with_other_end(told: dict[str, Any], other: dict[str, Any], other_win_s: float = 20.0) -> Case:
    """Return ``case(**told)`` with another row as its other end.

    ``other``: fields of COUNTED, which both count since the beginning of W, and of the connection; or of SOCKET.
    """
    made = case(**told)
    for name in ("data_segs_out", "data_segs_in"):
        made.sockets[name] = made.win[name]
    sockets, win = np.zeros(1, SOCKET), np.zeros(1, COUNTED)
    for name, value in other.items():
        if name in (SOCKET.names or ()):
            sockets[name] = value
        if name in (COUNTED.names or ()):
            win[name] = value
    everyone = Everyone(sockets, np.zeros(1, EVENTS), win, np.array([other_win_s]), np.zeros(1, MEMORY))
    return replace(made, pairs=Pairs(np.array([0]), np.array([-1])), everyone=everyone)
