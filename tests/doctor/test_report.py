"""The doctor: facts to checks, checks to text; and how the little files that it reads are read. No kernel."""

from __future__ import annotations

import json
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcptop_ops.bpf import kernel_offsets
from tcptop_ops.doctor import probe
from tcptop_ops.doctor.report import (
    CHECKS,
    Accepted,
    AttachedProgram,
    Cgroups,
    Check,
    CheckStatus,
    Facts,
    Interpreter,
    Members,
    Refusal,
    Report,
    Sockets,
    as_json,
    report,
    table,
)
from tcptop_ops.errors import Failed, Unsupported
from tcptop_ops.sources.sockops import SockOpsSource

EVERYTHING = frozenset({"HAVE_BTF_SOCKET", "HAVE_ITERATORS", "HAVE_ADOPTION", "HAVE_PID", "HAVE_COMM", "HAVE_CGROUP"})
WELL = Facts(
    python="3.11.2, /opt/venv/bin/python",
    interpreters=(Interpreter("/usr/bin/python3", "0.26.0"),),
    uid=0,
    capabilities=0x1FFFFFFFFFF,
    privileged=True,
    mapped_users=2**32 - 1,
    kernel="6.12.1-amd64",
    machine="x86_64",
    btf=Members(86),
    lockdown="none",
    unprivileged_bpf=2,
    cgroups=Cgroups("/sys/fs/cgroup", part=False, unmounted=False),
    cgroup=None,
    programs=(),
    attached=Accepted(EVERYTHING, {}, "all", 65536, 16 << 20),
    sockets=Sockets(
        "sockops", 40, (40, 41), namespaces=3, all_namespaces=True, reader="by descriptors, which costs less here: 1 ms"
    ),
    user_after="ada (uid 1000)",
    capabilities_after=0,
)
REFUSED = Refusal("the kernel said no", "ask it nicely")
THEIRS = AttachedProgram(7, "theirs", "/web", flags=2, above=True)


def check(name: str, **facts: Any) -> Check:
    """The check of this name, of a host that is well but for these facts."""
    [found] = [each for each in report(replace(WELL, **facts)).checks if each.name == name]
    return found


def test_a_host_where_all_is_well() -> None:
    found = report(WELL)
    assert found.works
    assert len(found.checks) == len(CHECKS) == len({each.name for each in found.checks})
    assert {each.status for each in found.checks} == {"ok"}
    assert table(found).splitlines()[0] == "sockops works here."
    assert "-> " not in table(found)


