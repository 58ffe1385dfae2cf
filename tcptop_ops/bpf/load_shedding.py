"""When so many connections come that what is asked of each new one is cut to its events. Pure."""

from __future__ import annotations

LIGHT = "light"
"""The mode of the callbacks meanwhile (``Snapshot.callbacks_mode``), in place of that which was asked for."""

FROM_PER_S = 10_000
"""Births a second. The per-packet callbacks of one cost some 2 us: from here on that would be 2 % of a core."""

UNTIL_PER_S = 3_000
CALM_S = 10.0


class LoadShedding:
    """Begins at once, and ends when it has been calm for a while."""

    def __init__(self) -> None:
        """Begin with all asked for."""
        self.on = False
        self._busy_s = 0.0

    def look(self, births: int, seconds: float, now_s: float) -> bool:
        """Whether that has changed. ``births``: of the last so many seconds."""
        per_s = births / seconds if seconds > 0 else 0.0
        if per_s > UNTIL_PER_S:
            self._busy_s = now_s
        wanted = per_s > FROM_PER_S or (self.on and now_s - self._busy_s < CALM_S)
        changed = wanted != self.on
        self.on = wanted
        return changed
