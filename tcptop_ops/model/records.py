"""The dtypes of records that the kernel's side writes and rows are made of: one definition, for numpy and C."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.model import fields

Records = NDArray[Any]
"""A structured array, a row per element; its dtype is one of this module's, or of ``flows`` and ``diagnosis.case``."""


UNKNOWN_U32 = 0xFFFFFFFF
"""Value of a 32-bit field that the kernel did not report: shown as null.

The kernel's own convention for a minimum RTT that was never measured (``tcp_min_rtt()``).
"""


UNKNOWN_U64 = 0xFFFFFFFFFFFFFFFF
"""Value of a time of 64 bits that the kernel did not report, and of a rate without a limit."""

TOO_LONG = UNKNOWN_U64 - 1
"""A time of which an older recording knows only that it is more than 71 minutes, which is what 32 bits had room for."""


def unknown_of(dtype: np.dtype[Any]) -> int:
    """Return what stands for "not known" in a field of this kind, which is an unsigned number: the greatest."""
    return int(np.iinfo(dtype).max)


INFINITE_SSTHRESH = 0x7FFFFFFF
"""``ssthresh`` of a connection that never left slow start: TCP_INFINITE_SSTHRESH of include/net/tcp.h."""


UNLIMITED_RATE = 0xFFFFFFFFFFFFFFFF
"""``pacing_rate`` of a connection that is not paced: ``sk_pacing_rate`` of ~0, as tcp_get_info() tells it."""


def _dtype(listed: fields.Fields) -> np.dtype[np.void]:
    return np.dtype(list(listed), align=True)


SOCKET = _dtype(fields.SOCKET)


EVENTS = _dtype(fields.EVENTS)


ENDING = _dtype(fields.ENDING)


FINAL = np.dtype([("socket", SOCKET), ("events", EVENTS), ("ending", ENDING)], align=True)
"""A connection that ended: its socket at the close, its events, and how it ended (``fields.FINAL``)."""


MET = _dtype(fields.MET)


MET_PROCESS = _dtype(fields.MET_PROCESS)


WALK = _dtype(fields.WALK)


OWNER = _dtype(fields.OWNER)


OWNED = np.dtype([("pid", "u4"), ("holders", "u4"), ("start_ns", "u8"), ("name", "S32"), ("how", "u1")])
"""The process that owns a socket. ``pid`` 0: unknown; ``how``: OwnerKind.

``holders``: number of processes with a descriptor of it; ``start_ns``: CLOCK_BOOTTIME at which the process started.
Both are 0 where the owner is not known from a descriptor.
"""


COUNTERS = _dtype(fields.COUNTERS)


CONTROL = _dtype(fields.CONTROL)


FLAG_ASK = _dtype(fields.FLAG_ASK)


FLAG_REQUEST = _dtype(fields.FLAG_REQUEST)


FLAG_SETTER = _dtype(fields.FLAG_SETTER)


HAPPENING = _dtype(fields.HAPPENING)


STORY = np.dtype([("told", "u8"), ("srtt_us", "u8"), ("happenings", HAPPENING, (fields.HAPPENINGS,))], align=True)
"""``fields.STORY`` with the dtype of a happening in place of its name."""


SEEN = _dtype(fields.SEEN)


CPU = np.dtype(
    [("counters", COUNTERS), ("seen", SEEN), *((name, kind, *shape) for name, kind, *shape in fields.CPU[2:])],
    align=True,
)
"""What the sock_ops program keeps for each CPU (``fields.CPU``)."""
