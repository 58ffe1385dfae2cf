"""Draw the screenshots again: ``python -m screenshots.make``. The host in them is invented, so that they never differ.

``--check`` compares them with the files instead, and prints the names of those that differ.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from textual.pilot import Pilot

from screenshots.scene import SECONDS, SSHD, Scene
from tcptop_ops.app.application import TcptopApp
from tcptop_ops.app.cost_meter import CostMeter
from tcptop_ops.config.settings import Settings
from tcptop_ops.model.snapshot import Snapshot
from tcptop_ops.model.usage import OwnCost
from tcptop_ops.polling.poller import polled
from tcptop_ops.tracking.tracker import Tracker
from tcptop_ops.views.view import Spec
from tcptop_ops.widgets.panels.summary import HeaderStatus

HERE = Path(__file__).parent
NEVER_S = 3600.0

Size = tuple[int, int]
PICTURES: dict[str, tuple[Size, tuple[str, ...]]] = {
    "main": ((100, 30), ()),
    "narrow": ((80, 24), ()),
    "wide": ((160, 40), ("j",)),
    "detail": ((140, 50), ("j", "j", "enter")),
    "operators": ((100, 34), ("o", *["j"] * 8)),
    "group": ((100, 30), ("g", "j", "j", "j", "enter", "enter")),
    "filter": ((100, 24), ("slash", *"retr% > 2 and not nginx")),
    "help": ((100, 40), ("question_mark",)),
    "light": ((100, 30), ()),
}
"""Size in cells, and the keys to press once the last second is on the screen, by name of the file."""


class FixedCost(CostMeter):
    """Always the same cost, so that pictures are."""

    def told(self, status: HeaderStatus, snapshot: Snapshot) -> HeaderStatus:
        """Return the status with that cost."""
        own = OwnCost(cpu_pct=0.8, thread_pct=0.3, rss_bytes=96_000_000)
        return replace(status, own=own, terminal_per_s=1100.0, delay_s=1.0)


async def tick(app: TcptopApp, pilot: Pilot[Any], number: int) -> None:
    """Wait until the tick with this number is on the screen. Raises SystemExit if the app has ended."""
    while app.shown is None or app.shown.flows.tick < number:
        if app.return_code is not None:
            raise SystemExit(f"it ended: {app.return_value}")
        await pilot.pause()


async def draw(size: Size, keys: tuple[str, ...], light: bool) -> str:
    """Return one screenshot as SVG. ``size``: width and height in cells."""
    settings = Settings(theme="light" if light else "dark")
    app = TcptopApp(polled(Scene, Tracker()), Spec(), delay_s=NEVER_S, host="web-3", settings=settings)
    app.main.costs = FixedCost(app.bytes_written)
    app.receiver.sshds = frozenset({SSHD})
    async with app.run_test(size=size) as pilot:
        await tick(app, pilot, 0)
        for number in range(1, SECONDS + 1):
            if number == SECONDS and keys[-2:] == ("j", "enter"):  # its story is recorded from the next tick on
                await pilot.press(*keys)
                await pilot.pause()
                keys = ()
            app.poller.poll_now()
            await tick(app, pilot, number)
        for key in keys:
            await pilot.press(key if len(key) > 1 or key.isalnum() else KEY_NAMES[key])
        await pilot.pause()
        return app.export_screenshot(title="tcptop-ops")


KEY_NAMES = {" ": "space", "%": "percent_sign", ">": "greater_than_sign", "/": "slash"}


def main() -> int:
    """Draw or check all screenshots. Return the exit status: 1 if ``--check`` found a difference, otherwise 0."""
    differ = []
    for name, (size, keys) in PICTURES.items():
        drawn, path = asyncio.run(draw(size, keys, name == "light")), HERE / f"{name}.svg"
        if "--check" not in sys.argv:
            path.write_text(drawn)
        elif not path.exists() or path.read_text() != drawn:
            differ.append(name)
    print(*(f"{name} differs" for name in differ), sep="\n", end="\n" * bool(differ))
    return bool(differ)


if __name__ == "__main__":
    sys.exit(main())
