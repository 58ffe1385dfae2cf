"""The layouts of kernels that differ, and what is left where a member is hidden. No kernel: its BTF is made here."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tcptop_ops.bpf import attach, cgroup, kernel_offsets, loader, loader_process
from tcptop_ops.bpf.attach import FILE_ITERATOR, Options
from tcptop_ops.bpf.btf import LACKING, VMLINUX, Btf, WantedOffset
from tcptop_ops.views.columns import COLUMNS
from tests.bpf.kernel_layouts import KERNELS, V6_18, V7_2, Kernel, btf, place

BY_MACRO = {want.macro: want for want in kernel_offsets.WANTED}
_SINCE_6_18 = {"TP_RECEIVED_CE", "TP_ACCECN_FAIL_MODE"}
NOT_THERE = {
    "6.1": {*_SINCE_6_18, "SK_INO", "TP_TOTAL_RTO", "TP_TOTAL_RTO_TIME", "TP_RTO_STAMP"},
    "6.12.111": {*_SINCE_6_18, "SK_INO"},
    "6.12.118": {*_SINCE_6_18, "SK_INO"},
    "6.18": set(),
    "7.2": set(),
}
TIMERS = {
    "6.1": ("sock.sk_timer", "inet_connection_sock.icsk_timeout"),
    "6.12.111": ("sock.sk_timer", "inet_connection_sock.icsk_timeout"),
    "6.12.118": ("inet_connection_sock.icsk_keepalive_timer", "inet_connection_sock.icsk_timeout"),
    "6.18": ("sock.sk_timer", "inet_connection_sock.icsk_retransmit_timer.expires"),
    "7.2": ("inet_connection_sock.icsk_keepalive_timer", "sock.tcp_retransmit_timer.expires"),
}
"""Of each kernel that of keepalives, and when that of retransmits expires."""


def known(kernel: Kernel, by_name: bool = False) -> kernel_offsets.KernelLayout:
    return kernel_offsets.layout_of(Btf(btf(kernel, by_name)))


@pytest.mark.parametrize("by_name", [False, True])
@pytest.mark.parametrize("name", KERNELS)
def test_each_kernel(name: str, by_name: bool) -> None:
    kernel, found = KERNELS[name], known(KERNELS[name], by_name)
    assert (found.missing, found.costs(), found.has_option, found.has_ipv6) == (frozenset(), {}, True, True)
    assert {macro for macro in BY_MACRO if found.lacks(macro)} == NOT_THERE[name]
    for want in kernel_offsets.WANTED:
        places = [place(kernel, path) for path in want.paths]
        if want.macro.startswith("KEEPALIVE"):
            places = [place(kernel, TIMERS[name][0] + ("" if "EXP" not in want.macro else ".expires"))]
            places[0] = None if places[0] is None else places[0] + (64 if "PPREV" in want.macro else 0)
        if want.macro == "ICSK_TIMEOUT":
            places = [place(kernel, TIMERS[name][1])]
        there = next((bit for bit in places if bit is not None), None)
        assert found.offsets[want.macro] == (LACKING if there is None else there // 8), want.macro


def test_sk_timer_is_no_keepalive_where_it_shares_its_place() -> None:
    """A later kernel may rename the keepalive timer once more: better none than that of retransmits."""
    renamed = deepcopy(V7_2)
    renamed["inet_connection_sock"]["*union"] = {"icsk_alive_timer": "timer_list"}
    found = known(renamed)
    assert found.lacks("KEEPALIVE_PPREV")
    assert found.lacks("KEEPALIVE_EXPIRES")
    assert found.missing == {"timer"}


COST: Mapping[str, set[str]] = {
    "SKC_NET": {"netns"},
    "NET_INUM": {"netns"},
    "SK_UID": {"uid", "user"},
    "SK_DROPS": {"drops"},
    "TP_SRTT_US": {"srtt_us", "mark_srtt_us"},
    "TP_TOTAL_RETRANS": {"retrans_segs", "retrans_win", "retrans_per_s", "retrans_pct", "mark_retrans"},
    "TP_BYTES_ACKED": {"bytes_acked", "tx_bytes_per_s", "mark_sent"},
    "TP_CHRONO_TYPE": {"busy_pct", "rwnd_limited_pct", "sndbuf_limited_pct"},
    "ICSK_PENDING": {"timer"},
    "KEEPALIVE_PPREV": {"timer"},
    "CA_NAME": {"cc"},
    "TP_TOTAL_RTO": set(),
    "SK_CGROUP": set(),
    "TP_RACK_RTT": set(),
}


def without(found: kernel_offsets.KernelLayout, *macros: str) -> kernel_offsets.KernelLayout:
    return replace(found, offsets=dict(found.offsets) | dict.fromkeys(macros, LACKING))


@pytest.mark.parametrize("macro", [want.macro for want in kernel_offsets.WANTED])
def test_a_member_that_is_hidden_costs_what_it_feeds_alone(macro: str, asked: Any) -> None:
    whole = known(V6_18)
    found = without(whole, macro)
    want = BY_MACRO[macro]
    assert {name for name in whole.offsets if found.offsets[name] != whole.offsets[name]} == {macro}
    feeds = set() if want.unless and not found.lacks(want.unless) else set(want.feeds)
    assert found.missing == feeds == COST.get(macro, feeds)
    costs = found.costs()
    assert set(costs) <= {want.member}
    features = {feature for feature in kernel_offsets.NEEDS if found.without(feature)}
    assert bool(costs) == bool(feeds or features)
    assert all(want.member in found.reason(feature) for feature in features)

    told = asked(found)
    assert told["defines"].keys() >= whole.offsets.keys(), "the C is told of every one"
    assert set(told["missing"]) == (found.missing if kernel_offsets.SOCKET not in features else set())
    compiled = any("HAVE_ITERATORS" in each for each in told["attempts"])
    assert compiled is (kernel_offsets.SOCKET not in features)
    if compiled:
        assert (FILE_ITERATOR in told["iterators"]) is (kernel_offsets.DESCRIPTORS not in features)
        adopts = not features & {kernel_offsets.ADOPTION, kernel_offsets.DESCRIPTORS}
        assert ("HAVE_ADOPTION" in told["attempts"][0]) is adopts
        assert set(told["unable"]) == {
            name
            for name, feature in (
                (FILE_ITERATOR, kernel_offsets.DESCRIPTORS),
                (attach.ADOPTION, kernel_offsets.ADOPTION),
                *((name, kernel_offsets.TRACEPOINTS) for name in attach.TRACEPOINTS),
            )
            if feature in features
        }
    else:
        assert set(told["unable"]) >= {FILE_ITERATOR}
        assert told["iterators"] == []
    assert bool(told["tracepoints"]) is (kernel_offsets.TRACEPOINTS not in features and compiled)
    assert ("TRACES" in told["defines"]) is bool(told["tracepoints"])


def test_what_a_feature_needs() -> None:
    whole = known(V6_18)
    assert {feature: whole.without(feature) for feature in kernel_offsets.NEEDS} == dict.fromkeys(
        kernel_offsets.NEEDS, ()
    )
    assert without(whole, "SKC_STATE").reason(kernel_offsets.SOCKET) == "the kernel's BTF has no sock_common.skc_state"
    assert without(whole, "SKC_V6_DADDR").without(kernel_offsets.SOCKET) == ("SKC_V6_DADDR",)
    no_ipv6 = replace(without(whole, "SKC_V6_DADDR", "SKC_V6_RCV_SADDR"), has_ipv6=False)
    assert no_ipv6.without(kernel_offsets.SOCKET) == ()
    gone = without(whole, "SK_INO", "SOCKET_FILE")
    assert gone.missing == {"inode"}
    assert gone.costs()["socket.file"] == ("inode",)
    assert kernel_offsets.NOTHING.without(kernel_offsets.SOCKET)


def test_no_tracing_where_the_map_may_not_be_used_in_any_context(asked: Any) -> None:
    """Before 6.1 the kernel would warn of it, at the load already."""
    told = asked(replace(known(V6_18), may_trace=False))
    assert told["tracepoints"] == []
    assert "TRACES" not in told["defines"]
    assert {told["unable"][name] for name in attach.TRACEPOINTS} == {"tracing programs may not use its maps yet (6.1)"}


def test_every_column_that_is_fed_is_one() -> None:
    columns = {column.id for column in COLUMNS}
    assert {column for want in kernel_offsets.WANTED for column in want.feeds} <= columns
    assert all(want.unless in {"", *BY_MACRO} for want in kernel_offsets.WANTED)
    assert {macro for sets in kernel_offsets.NEEDS.values() for each in sets for macro in each} <= BY_MACRO.keys()
    assert kernel_offsets.NEEDS.keys() == kernel_offsets.NAMES.keys()


def test_where_a_member_is_today() -> None:
    assert WantedOffset("X", ("sock.new", "sock.old")).member == "sock.new"


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What the loader is asked for, on a kernel of this layout."""
    (tmp_path / "web").mkdir()
    monkeypatch.setattr(cgroup, "is_part", lambda root: False)

    def ask(found: kernel_offsets.KernelLayout, below: str = "") -> dict[str, Any]:
        monkeypatch.setattr(kernel_offsets, "of_kernel", lambda: found)
        return attach.request(Options(reader="descriptors"), str(tmp_path / below), str(tmp_path))

    return ask


