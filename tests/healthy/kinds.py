"""All kinds, each with a port of its own, and at which places each is at work."""

from __future__ import annotations

from tests.healthy import passing, requests, streams
from tests.healthy.kind import FIRST_PORT, HOLE_PORT, Kind

KINDS: dict[str, Kind] = {kind.name: kind for kind in (*streams.KINDS, *requests.KINDS, *passing.KINDS)}

PORTS: dict[str, int] = {name: FIRST_PORT + number for number, name in enumerate(KINDS)}
"""Of the listener, wherever it is; below the ephemeral ones, and nothing else has them in a lab."""

NAMES: dict[int, str] = {port: name for name, port in PORTS.items()} | {HOLE_PORT: "losers and given up"}
"""Kind by port."""

BY_TURNS = [name for name in KINDS if name not in streams.NARROW]
"""What is at work on loopback and on a plain link: every other one over IPv4 here and IPv6 there."""

LONG = [
    *("ask", "ask-large", "think", "server-thinks", "keystrokes", "pipeline", "pool", "pool-keepalive", "pool-dropped"),
    *("reader-2k", "reader-100k", "buffer-16k", "half-closed", "half-closed-slow", "upload-after-fin", "paced-200k"),
    *("cork", "corked-for-good", "messages", "trickle", "events", "short", "short-server-closes", "short-together"),
    *("reset-when-done", "reset-after-upload", "check", "check-by-reset", "farewell", "farewell-unread"),
    *("race-staggered", "accepted-in-turns", "deferred", "bounded"),
]
"""What is at work over a path with a delay."""

SHAPED = ["bounded", "ask", "paced-200k", "think", "short", "short-server-closes", "half-closed"]
"""What is at work over a bottleneck, which it does not fill: a queue that overflows loses packets."""

PLAIN = [
    *("bulk-cubic", "download", "ask", "ask-large", "think", "reader-20k", "reader-2M", "buffer-16k", "paced-5M"),
    *("messages", "half-closed", "pool-dropped", "short", "reset-when-done", "farewell"),
]
"""What is at work where an option of TCP is off, or another one on."""
