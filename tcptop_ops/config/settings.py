"""Define the settings as plain data; ``toml_text`` reads and writes them as TOML.

Options that affect the kernel (cgroup, callbacks, map size, source) are not settings: what is attached to a host should
be visible in the command that attached it, not hidden in a file.
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
GROUPS = ("none", "process", "command", "remote", "remote-net", "local-port", "cgroup", "state")
SECONDS = {"delay": (0.1, 3600.0), "window": (1.0, 86400.0), "closed": (0.0, 3600.0)}
"""Minimum and maximum of each time, for the file and for the command line."""

LEAST_WIDTH, MOST_WIDTH = 3, 60
"""Limits of a column's width set by the user, in characters."""


@dataclass(frozen=True)
class Settings:
    """The settings: those of the file, and defaults for the rest. Field names are those of the file.

    Columns are always given by id, never by alias. ``columns`` None: the default set, adapted to the screen.
    ``thresholds`` and ``keys`` hold only what differs from the defaults. ``path``: where ``w`` saves, None for nowhere.
    ``mark``: a file created at the first start, None if no hint is to be shown.
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
    """Return seconds as float if they are within SECONDS. Raises Usage."""
    least, most = SECONDS[name]
    if not least <= value <= most:
        raise Usage(
            f"{said(value)} is not between {least:g} and {most:g} seconds",
            f"for instance: {getattr(Settings(), name):g}",
        )
    return float(value)


def said(value: Any) -> str:
    """Return a user's value for an error message, truncated if it is long."""
    if isinstance(value, bool):
        return str(value).lower()
    return short(f"{value:g}" if isinstance(value, float) else repr(value), 40)


def short(text: str, most: int) -> str:
    """Truncate text to ``most`` characters, with ``~`` behind if anything was cut."""
    return text if len(text) <= most else text[:most] + "~"
