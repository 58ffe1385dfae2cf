"""Rows to be judged: one that is well, but for what is told; and some that are not."""

from __future__ import annotations

from typing import Any

import numpy as np

from tcptop_ops.diagnosis.case import MEMORY, Case
from tcptop_ops.diagnosis.rules import CAUSES
from tcptop_ops.diagnosis.verdict import judge
from tcptop_ops.model.counters import COUNTED
from tcptop_ops.model.enums import State
from tcptop_ops.model.listener_drops import LISTENED
from tcptop_ops.model.records import EVENTS, SOCKET

BUSY: dict[str, Any] = {"data_segs_out": 1000, "data_segs_in": 1000}
MET = 1 << State.SYN_SENT | 1 << State.ESTABLISHED


def case(win_s: float = 20.0, ended: int = 0, now_s: float = 1000.0, **told: Any) -> Case:
    """Return one established row that is well, but for what is told.

    ``told``: fields of SOCKET, EVENTS and COUNTED; those of MEMORY by their name after ``was_``, those of LISTENED
    after ``told_``.
    """
    base: dict[str, Any] = {
        "state": State.ESTABLISHED,
        "mss": 1448,
        "snd_wnd": 65535,
        "rcv_wnd": 65535,
        "srtt_us": 1000,
    }
    base |= {"min_rtt_us": 900, "states": MET, "was_segs_in": 0, "was_state_s": now_s}
    told = base | BUSY | told
    arrays = {name: np.zeros(1, dtype) for name, dtype in (("s", SOCKET), ("e", EVENTS), ("w", COUNTED), ("m", MEMORY))}
    listened = np.zeros(1, LISTENED)
    for name in [name for name in told if name.startswith("told_")]:
        listened[name.removeprefix("told_")] = told.pop(name)
    for name, value in told.items():
        holder = "m" if name.startswith("was_") else next(k for k in "wse" if name in (arrays[k].dtype.names or ()))
        if name == "rto_events":  # what W counts, a life has too
            arrays["e"][name] = value
        elif name in ("retrans_segs", "data_segs_in"):
            arrays["s"][name] = value
        arrays[holder][name.removeprefix("was_")] = value
    parts = (arrays["s"], arrays["e"], arrays["w"], np.array([win_s]), arrays["m"])
    return Case(*parts, now_s, np.array([ended], np.uint8), listened=listened)


def verdict(made: Case) -> tuple[str, float]:
    """Return the name of the cause of a case of one row, and its severity, rounded."""
    cause, severity = judge(made)
    return CAUSES[int(cause[0])].name, round(float(severity[0]), 6)


STUCK = {"unacked": 0, "notsent": 5000}
SILENT = {"unacked": 3, "segs_in": 7, "was_segs_in": 7}
