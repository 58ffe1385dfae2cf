"""Other sock_ops programs that come and go beside ours."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from tcptop_ops.bpf.kernel_calls import BPF_F_ALLOW_MULTI
from tcptop_ops.errors import Failed, Unsupported

SWEEP_S = 5.0
"""Between two looks into every cgroup below ours; at those above it, which are few, every poll looks."""

Program = dict[str, Any]


class OtherPrograms:
    """Asks for them again and again. ``programs``: those of the last look, at first those that ``attach`` met."""

    def __init__(self, ask: Callable[[bool], list[Program]], programs: tuple[Program, ...]) -> None:
        """Begin with what ``attach`` met. ``ask``: for all programs, or, given False, without those below."""
        self._ask = ask
        self._below = [program for program in programs if not program["above"]]
        self.programs = list(programs)
        self._looked = time.monotonic()

    def look(self) -> list[Program]:
        """Those that came since the last look. Raises Failed where ours would keep one from being called."""
        now, known = time.monotonic(), {program["id"] for program in self.programs}
        below_too = now - self._looked >= SWEEP_S
        try:
            found = self._ask(below_too)
        except (OSError, Unsupported):
            return []  # nobody may ask: as it was at the start
        if below_too:
            self._looked = now
            self._below = [program for program in found if not program["above"]]
        self.programs = [program for program in found if program["above"]] + self._below
        _make_way(self.programs)
        return [program for program in self.programs if program["id"] not in known]


def _make_way(programs: list[Program]) -> None:
    """Raise Failed if a program above ours came without BPF_F_ALLOW_MULTI: it is silent while ours is there."""
    for program in programs:
        if program["above"] and not program["flags"] & BPF_F_ALLOW_MULTI:
            raise Failed(
                f"made way for the sock_ops program {program['name']} (id {program['id']}) at {program['where']}",
                "it was attached without BPF_F_ALLOW_MULTI, and ours kept it from being called: --source sockdiag",
            )
