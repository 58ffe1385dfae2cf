"""The connection over which this program is used, where that is certain: who started it descends from its sshd."""

from __future__ import annotations

import numpy as np
import psutil

from tcptop_ops.snapshot import State
from tcptop_ops.tracker import Flows

SSHD = ("sshd", "sshd-session")


def sshds() -> frozenset[int]:
    """The processes of sshd that this one descends from. Under sudo too; not inside tmux, whose server has left."""
    try:
        return frozenset(one.pid for one in psutil.Process().parents() if one.name() in SSHD)
    except psutil.Error:
        return frozenset()


def session_of(flows: Flows, pids: frozenset[int]) -> int:
    """The cookie of the only connection that they hold; 0 where there is none, or more."""
    if not pids:
        return 0
    live = flows.live
    held = np.isin(live.owners["pid"], np.fromiter(pids, "u4")) & (live.sockets["state"] != State.LISTEN)
    cookies = live.sockets["cookie"][held]
    return int(cookies[0]) if len(cookies) == 1 else 0