@pytest.mark.parametrize(
    ("name", "facts", "status", "found", "remedy"),
    [
        ("bcc", {"interpreters": ()}, "missing", "no Python", "python3-bpfcc"),
        ("bcc", {"interpreters": (Interpreter("/p", None, "No module"),)}, "missing", "/p: No module", "never PyPI"),
        ("bcc", {"interpreters": (Interpreter("/p", None), Interpreter("/q", "0.3"))}, "ok", "0.3, of /q", ""),
        ("privilege", {"privileged": False, "uid": 1000, "capabilities": 0}, "missing", "uid 1000, CapEff 0", "sudo"),
        ("privilege", {"mapped_users": 1, "attached": REFUSED}, "missing", "in a user namespace", "outside"),
        ("privilege", {"mapped_users": 65536}, "ok", "in a user namespace", ""),
        ("kernel", {"kernel": "5.4.0-90-generic", "attached": REFUSED}, "missing", "Linux 5.4.0-90-generic", "5.8"),
        ("kernel", {"kernel": "5.4.0-90-generic"}, "ok", "Linux 5.4.0-90-generic", ""),  # it has been backported
        ("kernel", {"kernel": "5.10", "attached": REFUSED}, "ok", "5.10", ""),
        ("kernel", {"kernel": "6+", "attached": REFUSED}, "missing", "6+", "5.8"),
        ("btf", {"btf": REFUSED}, "warn", "the kernel said no", "CONFIG_DEBUG_INFO_BTF"),
        ("btf", {}, "ok", "86 members", ""),
        ("btf", {"btf": Members(85, {"sock.sk_uid": ("uid", "user")})}, "warn", "sock.sk_uid (uid, user)", "report it"),
        ("lockdown", {"lockdown": None}, "ok", "none", ""),
        ("lockdown", {"lockdown": "integrity"}, "ok", "integrity", ""),
        ("lockdown", {"lockdown": "confidentiality"}, "warn", "confidentiality", "lockdown=integrity"),
        ("lockdown", {"lockdown": "confidentiality", "attached": REFUSED}, "missing", "confidentiality", "lockdown="),
        ("unpriv_bpf", {"unprivileged_bpf": None}, "ok", "not told", ""),
        ("unpriv_bpf", {"unprivileged_bpf": 0}, "ok", "any user", ""),
        ("cgroup", {"cgroups": REFUSED}, "missing", "the kernel said no", "ask it nicely"),
        ("cgroup", {"cgroups": Cgroups("/proc/1/fd/3", False, True)}, "ok", "mounted privately", ""),
        ("cgroup", {"cgroups": Cgroups("/cg", True, False)}, "warn", "only the sockets of this container", "outside"),
        ("cgroup", {"cgroups": Cgroups("/cg", True, True)}, "warn", "mounted privately, for as long as", "outside"),
        ("cgroup", {"cgroup": "web.slice"}, "ok", "v2 at /sys/fs/cgroup; --cgroup web.slice", ""),
        ("neighbours", {"programs": None}, "warn", "only root is told", "sudo"),
        ("neighbours", {"programs": (THEIRS,)}, "warn", "theirs (id 7) at /web, multi", "--callbacks all"),
        ("neighbours", {"programs": (THEIRS, replace(THEIRS, flags=0))}, "missing", "for itself", "BPF_F_ALLOW_MULTI"),
        ("neighbours", {"programs": (replace(THEIRS, flags=1),)}, "missing", "may be overridden", "keeps us out"),
        ("neighbours", {"programs": (replace(THEIRS, flags=0, above=False),)}, "warn", "for itself", "beside"),
        ("neighbours", {"programs": (replace(THEIRS, flags=None),)}, "warn", "above this container", "beside"),
        ("neighbours", {"programs": (replace(THEIRS, flags=6),)}, "warn", "flags 6", "beside"),
        ("sock_ops", {"attached": REFUSED}, "missing", "the kernel said no", "ask it nicely"),
        ("sock_ops", {}, "ok", "callbacks: all", ""),
        ("features", {"attached": REFUSED}, "warn", "not attached", "above"),
        ("map", {"attached": REFUSED}, "warn", "not attached", "above"),
        ("map", {}, "ok", "room for 65536 connections (--map-size); a ring of 16 MiB", ""),
        ("namespaces", {}, "ok", "3 network namespaces", ""),
        ("namespaces", {"sockets": REFUSED}, "warn", "the kernel said no", "ask it nicely"),
        ("namespaces", {"sockets": Sockets("sockdiag", 1, (1, 1), 1, False)}, "warn", "1 network namespace lo", "sudo"),
        ("sockets", {"sockets": REFUSED}, "warn", "the kernel said no", "ask it nicely"),
        ("sockets", {"sockets": Sockets("sockops", 9, None, 1, True)}, "ok", "9 listed by sockops; not compared", ""),
        ("sockets", {"sockets": Sockets("sockdiag", 7, (7, 7), 1, True)}, "ok", "sockdiag, 7 in use", ""),
        ("reader", {"sockets": REFUSED}, "warn", "the kernel said no", "ask it nicely"),
        ("reader", {}, "ok", "read by descriptors, which costs less here: 1 ms", ""),
        ("reader", {"sockets": Sockets("sockdiag", 7, (7, 7), 1, True)}, "ok", "by sock_diag: the program is not", ""),
        ("user", {}, "ok", "ada (uid 1000), CapEff 0000000000000000", ""),
        ("user", {"capabilities_after": 1 << 19}, "warn", "CapEff 0000000000080000", "report"),
        ("user", {"kept": "still root: can't become ada"}, "warn", "still root", "outside the container"),
    ],
)
def test_each_check(name: str, facts: dict[str, Any], status: CheckStatus, found: str, remedy: str) -> None:
    said = check(name, **facts)
    assert said.status == status
    assert found in said.found
    assert remedy in said.remedy
    assert bool(said.remedy) is (status != "ok")


@pytest.mark.parametrize(
    ("listed", "counted", "status"),
    [
        (100, (100, 100), "ok"),
        (98, (100, 105), "ok"),
        (107, (100, 105), "ok"),
        (97, (100, 105), "warn"),
        (108, (105, 100), "warn"),
        (0, (3, 3), "warn"),
        (98_000, (100_000, 100_000), "ok"),
        (97_999, (100_000, 100_000), "warn"),
    ],
)
def test_sockets_listed_and_counted(listed: int, counted: tuple[int, int], status: CheckStatus) -> None:
    assert check("sockets", sockets=Sockets("sockops", listed, counted, 1, True)).status == status


