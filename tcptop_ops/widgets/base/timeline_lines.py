"""Draw the story of a connection as lines."""

from __future__ import annotations

from tcptop_ops import text
from tcptop_ops.explain import timeline
from tcptop_ops.model.records import Records
from tcptop_ops.widgets.base.line_widget import LEVEL_ROLES, Span, Spans

NOTHING = "nothing bad happened since it is looked at"
LISTED = "not told: only its state is known (origin listed)"
UNASKED = "told from the next tick on; in a recording, of what was looked at"


def draw(story: Records, now_ns: int, width: int, most: int, why_none: str = NOTHING) -> list[Spans]:
    """Return lines of the newest ``most`` events (HAPPENING rows), the oldest first, and a count of earlier ones.

    ``now_ns``: CLOCK_MONOTONIC. ``why_none``: what is shown if there are no events.
    """
    told = timeline.lines(story, now_ns)
    if not told:
        return [(Span(text.shorten(why_none, width), "dim"),)]
    kept = told[-most:]
    lines: list[Spans] = [(Span(f"{len(told) - len(kept)} earlier", "dim"),)] if len(told) > len(kept) else []
    for one in kept:
        when = f"{one.when:>{timeline.TIME_WIDTH}}  "
        lines.append((Span(when, "dim"), Span(text.shorten(one.what, width - len(when)), LEVEL_ROLES[one.level])))
    return lines
