"""Which columns are shown where none are asked for, and lists of columns as people write them."""

from __future__ import annotations

from collections.abc import Iterable

from tcptop_ops.errors import Usage
from tcptop_ops.views.column import Column
from tcptop_ops.views.column_lookup import find
from tcptop_ops.views.columns import COLUMNS

OUTPUT: tuple[Column, ...] = tuple(column for column in COLUMNS if not column.screen_only)
"""The columns of --json, --csv and --batch: all but those that only the screen has."""


DEFAULT = ("score", "cause", "process", "peer", "state", "srtt_us", "retrans_win", "retrans_pct", "rto_win")
"""Ids of the columns that fit into 80 characters; wider screens add those of ``WIDER`` in order while there is room."""


WIDER = (
    "pid",
    "lport",
    "cwnd",
    "limit",
    "tx_bytes_per_s",
    "rx_bytes_per_s",
    "min_rtt_us",
    "age_s",
    "retrans_segs",
    "lost",
    "rto_events",
    "end",
    "send_q",
    "recv_q",
    "local",
)


SINCE_MARK = (
    "score",
    "cause",
    "process",
    "peer",
    "state",
    "mark_retrans",
    "mark_rto",
    "mark_sent",
    "mark_received",
    "mark_srtt_us",
)
"""Ids of the columns that replace the default set while there is a mark."""


DEFAULT_SORT = "score"


def parse_list(spec: str, default: Iterable[str] = DEFAULT) -> tuple[Column, ...]:
    """Parse ``--columns``: ids or aliases, "all", or changes of ``default`` as "+id" and "-id". Raises Usage."""
    names = [name.strip() for name in spec.split(",") if name.strip()]
    if not names:
        raise Usage("no columns given", "for instance: --columns process,peer,srtt")
    if names == ["all"]:
        return OUTPUT
    relative = all(name[0] in "+-" for name in names)
    if not relative and any(name[0] in "+-" for name in names):
        raise Usage("a list of columns is either names, or +name and -name", "for instance: --columns +cwnd,-rto")
    if not relative:
        return tuple(dict.fromkeys(find(name) for name in names))
    chosen = [find(name) for name in default]
    for name in names:
        column = find(name[1:])
        chosen = [c for c in chosen if c is not column] + ([column] if name[0] == "+" else [])
    if not chosen:
        raise Usage("no columns left", "for instance: --columns process,peer,srtt")
    return tuple(chosen)


def parse_sort(spec: str) -> tuple[Column, bool]:
    """Parse ``--sort COLUMN[:asc|:desc]``. Raises Usage.

    Return the column, and whether the greatest value comes first (without ``asc`` or ``desc``: as the column has it).
    """
    name, _, way = spec.partition(":")
    column = find(name)
    if way not in ("", "asc", "desc"):
        raise Usage(f"no order {way!r}", "asc or desc")
    return column, column.falling if not way else way == "desc"
