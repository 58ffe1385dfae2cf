"""Make the pictures again, from real lossy traffic: python -m screenshots.make (root, and what the live tests need).

An address of a network namespace of the lab differs each time, and so do the figures.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from textual.pilot import Pilot

from tcptop_ops.app import TcptopApp
from tcptop_ops.bpf.launch import Options
from tcptop_ops.bpf.source import SockOpsSource
from tcptop_ops.tracker import Tracker
from tcptop_ops.view import Spec
from tests.lab import Lab, Traffic

HERE = Path(__file__).parent
TICKS = 12


def traffic(lab: Lab, cgroup: Path) -> list[Traffic]:
    """A lossy path, a queue, a clean path with idle and slow connections, a connect that nobody answers."""
    lossy = lab.link("web", "branch", loss_percent=2, rate="8mbit")
    slow = lab.link("db", "backup", rate="10mbit")
    clean = lab.link("app", "cache", rate="5mbit")
    running: list[Traffic] = []

    def bulk(near: str, far: str, address: str, comm: str) -> None:
        server = lab.server(far, "serve-sink", cgroup=cgroup, comm="sink")
        client = lab.client(near, "send-endless", cgroup=cgroup, address=address, port=server.port, comm=comm)
        running.extend((server, client))

    for comm in ("nginx", "nginx", "nginx"):
        bulk(lossy.a.ns, lossy.b.ns, lossy.b.ipv4, comm)
    bulk(slow.a.ns, slow.b.ns, slow.b.ipv4, "borg")
    cache = lab.server(clean.b.ns, "serve-echo", cgroup=cgroup, comm="redis-server", address="::")
    running.append(cache)
    for address in (clean.b.ipv4, clean.b.ipv6) * 4:
        to = {"address": address, "port": cache.port}
        running.append(lab.client(clean.a.ns, "connect-only", cgroup=cgroup, comm="gunicorn", **to))
    lab.black_hole(lossy.b.ns, 5432)
    running.append(lab.client(lossy.a.ns, "connect-only", cgroup=cgroup, comm="curl", address=lossy.b.ipv4, port=5432))
    return running


async def ticked(app: TcptopApp, pilot: Pilot[Any], tick: int) -> None:
    """Wait until this tick is on the screen."""
    while app.shown is None or app.shown.flows.tick < tick:
        await pilot.pause(0.1)


async def take(name: str, size: tuple[int, int], cgroup: Path, keys: tuple[str, ...] = ()) -> None:
    """One picture, after TICKS ticks; and after as many again once these keys were pressed."""
    app = TcptopApp(lambda: SockOpsSource(Options(cgroup=str(cgroup))), Tracker(), Spec(), delay_s=0.5, host="web-3")
    async with AsyncExitStack() as stack:
        pilot = await stack.enter_async_context(app.run_test(size=size))
        await ticked(app, pilot, TICKS)
        if keys:
            await pilot.press(*keys)
            await ticked(app, pilot, 3 * TICKS)
        (HERE / f"{name}.svg").write_text(app.export_screenshot(title="tcptop-ops"))
        app.exit()


def main() -> int:
    """Exit status 0: all pictures were made."""
    with Lab() as lab:
        cgroup = lab.cgroup("pictured")
        kept = traffic(lab, cgroup)
        for name, size in (("main", (100, 30)), ("wide", (160, 34)), ("narrow", (80, 24))):
            asyncio.run(take(name, size, cgroup))
        asyncio.run(take("detail", (160, 50), cgroup, ("j", "enter")))
        asyncio.run(take("operators", (100, 30), cgroup, ("o", *["j"] * 8)))
        print(f"{len(kept)} programs pictured", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
