"""The loader from outside: what it is asked, and what becomes of each of its answers. No BPF: the loaders are stubs."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from tcptop_ops.bpf import attach as launch
from tcptop_ops.bpf import cgroup, kernel_offsets, loader_process
from tcptop_ops.bpf.attach import Options, attach, attempts, default_map_size, refusal
from tcptop_ops.bpf.kernel_calls import ancestors, words
from tcptop_ops.bpf.loader import Refused, refuse_to_silence, tail
from tcptop_ops.errors import Failed, TcptopError, Unsupported, Usage

KNOWN = kernel_offsets.KernelLayout(
    {want.macro: 8 for want in kernel_offsets.WANTED} | {"TP_SRTT_US": 1696, "TP_MSS_CACHE": -1}, True, may_trace=True
)
TASK = {"HAVE_PID", "HAVE_COMM", "HAVE_CGROUP"}
PLAIN = ("no-bcc", "occupied", "attach", "system")
"""Refusals with messages of one line."""


def test_attempts_get_poorer_and_end_with_nothing() -> None:
    for has_btf in (True, False):
        sets = [set(features) for features in attempts(has_btf)]
        assert sets[-1] == set()
        for at, features in enumerate(sets):
            assert not any(features >= earlier for earlier in sets[:at])
        assert any("HAVE_ITERATORS" in features for features in sets) is has_btf
        assert any("HAVE_ADOPTION" in features for features in sets) is has_btf
        assert not any("HAVE_ADOPTION" in features for features in attempts(has_btf, can_adopt=False))
        assert sets[0].issuperset(TASK)
        assert [features for features in sets if "HAVE_COMM" in features and "HAVE_PID" not in features]


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("no-bcc", Unsupported),
        ("occupied", Unsupported),
        ("attach", Unsupported),
        ("system", Unsupported),
        ("compile", Unsupported),
        ("verifier", Unsupported),
        ("died", Failed),
        ("loader", Failed),
        ("what nobody foresaw", Failed),
    ],
)
def test_refusals(kind: str, error: type[TcptopError]) -> None:
    for message in ("one line", "Traceback:\n  two lines"):
        found = refusal({"error": kind, "message": message, "hint": "do this"})
        assert type(found) is error
        assert "\n" not in found.message or kind in PLAIN
        assert found.hint
        assert found.exit_code == (1 if error is Failed else 3)
    assert "python3-bpfcc" in refusal({"error": "no-bcc", "message": "x", "hint": ""}).hint
    assert "sockdiag" in refusal({"error": "attach", "message": "x", "hint": ""}).hint


@pytest.mark.parametrize(
    ("cap_sys_admin", "others", "enough"),
    [(1, (), True), (0, (12, 38, 39), True), (0, (12, 39), False), (0, (), False)],
)
def test_privilege(cap_sys_admin: int, others: tuple[int, ...], enough: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    mask = cap_sys_admin << 21 | sum(1 << number for number in others)
    monkeypatch.setattr(loader_process, "effective_capabilities", lambda: mask)
    assert loader_process.is_privileged() is enough
    if not enough:
        with pytest.raises(Unsupported, match="root"):
            attach(Options())


@pytest.mark.parametrize(
    ("sockstat", "rows"),
    [
        ("sockets: used 300\nTCP: inuse 5 orphan 0 tw 0 alloc 9 mem 3\n", 65_536),
        ("TCP: inuse 5 orphan 0 tw 0 alloc 40000 mem 3\n", 524_288),
        ("TCP: inuse 5 orphan 0 tw 0 alloc 5000000 mem 3\n", 1_048_576),
        ("nothing of use", 65_536),
    ],
)
def test_size_of_the_map(sockstat: str, rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "sockstat"
    file.write_text(sockstat)
    monkeypatch.setattr(launch, "Path", lambda _: file)
    found = default_map_size()
    assert found == rows
    assert found & (found - 1) == 0


def test_ancestors() -> None:
    assert ancestors("/sys/fs/cgroup", "/sys/fs/cgroup") == ["/sys/fs/cgroup"]
    assert ancestors("/sys/fs/cgroup/a/b", "/sys/fs/cgroup") == [
        "/sys/fs/cgroup/a/b",
        "/sys/fs/cgroup/a",
        "/sys/fs/cgroup",
    ]
    assert ancestors("/elsewhere/x", "/sys/fs/cgroup")[-1] != "/"  # ends, wherever it starts


def test_a_program_that_would_fall_silent() -> None:
    program = {"id": 7, "name": "theirs", "where": "/sys/fs/cgroup", "flags": 0, "above": True}
    with pytest.raises(Refused) as error:
        refuse_to_silence([program])
    assert error.value.answer["error"] == "occupied"
    assert "theirs (id 7)" in error.value.answer["message"]
    refuse_to_silence([program | {"flags": 2}, program | {"above": False}])


def test_words() -> None:
    assert words(1, 2**32 - 1) == (1).to_bytes(4, sys.byteorder) + b"\xff" * 4 + bytes(56)


def test_the_tail_of_what_was_printed(tmp_path: Path) -> None:
    file = tmp_path / "log"
    for printed, wanted in [(b"", ""), (b"one\n\n two \xff\n", "one | two �"), (b"a\n" * 9000, "a | ")]:
        file.write_bytes(printed)
        with file.open("rb") as log:
            found = tail(log.fileno())
        assert found == wanted if len(printed) < 600 else (wanted in found and len(found) <= 600)


class Stub:
    """An interpreter that runs Python code of ours instead of the loader; ``sock`` is its socket."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.directory = directory
        self._monkeypatch = monkeypatch
        self.paths: list[str] = []

    def add(self, code: str) -> None:
        name = f"stub{len(self.paths)}"
        script, program = self.directory / f"{name}.py", self.directory / name
        script.write_text(
            "import json, os, socket, sys\nsock = socket.socket(fileno=int(sys.argv[1]))\n"
            "def request():\n    with sock.makefile('rb') as lines:\n        return json.loads(lines.readline())\n"
            + code
        )
        program.write_text(f"#!/bin/sh\nexec '{sys.executable}' -I '{script}' \"$3\"\n")
        program.chmod(stat.S_IRWXU)
        self.paths.append(str(program))
        self._monkeypatch.setattr(loader_process, "INTERPRETERS", tuple(self.paths))


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stub:
    (tmp_path / "cg" / "web").mkdir(parents=True)
    for directory in ("cg", "cg/web"):
        (tmp_path / directory / "cgroup.procs").touch()
    (tmp_path / "mountinfo").write_text(f"1 1 0:1 / {tmp_path}/cg rw - cgroup2 none rw\n")
    monkeypatch.setattr(cgroup, "MOUNTINFO", tmp_path / "mountinfo")
    monkeypatch.setattr(loader_process, "effective_capabilities", lambda: 1 << 21)
    monkeypatch.setattr(kernel_offsets, "of_kernel", lambda: KNOWN)
    monkeypatch.setattr(loader_process, "INTERPRETERS", ())
    return Stub(tmp_path, monkeypatch)