@pytest.mark.parametrize(
    ("lacking", "refused", "without"),
    [
        ({"HAVE_PID"}, {}, ["process id in sock_ops (6.10)"]),
        ({"HAVE_ADOPTION"}, {}, ["adoption of open sockets (6.12)"]),
        (set(), {"bpf_iter__task_file": "no such kfunc"}, ["state and owners by one pass over descriptors (5.11)"]),
        ({"HAVE_COMM", "HAVE_CGROUP"}, {}, ["process name", "cgroup id"]),
        (set(), {"tcp_receive_reset": "no such tracepoint"}, ["resets received (6.1)"]),
        (
            set(),
            {"inet_sk_error_report": "not yet", "tcp_send_reset": "not yet"},
            ["errors of open sockets (6.1)", "resets sent (6.1)"],
        ),
    ],
)
def test_features(lacking: set[str], refused: dict[str, str], without: list[str]) -> None:
    found = check("features", attached=Accepted(EVERYTHING - lacking, refused, "all", 1, 1 << 20))
    assert found.status == "warn"
    have, _, rest = found.found.partition("; without: ")
    assert rest.split("; ")[0].split(", ") == without
    assert not any(name in have for name in without)
    for name, reason in refused.items():
        assert f"{name}: {reason}" in rest


def test_no_feature_at_all() -> None:
    found = check("features", attached=Accepted(frozenset(), {}, "all", 1, 1 << 20))
    assert found.found.startswith("none; without: state and owners by one pass over descriptors")


def test_what_is_missing_decides() -> None:
    assert not report(replace(WELL, attached=REFUSED)).works
    assert report(replace(WELL, btf=REFUSED, programs=None)).works
    first = table(report(replace(WELL, attached=REFUSED))).splitlines()[0]
    assert first == "sockops does not work here; --source sockdiag does. What is missing:"
    assert "less to see" in table(report(replace(WELL, btf=REFUSED))).splitlines()[0]


def test_the_table() -> None:
    shown = table(Report(False, (Check("one", "ok", "fine"), Check("number two", "missing", "gone", "get it"))))
    assert shown == (
        "sockops does not work here; --source sockdiag does. What is missing:\n"
        "\n"
        "ok       one         fine\n"
        "missing  number two  gone\n"
        "                     -> get it\n"
    )


def test_json() -> None:
    text = as_json(Report(True, (Check("b", "warn", "found\n\x1b", "do"),)))
    assert text.count("\n") == 1
    assert json.loads(text) == {
        "schema": "tcptop-ops/doctor/1",
        "works": True,
        "checks": [{"name": "b", "status": "warn", "found": "found\n\x1b", "remedy": "do"}],
    }


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)


@given(st.lists(st.tuples(TEXTS, TEXTS, st.sampled_from(["ok", "warn", "missing"]))))
def test_whatever_it_finds_the_table_is_narrow_and_plain(rows: list[tuple[str, str, CheckStatus]]) -> None:
    """Paths and names of programs are chosen by others."""
    shown = table(Report(True, tuple(Check("name", status, found, remedy) for found, remedy, status in rows)))
    lines = shown.split("\n")
    assert len(lines) >= 3 + len(rows)
    assert lines[-1] == ""
    for line in lines:
        assert len(line) <= 80
        assert all(" " <= c <= "~" for c in line)
        assert line == line.rstrip()


@given(st.text(max_size=20))
def test_any_release_is_read(release: str) -> None:
    assert check("kernel", kernel=release, attached=REFUSED).status in ("ok", "missing")


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("[none] integrity confidentiality\n", "none"),
        ("none [integrity] confidentiality\n", "integrity"),
        ("none integrity [confidentiality]\n", "confidentiality"),
        ("", None),
        (None, None),
    ],
)
def test_lockdown(text: str | None, mode: str | None) -> None:
    assert probe.lockdown(text) == mode


def test_numbers_and_users() -> None:
    assert [probe.number(text) for text in ("2\n", "0", "", "-1", "two", None)] == [2, 0, None, None, None, None]
    assert probe.mapped_users("         0          0 4294967295\n") == 2**32 - 1
    assert probe.mapped_users("0 1000 1\n1 100000 65536\n") == 65537
    assert probe.mapped_users(None) == 2**32 - 1


