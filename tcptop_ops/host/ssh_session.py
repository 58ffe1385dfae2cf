"""The SSH connection over which this program is used, found by the sshd processes that it descends from."""

from __future__ import annotations

import numpy as np
import psutil

from tcptop_ops.model.enums import State
from tcptop_ops.model.flows import Flows

SSHD = ("sshd", "sshd-session")
"""Names of the process that holds a session's connection; the second since OpenSSH 9.8."""


def sshds() -> frozenset[int]:
    """Return the pids of the sshd processes that this one descends from, under sudo too.

    Empty within tmux or screen, whose servers are no descendants of sshd.
    """
    try:
        return frozenset(one.pid for one in psutil.Process().parents() if one.name() in SSHD)
    except psutil.Error:
        return frozenset()


def session_of(flows: Flows, pids: frozenset[int]) -> int:
    """Return the cookie of the connection that these processes hold; 0 if they hold none, or more than one."""
    if not pids:
        return 0
    live = flows.live
    held = np.isin(live.owners["pid"], np.fromiter(pids, "u4")) & (live.sockets["state"] != State.LISTEN)
    cookies = live.sockets["cookie"][held]
    return int(cookies[0]) if len(cookies) == 1 else 0