ANSWER = """
asked = request()
ours = [os.open("/dev/null", os.O_RDONLY), os.open("/dev/zero", os.O_RDONLY)]
answer = {"fds": ["conns", "link"], "features": asked["attempts"][0], "refused": {"bpf_iter__task_file": "no"},
          "callbacks": "all", "neighbours": [asked], "program_id": 7, "directory": 8}
socket.send_fds(sock, [json.dumps(answer).encode()], ours)
sock.sendall(b"\\n")
"""
NO_BCC = """
request()
sock.sendall(json.dumps({"error": "no-bcc", "message": "no bcc here", "hint": ""}).encode() + b"\\n")
"""


def answered(stub: Stub, **options: Any) -> dict[str, Any]:
    """Attach with a loader that answers well: what it was asked. Its descriptors are closed."""
    attached = attach(Options(**options))
    try:
        assert list(attached.fds) == ["conns", "link"]
        assert os.read(attached.fds["conns"], 1) == b""
        assert os.read(attached.fds["link"], 1) == b"\0"
        assert (attached.callbacks, attached.refused) == ("all", {"bpf_iter__task_file": "no"})
        assert attached.missing == set(attached.neighbours[0]["missing"])
        assert attached.cgroup_root == str(stub.directory / "cg")
        assert attached.map_size == attached.neighbours[0]["defines"]["MAP_SIZE"]
        return attached.neighbours[0]
    finally:
        assert attached.helper is not None
        attached.helper.close()
        for fd in attached.fds.values():
            os.close(fd)


