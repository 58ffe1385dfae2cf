"""Settings files at the place where the program looks for them."""

from __future__ import annotations

import stat
from pathlib import Path

OTHER_ID = 12345
"""A user that this host need not know."""


def placed(home: Path, text: str | bytes = "") -> Path:
    """Write the settings file of this home, and return its path."""
    path = home / ".config/tcptop-ops/config.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def mode(path: Path) -> int:
    """Return the permissions of a file."""
    return stat.S_IMODE(path.stat().st_mode)


EVERYTHING = """
delay = 2
window = 60
closed = 0
sort = "retr"
columns = ["process", "peer", "srtt"]
group = "remote-net"
names = true
mouse = false
theme = "light"
show_closed = false
loopback = false
widths = { peer = 30, srtt = 7 }

[thresholds]
srtt = [20_000, 1e5]
score = [10, 50]

[keys]
quit = "Q, f12"
sort.menu = "!"
"filter.clear" = "slash"
filter = "\\\\"
"""
