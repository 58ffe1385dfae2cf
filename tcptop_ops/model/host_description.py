"""Which host figures are from, as outputs and recordings tell it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class HostDescription:
    """The host that was watched, and by what. A recording may be anybody's: these are any characters.

    ``host``: its name. ``kernel``: the release, as uname(2) has it. ``program``: the version of tcptop-ops, "?" where
    that is not known, or was not asked for.
    """

    host: str
    kernel: str
    program: str = "?"