def test_an_answer_with_descriptors(stub: Stub) -> None:
    stub.add(ANSWER)
    asked = answered(stub, map_size=4096, callbacks="events", adopt=False)
    assert asked["callbacks"] == "events"
    assert asked["cgroup"] == asked["cgroup_root"] == str(stub.directory / "cg")
    assert (asked["defines"]["MAP_SIZE"], asked["defines"]["TP_SRTT_US"]) == (4096, 1696)
    assert asked["missing"] == ["delivery_bytes_per_s", "mss"]
    assert asked["attempts"] == attempts(has_btf=True, can_adopt="bpf_iter__task_file" in asked["iterators"])
    assert "struct final {" in asked["text"]
    assert Path(asked["headers"]).is_dir()


def test_a_cgroup_of_its_own(stub: Stub) -> None:
    stub.add(ANSWER)
    web = stub.directory / "cg" / "web"
    asked = answered(stub, cgroup="web")
    assert asked["cgroup"] == str(web)


def test_without_btf(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> kernel_offsets.KernelLayout:
        raise Unsupported("no BTF")

    monkeypatch.setattr(kernel_offsets, "of_kernel", refuse)
    stub.add(ANSWER)
    asked = answered(stub)
    assert asked["attempts"] == attempts(has_btf=False)
    assert (asked["missing"], asked["unable"]) == ([], {}), "sock_diag tells"


def test_the_second_interpreter_has_bcc(stub: Stub) -> None:
    stub.add(NO_BCC)
    stub.add(ANSWER)
    assert answered(stub)["cgroup_root"] == str(stub.directory / "cg")


def test_no_interpreter_has_bcc(stub: Stub) -> None:
    stub.add(NO_BCC)
    stub.add(NO_BCC)
    with pytest.raises(Unsupported, match="no bcc here") as error:
        attach(Options())
    assert "python3-bpfcc" in error.value.hint


def test_no_interpreter() -> None:
    assert loader_process.interpreters() == [path for path in loader_process.INTERPRETERS if os.access(path, os.X_OK)]


def test_no_interpreter_at_all(stub: Stub) -> None:
    assert stub.paths == []
    with pytest.raises(Unsupported, match="no Python"):
        attach(Options())


DEATHS = {
    "at once": "sys.exit(1)",
    "by a signal": "os.kill(os.getpid(), 9)",
    "after the request": "request()",
    "within the answer": "request(); sock.sendall(b'{\"fds\": [')",
    "within an answer with descriptors": "request(); socket.send_fds(sock, [b'{'], [0, 0])",
}


@pytest.mark.parametrize("code", DEATHS.values(), ids=DEATHS)
def test_a_loader_that_dies(code: str, stub: Stub) -> None:
    """It must not look like a closed standard output, and no descriptor may stay open."""
    stub.add(code)
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(Failed, match="loader"):
        attach(Options())
    assert set(os.listdir("/proc/self/fd")) == before


def test_a_loader_that_never_answers(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader_process, "PATIENCE_S", 0.2)
    stub.add("while sock.recv(1 << 20):\n    pass\n")
    with pytest.raises(Failed, match="loader"):
        attach(Options())


def test_a_wrong_cgroup_is_told_before_anything_starts(stub: Stub) -> None:
    stub.add("open(sys.argv[0] + '.started', 'w').close()" + ANSWER)
    with pytest.raises(Usage, match="no cgroup nope"):
        attach(Options(cgroup="nope"))
    assert not list(stub.directory.glob("*.started"))


def test_the_loader_itself_tells_what_it_can_not_do(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real one, where the "cgroup" is a plain directory: whether by bcc or by the kernel, it is refused."""
    monkeypatch.setattr(loader_process, "INTERPRETERS", (sys.executable,))
    assert stub.paths == []
    with pytest.raises(Unsupported) as error:
        attach(Options())
    assert error.value.hint
    assert "\n" not in error.value.message