class Compiler:
    """In place of bcc: what it is given to compile, which it then refuses."""

    def __init__(self, text: str, cflags: list[str]) -> None:
        self.given.append((text, cflags))
        raise RuntimeError("not today")

    given: list[tuple[str, list[str]]]


def test_every_name_that_is_defined_is_ours(asked: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No header that bcc brings may ever meet one: its own bpf.h has TCP_BPF_SOCK_OPS_CB_FLAGS from 0.32 on."""
    monkeypatch.setattr(Compiler, "given", [], raising=False)
    monkeypatch.setattr(loader, "refused_helpers", lambda: {"HAVE_PID", "HAVE_COMM"})
    monkeypatch.setattr(loader, "is_accepted", lambda number: True)
    told = asked(known(V6_18), "web")
    told["defines"] |= told["modes"]["all"]
    log = (tmp_path / "log").open("w+b")
    with log, pytest.raises(loader.Refused, match="could not compile"):
        loader.load_first_accepted(Compiler, told, log.fileno())
    (_, flags), _ = Compiler.given  # and once more, optimized by clang
    names = {flag.removeprefix("-D").partition("=")[0] for flag in flags if flag.startswith("-D")}
    expected = {"TCO_HZ", "TCO_STATE_PAGES", "TCO_HAVE_PID", "TCO_PID_OF_TASK", "TCO_CB_FLAGS_OPTION"}
    assert names > expected | {f"TCO_{macro}" for macro in BY_MACRO}
    assert {name for name in names if not name.startswith("TCO_")} == set()

    own = {name.removeprefix("TCO_") for name in names}
    for source in (*loader_process.HERE.glob("*.c"), *loader_process.HERE.glob("*.h")):
        code = re.sub(r"/\*.*?\*/", "", source.read_text(), flags=re.DOTALL)
        words = set(re.findall(r"\w+", code))
        assert words & own == set(), f"{source.name} has a name without the prefix"
        assert {word for word in words if word.startswith("TCO_")} <= names, f"{source.name}: not all are defined"


def test_the_task_is_asked_only_where_its_layout_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "is_accepted", lambda number: True)
    refused = {"HAVE_PID", "HAVE_COMM", "HAVE_CGROUP"}
    assert loader.told_by_task(refused, {"TASK_TGID": 0, "TASK_COMM": 8}) == {"HAVE_PID", "HAVE_COMM"}
    assert loader.told_by_task(refused, {"TASK_TGID": LACKING, "TASK_COMM": 8}) == {"HAVE_COMM"}
    assert loader.told_by_task(refused, {}) == set()


@pytest.mark.skipif(not VMLINUX.exists(), reason="this kernel has no BTF")
def test_the_layout_is_found_soon() -> None:
    """Far more is allowed than it takes, 10 to 20 ms of processor time: one look-up that walks all types takes 60."""
    took = []
    for _ in range(5):
        started = time.process_time()
        kernel_offsets.of_kernel()
        took.append(time.process_time() - started)
    assert min(took) < 0.05
