"""What the configuration may hold, as plain data; what its file says is read by ``settings_text``.

What the kernel's side is asked for (the cgroup, callbacks, the map, the source) is not in it: what is attached to a
host must be seen in the command that did it; a file that was written last year is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tcptop_ops.errors import Usage

if TYPE_CHECKING:
    from pathlib import Path

FILE = "config.toml"
HINT = "tcptop-ops --print-config shows what it may hold; --no-config leaves it unread"
THEMES = ("auto", "dark", "light", "terminal")
GROUPS = ("none", "process", "remote", "remote-net", "local-port", "cgroup", "state")
SECONDS = {"delay": (0.1, 3600.0), "window": (1.0, 86400.0), "closed": (0.0, 3600.0)}
"""The least and the most of each, here and on the command line."""

LEAST_WIDTH, MOST_WIDTH = 3, 60
"""Characters of a column whose width somebody chose."""


@dataclass(frozen=True)
class Settings:
    """What the file says, or leaves as it is. Names are those of the file; ids of columns are never aliases.

    ``columns`` None: the default set, as wide as the screen. ``thresholds`` and ``keys``: only what is not the default.
    ``path``: where ``w`` saves; None: nowhere. ``mark``: left at the first start; None: no hint is given then.
    """

    delay: float = 1.0
    window: float = 20.0
    closed: float = 5.0
    sort: str = "score:desc"
    columns: tuple[str, ...] | None = None
    group: str = "none"
    names: bool = False
    mouse: bool = True
    theme: str = "auto"
    show_closed: bool = True
    loopback: bool = True
    widths: Mapping[str, int] = field(default_factory=dict)
    thresholds: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    keys: Mapping[str, str] = field(default_factory=dict)
    path: Path | None = field(default=None, compare=False)
    mark: Path | None = field(default=None, compare=False)


def between(name: str, value: float) -> float:
    """Seconds, within SECONDS. Raises Usage."""
    least, most = SECONDS[name]
    if not least <= value <= most:
        raise Usage(
            f"{said(value)} is not between {least:g} and {most:g} seconds",
            f"for instance: {getattr(Settings(), name):g}",
        )
    return float(value)


def said(value: Any) -> str:
    """What somebody wrote, in an error: not all of it, if it is long."""
    if isinstance(value, bool):
        return str(value).lower()
    return short(f"{value:g}" if isinstance(value, float) else repr(value), 40)


def short(text: str, most: int) -> str:
    """No more than that many characters of it."""
    return text if len(text) <= most else text[:most] + "~"
