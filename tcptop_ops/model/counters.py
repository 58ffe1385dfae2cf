"""The names of what the diagnosis counts in the recent window."""

from __future__ import annotations

import numpy as np

COUNTED = np.dtype(
    [
        ("retrans_segs", "u4"),
        ("rto_events", "u4"),
        ("data_segs_out", "u4"),
        ("busy_us", "u4"),
        ("rwnd_limited_us", "u4"),
        ("sndbuf_limited_us", "u4"),
        ("data_segs_in", "u4"),
        ("dsack_dups", "u4"),
        ("reord_seen", "u4"),
        ("ooo_in", "u4"),
        ("drops", "u4"),
        ("rto_wait_us", "u4"),
        ("probe_segs", "u4"),
        ("retrans_calls", "u4"),
    ]
)
"""Counters whose growth within W the rules compare.

All are u4 (``window.words`` relies on it), so that they and their differences wrap as the kernel's own counters do.
"""
