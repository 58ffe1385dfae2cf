"""How the entries of the table of columns are made: numbers, words, numbers that name something."""

from __future__ import annotations

from typing import Any

import numpy as np

from tcptop_ops import text
from tcptop_ops.model.addresses import are_link_local, halves
from tcptop_ops.model.arrays import gather
from tcptop_ops.model.flows import Flows, Rows
from tcptop_ops.model.listeners import Listeners
from tcptop_ops.views import column_readers as read
from tcptop_ops.views.column import Column, GroupRule
from tcptop_ops.views.column_readers import ColumnReader, Values
from tcptop_ops.views.column_text import STEPS, dashed, decoded, null_or, show_id, show_word, whole
from tcptop_ops.views.known_values import MOST_COUNT, MOST_S, MOST_SUM, MOST_US, believed


def number(id: str, title: str, width: int, help: str, read: ColumnReader, **rest: Any) -> Column:
    """Return a column of numbers (float64, NaN is null), shown as a count unless ``show`` says otherwise.

    ``least``, ``most``: the bounds beyond which no value is believed (``known_values``), those of its unit by default.
    """
    show = rest.pop("show", text.count)
    plain = rest.pop("plain", whole)
    least, most = rest.pop("least", 0.0), rest.pop("most", most_of(id))
    read = believed(id, read, least, most)
    bounds = {"least": least, "most": most}
    return Column(id, title, width, help, read, dashed(show), null_or(plain), step=STEPS.get(show), **bounds, **rest)


def most_of(id: str) -> float:
    """Return the greatest value that is believed of a column of numbers, by the unit that its id ends in."""
    if id.endswith("_pct"):
        return 100.0
    if "bytes" in id:
        return MOST_SUM
    return next((most for suffix, most in _MOST.items() if id.endswith(suffix)), MOST_COUNT)


_MOST = {"_per_s": MOST_COUNT, "_us": MOST_US, "_ms": MOST_S * 1e3, "_s": MOST_S}


def word(id: str, title: str, width: int, help: str, read: ColumnReader, **rest: Any) -> Column:
    """Return a column of bytes strings (b"" is null), left-aligned and sorted upward at first."""
    show = rest.pop("show", show_word)
    plain = rest.pop("plain", decoded)
    read = believed(id, read, 0.0, 0.0)
    return Column(id, title, width, help, read, show, plain, right=False, falling=False, **rest)


def identity(id: str, title: str, width: int, help: str, part: str, name: str, **rest: Any) -> Column:
    """Return a column of an unsigned field that names something; 0 is null. ``part``: the array of Rows it is in."""
    return identity_by(id, title, width, help, read.unsigned(part, name), **rest)


def identity_by(id: str, title: str, width: int, help: str, read: ColumnReader, **rest: Any) -> Column:
    """Return a column of unsigned numbers (uint64) that name something; 0 is null."""
    return Column(id, title, width, help, believed(id, read, 0.0, 0.0), show_id, lambda v: int(v) or None, **rest)


def of_connections(name: str) -> GroupRule:
    """Return the rule that sums a field which means something else for listeners.

    The listeners' values are summed only in a group that has no connection.
    """
    return GroupRule("sum", part=read.connected(name))


def same_address(side: str) -> GroupRule:
    """Return the rule that compares addresses alone, without the port and device that ``endpoint`` packs too.

    The scope and the device are kept for link-local addresses only, which are ambiguous without them.
    """
    whole = read.endpoint(side)

    def address_alone(rows: Rows, flows: Flows) -> Values:
        packed = whole(rows, flows)
        parts = packed.view("u1").reshape(len(packed), packed.dtype.itemsize)
        parts[:, 16:18] = 0
        parts[~are_link_local(halves(parts[:, :16])[0]), 18:-1] = 0
        return packed

    return GroupRule("same", part=address_alone)


def own_half_open(rows: Rows, flows: Flows) -> Values:
    """Return each listener's share of the handshakes at its address (float64, NaN for rows that don't listen).

    Listeners that share an address by SO_REUSEPORT all report its handshakes; dividing by their number makes
    the sum over a group right.
    """
    values = read.syn_recv(rows, flows)
    listens = np.flatnonzero(~np.isnan(values))
    group = Listeners(gather(rows.sockets, listens)).group
    values[listens] /= np.bincount(group)[group] if len(group) else 1
    return values


def observed_us(rows: Rows, _: Flows) -> Values:
    """Return the length of each row's window in microseconds: the denominator of shares of time."""
    window: Values = 1e6 * rows.rates["win_s"].astype(np.float64)
    return window


RETRANS_SHARE = GroupRule("share", part=read.win("retrans_segs"), whole=read.win("data_segs_out"), enough=20, most=100)
