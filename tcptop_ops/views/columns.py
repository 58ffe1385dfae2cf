"""THE table of columns: screen, outputs, filters and sorting are made from it."""

from __future__ import annotations

from dataclasses import replace

from tcptop_ops.views.column import Column
from tcptop_ops.views.columns_health import HEALTH
from tcptop_ops.views.columns_screen import SCREEN_ONLY
from tcptop_ops.views.columns_traffic import TRAFFIC
from tcptop_ops.views.columns_who import WHO

COLUMNS: tuple[Column, ...] = (*WHO, *HEALTH, *TRAFFIC, *SCREEN_ONLY)
"""In the order in which outputs and lists have them."""


GROUP: Column = replace(COLUMNS[-1], id="group", title="GROUP", width=20, right=False, help="what is put together")
"""The first column of a table of groups: their titles. Its value is the number of connections."""
