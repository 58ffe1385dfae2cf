"""A kernel that lacks members of its structs, made of this one by hiding them: the program still compiles and loads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tcptop_ops.bpf import attach, kernel_offsets
from tcptop_ops.bpf.btf import LACKING
from tcptop_ops.views.columns import COLUMNS
from tests.live.watch import Watch
from tests.support.lab import Lab, Link
from tests.support.witness import wait_quiet

SENT = 70_001
REQUIRED = {macro for needed in kernel_offsets.NEEDS[kernel_offsets.SOCKET] for macro in needed}
REQUIRED |= {"SKC_V6_DADDR", "SKC_V6_RCV_SADDR"}
DESCRIPTORS = {macro for needed in kernel_offsets.NEEDS[kernel_offsets.DESCRIPTORS] for macro in needed}


def hide(monkeypatch: pytest.MonkeyPatch, *macros: str) -> kernel_offsets.KernelLayout:
    whole = kernel_offsets.of_kernel()
    less = replace(whole, offsets=dict(whole.offsets) | dict.fromkeys(macros, LACKING))
    monkeypatch.setattr(kernel_offsets, "of_kernel", lambda: less)
    return less


@pytest.fixture
def link(lab: Lab) -> Link:
    return lab.link("near", "far", offload=False)


def exchange(lab: Lab, link: Link, cgroup: Path, watch: Watch) -> tuple[dict[str, Any], dict[str, Any]]:
    """The row of a connection that has sent SENT bytes, while it is open and after that."""
    server = lab.server(link.b.ns, "serve-sink", SENT, cgroup=cgroup, address=link.b.ipv4, then="hold")
    client = lab.client(link.a.ns, "connect-only", address=link.b.ipv4, port=server.port, cgroup=cgroup, comm="near")
    client.expect("done")
    client.tell(f"send {SENT}")
    assert server.expect("received") == str(SENT)
    wait_quiet(link.a.ns, client.port)
    alive = watch.open(client.port)
    client.tell("close")
    return alive, watch.closed(client.port)


def test_a_few_members(lab: Lab, link: Link, cgroup: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hidden = ("TP_SRTT_US", "TP_MSS_CACHE", "SK_UID", "ICSK_CA_OPS", "KEEPALIVE_PPREV", "TP_CHRONO_TYPE")
    less = hide(monkeypatch, *hidden)
    null = {
        column for macro in hidden for want in kernel_offsets.WANTED if want.macro == macro for column in want.feeds
    }
    with Watch(cgroup) as watch:
        assert watch.source.attached.refused == {}
        assert watch.flows.snapshot.missing == less.missing == null
        alive, closed = exchange(lab, link, cgroup, watch)
        everything = {column.id for column in COLUMNS if not column.screen_only}
        for row in (alive, closed):
            assert {row[name] for name in null & everything} == {None}
            assert (row["state"], row["raddr"]) == ("UNCONN" if row is closed else "ESTAB", link.b.ipv4)
            assert row["bytes_acked"] >= SENT + 1
            assert None not in {row[name] for name in ("cwnd", "rto_us", "netns", "process", "send_q")}
        assert alive["inode"] is not None


def test_all_that_nothing_needs(lab: Lab, link: Link, cgroup: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With every member hidden but those without which a feature would go, connections and their ends are told."""
    kept = REQUIRED | DESCRIPTORS | {"TP_CB_FLAGS", "SKC_COOKIE", *kernel_offsets.CGROUP}
    less = hide(monkeypatch, *(want.macro for want in kernel_offsets.WANTED if want.macro not in kept))
    with Watch(cgroup) as watch:
        assert watch.source.attached.refused == {}
        assert "HAVE_ITERATORS" in watch.source.attached.features
        assert watch.flows.snapshot.missing == less.missing
        alive, closed = exchange(lab, link, cgroup, watch)
        assert (alive["state"], alive["direction"], alive["process"]) == ("ESTAB", "out", "near")
        assert (closed["state"], closed["raddr"], closed["bytes_acked"]) == ("UNCONN", link.b.ipv4, None)
        assert alive["cause"] in ("healthy", "idle")
        sockets = watch.flows.closed.sockets
        assert not np.any(sockets["srtt_us"])


@pytest.mark.parametrize(
    ("macro", "lost"),
    [("TASK_TGID", attach.FILE_ITERATOR), ("TP_CB_FLAGS", attach.ADOPTION)],
)
def test_a_feature_goes_alone(
    macro: str, lost: str, lab: Lab, link: Link, cgroup: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    less = hide(monkeypatch, macro)
    with Watch(cgroup) as watch:
        attached = watch.source.attached
        assert {name: reason.partition(" no ")[2] for name, reason in attached.refused.items()} == {
            lost: next(want.member for want in kernel_offsets.WANTED if want.macro == macro)
        }
        assert {attach.FILE_ITERATOR} - {lost} <= attached.fds.keys()
        assert lost not in attached.fds
        assert less.missing == set()
        alive, closed = exchange(lab, link, cgroup, watch)
        assert alive["state"] == "ESTAB"
        assert closed["bytes_acked"] >= SENT + 1


def test_without_the_cookie_no_tracepoint(lab: Lab, link: Link, cgroup: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "SKC_COOKIE")
    with Watch(cgroup) as watch:
        attached = watch.source.attached
        lost = (*attach.TRACEPOINTS, attach.ADOPTION)
        assert attached.refused == dict.fromkeys(lost, "the kernel's BTF has no sock_common.skc_cookie")
        assert not set(attach.TRACEPOINTS) & attached.fds.keys()
        assert exchange(lab, link, cgroup, watch)[0]["state"] == "ESTAB"


def test_a_tracepoint_that_is_not_there(
    lab: Lab, link: Link, cgroup: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Found by trying, and told."""
    monkeypatch.setattr(attach, "TRACEPOINTS", (*attach.TRACEPOINTS[:2], "tcp_send_rest"))
    (tmp_path / "unknown.c").write_text("int trace_tcp_send_rest(__u64 *ctx)\n{\n\treturn 0;\n}\n")
    monkeypatch.setattr(attach, "PROGRAMS", (*attach.PROGRAMS, str(tmp_path / "unknown.c")))
    with Watch(cgroup) as watch:
        attached = watch.source.attached
        assert attached.refused == {"tcp_send_rest": "this kernel has no such tracepoint"}
        assert set(attach.TRACEPOINTS[:2]) <= attached.fds.keys()
        assert exchange(lab, link, cgroup, watch)[0]["state"] == "ESTAB"


def test_without_what_every_socket_has(lab: Lab, link: Link, cgroup: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sockets are polled, and what the sock_ops context tells makes the final record."""
    hide(monkeypatch, "SKC_STATE")
    with Watch(cgroup) as watch:
        assert not watch.source.attached.features & {"HAVE_BTF_SOCKET", "HAVE_ITERATORS"}
        assert any("sock_common.skc_state" in note for note in watch.flows.snapshot.notes)
        assert watch.flows.snapshot.missing == set()
        alive, closed = exchange(lab, link, cgroup, watch)
        assert (alive["state"], closed["raddr"]) == ("ESTAB", link.b.ipv4)
        assert alive["srtt_us"] > 0
        assert closed["bytes_acked"] >= SENT + 1