def test_sockets_in_use() -> None:
    four = "sockets: used 300\nTCP: inuse 5 orphan 1 tw 2 alloc 9 mem 3\nUDP: inuse 4 mem 1\nFRAG: inuse 0 memory 0\n"
    six = "TCP6: inuse 11\nUDP6: inuse 3\nUDPLITE6: inuse 0\n"
    assert probe.count_in_use(four, six) == 16
    assert probe.count_in_use(four, None) == 5  # no IPv6
    assert probe.count_in_use("", "TCP:\n"[:0]) == 0


def interpreter(directory: Path, code: str) -> str:
    program = directory / "python"
    program.write_text(f"#!/bin/sh\n{code}\n")
    program.chmod(stat.S_IRWXU)
    return str(program)


def test_which_python_has_bcc(tmp_path: Path) -> None:
    path = interpreter(tmp_path, "echo 0.26.0")
    assert probe.bcc_of(path) == Interpreter(path, "0.26.0")
    path = interpreter(tmp_path, "printf 'Traceback\\nImportError: no bcc\\n' >&2; exit 1")
    assert probe.bcc_of(path) == Interpreter(path, None, "ImportError: no bcc")
    path = interpreter(tmp_path, "exit 7")
    assert probe.bcc_of(path) == Interpreter(path, None, "exit status 7")
    assert probe.bcc_of(str(tmp_path / "none")).version is None


def test_a_python_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "PATIENCE_S", 0.1)
    path = interpreter(tmp_path, "exec cat /dev/zero >/dev/null")
    assert "timed out" in probe.bcc_of(path).error


def test_btf_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> kernel_offsets.KernelLayout:
        raise Unsupported("no BTF", "build it")

    monkeypatch.setattr(kernel_offsets, "of_kernel", refuse)
    assert probe.kernel_members() == Refusal("no BTF", "build it")


def test_members_that_a_kernel_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    offsets = {want.macro: 8 for want in kernel_offsets.WANTED} | {
        "TP_SRTT_US": -1,
        "SOCKET_SK": -1,
        "TP_TOTAL_RTO": -1,
    }
    monkeypatch.setattr(kernel_offsets, "of_kernel", lambda: kernel_offsets.KernelLayout(offsets, True))
    costs = {"tcp_sock.srtt_us": ("srtt_us",), "socket.sk": ("iterator of descriptors",)}
    assert probe.kernel_members() == Members(len(kernel_offsets.WANTED) - 3, costs)


def test_a_hint_is_true_where_the_kernel_is_new_enough() -> None:
    """A later kernel would not help where the names of members are what is not known."""
    why = "the kernel's BTF has no socket.sk"
    attached = Accepted(EVERYTHING, {"bpf_iter__task_file": why}, "all", 65536, 16 << 20)
    said = check("features", attached=attached)
    assert (said.status, why in said.found) == ("warn", True)
    assert said.remedy == "see btf; here that is polled, or stays empty"
    older = replace(attached, features=EVERYTHING - {"HAVE_PID"})
    assert "a later kernel" in check("features", attached=older).remedy
    both = dict.fromkeys(("adoption", "bpf_iter__task_file"), why)
    none = replace(attached, features=EVERYTHING - {"HAVE_ITERATORS", "HAVE_ADOPTION"}, refused=both)
    assert "see btf" in check("features", attached=none).remedy
    adoption = replace(attached, features=EVERYTHING - {"HAVE_ADOPTION"}, refused={"adoption": why})
    assert "see btf" in check("features", attached=adoption).remedy


class Polled:
    """In place of a SockOpsSource: how often it was polled, and of what use that was."""

    def __init__(self, walks: bool, works: int = 99) -> None:
        self.walk, self.polls, self.works = object() if walks else None, 0, works

    def poll(self) -> None:
        if self.polls == self.works:
            raise Failed("reading from the kernel failed")
        self.polls += 1

    @property
    def reader(self) -> str:
        return f"after {self.polls}"


@pytest.mark.parametrize(
    ("source", "told"),
    [(Polled(walks=True), "after 3"), (Polled(walks=False), "after 0"), (Polled(walks=True, works=2), "after 2")],
)
def test_both_readers_are_tried_before_one_is_named(source: Polled, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "TRIALS_APART_S", 0)
    assert probe.reader_of(cast(SockOpsSource, source)) == told


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert probe.read(str(tmp_path / "none")) is None
    (tmp_path / "some").write_bytes(b"a\xff\n")
    assert probe.read(str(tmp_path / "some")) == "a�\n"
