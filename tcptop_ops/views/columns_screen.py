"""Columns that the screen alone has: what has changed since the mark, and how many are in a group."""

from __future__ import annotations

import numpy as np

from tcptop_ops import text
from tcptop_ops.views import column_readers as read
from tcptop_ops.views.column import MEAN, SUM, Column
from tcptop_ops.views.column_builders import (
    number,
)
from tcptop_ops.views.column_text import (
    show_signed,
    show_us,
)
from tcptop_ops.views.known_values import MOST_SUM, MOST_US

SCREEN_ONLY: tuple[Column, ...] = (
    number(
        "mark_retrans",
        "+RETR",
        5,
        "segments sent again since the mark",
        read.since_mark("retrans_segs"),
        screen_only=True,
        group=SUM,
    ),
    number(
        "mark_rto",
        "+RTO",
        4,
        "retransmission timeouts since the mark",
        read.since_mark("rto_events"),
        screen_only=True,
        group=SUM,
    ),
    number(
        "mark_sent",
        "+SENT",
        6,
        "bytes acknowledged since the mark",
        read.since_mark("bytes_acked"),
        show=text.si,
        most=MOST_SUM,
        screen_only=True,
        group=SUM,
    ),
    number(
        "mark_received",
        "+RECVD",
        6,
        "bytes received since the mark",
        read.since_mark("bytes_received"),
        show=text.si,
        most=MOST_SUM,
        screen_only=True,
        group=SUM,
    ),
    number(
        "mark_srtt_us",
        "+SRTT",
        6,
        "by how much the smoothed round-trip time is longer than at the mark",
        read.since_mark("srtt_us"),
        show=show_signed(show_us),
        least=-MOST_US,
        screen_only=True,
        group=MEAN,
    ),
    number(
        "connections",
        "CONNS",
        5,
        "connections of the group; a connection is one",
        lambda rows, _: np.ones(len(rows)),
        screen_only=True,
        group=SUM,
    ),
)
