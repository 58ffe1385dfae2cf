"""What a run of the soak does, for how long, and with how many connections."""

from __future__ import annotations

from dataclasses import dataclass

from tcptop_ops.tracking.lingering import BAD_CLOSED_S

REST_PORT, SHORT_PORT, TALK_PORT = 7001, 7002, 7003  # below the ephemeral ones: nothing else has them in a lab
GROUP = 8_000
"""Connections of one process and its peer: some systems allow no more than 20,000 descriptors."""

LOSS_PERCENT = 2.0
LOSSY_SHARE = 0.05
"""Of the short connections; and TALKERS exchange 16 KiB a second with the same loss."""

TALKERS = 20
HALF_OPEN = 20
GROWTH_PERCENT = 3.0
PATIENCE_S = 120.0
LISTED = f"(port = {REST_PORT} and bytes_received > 1) or end = unseen"
"""Nothing, until the resting connections exchange their second byte: 20,000 rows a tick would measure the reader."""

AT_REST = {"LISTEN", "ESTAB", "TIME-WAIT", "SYN-RECV"}
"""The last two have no rows, and are counted for the whole host."""


@dataclass(frozen=True)
class Plan:
    """How long, and how much."""

    minutes: float = 60.0
    open: int = 10_000  # connections that rest; both ends are watched
    rate: float = 2_000.0  # short connections a second
    sample_s: float = 10.0
    visit_s: float = 4.0  # between two new namespaces
    delay_s: float = 1.0
    screen: bool = False

    @property
    def warm_up_s(self) -> float:
        """Five minutes of twenty or more, half of a minute or two, else a quarter.

        A bad closed row stays for a minute, but of these there are too few to be seen in what a process takes.
        """
        return min(300.0, max(self.minutes * 15, min(self.minutes * 30, BAD_CLOSED_S)))


ONE_MINUTE = Plan(minutes=1, open=2_000, rate=500, sample_s=1)
