"""Closing a connection: for which it can be done, what is asked before, and what is told after."""

from __future__ import annotations

from tcptop_ops import text
from tcptop_ops.errors import TcptopError
from tcptop_ops.widgets.base.row_text import RowText
from tcptop_ops.widgets.screens.dialogs import ConfirmDialog

NOTHING_DONE = "nothing was closed"


def named(row: RowText) -> str:
    """Return a connection in a few words: its process and its addresses, as numbers."""
    pid = "" if row.shown("pid") in (text.DASH, text.UNKNOWN) else f" {row.shown('pid')}"
    there = "" if row.listens else f" -> {row.shown('peer')}"
    return f"{row.shown('process')}{pid}  {row.shown('local')}{there}"


def refusal(row: RowText, *, is_allowed: bool, has_failed: bool) -> str:
    """Return why this row can't be closed; "" where it can. ``has_failed``: whether the source has."""
    if not is_allowed:
        return "connections can be closed if the program was started with --allow-close"
    if row.closed:
        return "it is closed already"
    if row.listens:
        return "a listener is no connection: end its process instead"
    return "the source has failed" if has_failed else ""


def question(row: RowText) -> ConfirmDialog:
    """Return what asks whether to close this connection."""
    lost = f"{row.state}, {row.shown('cause')}; its peer gets a reset, and what was not sent yet is lost"
    return ConfirmDialog("close this connection?", (named(row), lost), "closes it")


def outcome(who: str, error: TcptopError | None) -> str:
    """Return how it went, in words."""
    return f"closed: {who}" if error is None else f"not closed: {error.message}"
