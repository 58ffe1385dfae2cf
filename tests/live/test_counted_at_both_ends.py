"""Loss, lost acknowledgements and reordering between two namespaces of this host: told apart, and exactly counted."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from tcptop_ops.diagnosis.both_ends import RESTS_US
from tcptop_ops.tracking.tracker import Tracker
from tests.live.faults import HARMLESS
from tests.live.watch import Watch
from tests.support.lab import Lab, Link, Traffic
from tests.support.leftovers import wait_until

pytestmark = pytest.mark.halved

SECONDS = 2
"""Length of each transfer, about; all go on at the same time."""

PACE = 400_000  # bytes a second


class Transfer:
    """One at a time over a link of its own, from ``a`` to ``b``."""

    def __init__(self, lab: Lab, link: Link, family: str, mode: str, count: int, **options: Any) -> None:
        address = getattr(link.b, family)
        self.link = link
        self.server = lab.server(link.b.ns, "serve-sink", address=address, comm="taker")
        words: dict[str, Any] = {"address": address, "port": self.server.port, "comm": "giver"}
        self.client: Traffic = lab.client(link.a.ns, mode, count, **words, **options)
        self.client.expect("connected")

    def is_seen(self, watch: Watch) -> bool:
        """Whether a new tick has both ends."""
        ports = {self.client.port, self.server.port}
        return sum({row["lport"], row["rport"]} == ports for row in watch.rows()) == 2

    def is_done(self, watch: Watch) -> bool:
        """Whether all has been acknowledged, a while ago."""
        near, _ = self.ends(watch)
        return bool(near["send_q"] == 0 and near["idle_s"] >= RESTS_US / 1e6)

    def ends(self, watch: Watch) -> tuple[dict[str, Any], dict[str, Any]]:
        """The rows of the sender and of the receiver, of a tick that was taken."""
        rows = [row for row in watch.rows() if row["state"] == "ESTAB"]
        [near] = [row for row in rows if (row["lport"], row["rport"]) == (self.client.port, self.server.port)]
        [far] = [row for row in rows if (row["lport"], row["rport"]) == (self.server.port, self.client.port)]
        return near, far


def paced(lab: Lab, link: Link, family: str) -> Transfer:
    """One that sends as fast as PACE, once it is told to."""
    return Transfer(lab, link, family, "connect-only", 0, pace=PACE)


@pytest.fixture(params=["sockops", "polled"])
def everything(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Watch]:
    with Watch(lab.cgroup("watched").parent, polled=request.param == "polled") as made:
        made.tracker = Tracker(window_s=300)  # longer than the test, however slow the machine
        yield made


def test_what_was_lost_what_had_arrived_and_what_came_out_of_order(lab: Lab, everything: Watch) -> None:
    links = [lab.link(f"a{n}", f"b{n}", offload=n == 3) for n in range(4)]
    crossing = lab.slow_path("a9", "b9", delay_ms=5, late_every=10, late_ms="4 8")
    back = lab.loss(links[2].a)
    lossy, lossy6 = paced(lab, links[0], "ipv4"), paced(lab, links[1], "ipv6")
    well, crossed = paced(lab, links[3], "ipv4"), paced(lab, crossing, "ipv4")
    deaf = Transfer(lab, links[2], "ipv4", "messages", 0)
    for transfer in (lossy, lossy6, well, crossed, deaf):
        wait_until(partial(transfer.is_seen, everything), what="namespaces that are new")
    lossy.link.loss.every(20)
    lossy6.link.loss.every(50)
    back.plain_acks()
    for transfer in (lossy, lossy6, well, crossed):
        transfer.client.tell(f"send {PACE * SECONDS}")
    for transfer in (lossy, lossy6, well, crossed):
        wait_until(partial(transfer.is_done, everything), 30, what="all acknowledged")
    for transfer in (lossy, lossy6):
        near, far = transfer.ends(everything)
        lost = transfer.link.loss.dropped()
        assert (near["cause"], near["blame"]) == ("loss", "network"), near["evidence"]
        assert re.match(rf"{lost} of \d+ segments did not reach taker {transfer.server.pid} \(", near["evidence"]), lost
        assert far["cause"] == "inbound-loss", far
        assert re.match(rf"{lost} of \d+ segments that giver {transfer.client.pid} sent did not", far["evidence"]), lost
    wait_until(lambda: deaf.ends(everything)[0]["retrans_win"] >= 30, 30, what="retransmits")
    wait_until(lambda: deaf.ends(everything)[0]["cause"] == "spurious", 30, what="three seconds of them")
    near, far = deaf.ends(everything)
    words = r"(all|\d+ of) \d+ retransmitted segments in \d+ s had arrived: \d+ of \d+ ACKs were lost"
    assert re.match(words, near["evidence"]), near["evidence"]
    assert (far["score"], far["cause"] in HARMLESS) == (0, True), far["evidence"]
    for row in [*well.ends(everything), crossed.ends(everything)[1]]:
        assert (row["score"], row["cause"] in HARMLESS) == (0, True), (row["cause"], row["evidence"])
    assert crossed.ends(everything)[1]["ooo_in"] > 10
    assert crossed.ends(everything)[0]["cause"] in HARMLESS | {"reordering", "spurious"}
