"""Start the loader and take over its descriptors: the monitor's side of ``loader.py``."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tcptop_ops.bpf import cgroup, layout, records
from tcptop_ops.errors import Failed, TcptopError, Unsupported

HERE = Path(__file__).parent
INTERPRETERS = ("/usr/bin/python3", "/usr/local/bin/python3")
"""Where a distribution's bcc is found. Fixed paths: what runs as root must not depend on PATH."""

CLOCK_MONOTONIC_COARSE = 6
MAX_ROWS = 1_048_576
RING_BYTES = 16 << 20

ALL_FLAGS, EVENT_FLAGS = 0x7F, 0x07
RETIRE_AFTER = 8
"""Segments, both ways, after which the per-packet flags of a socket retire."""

MODES = {
    "all": {"BIRTH_FLAGS": ALL_FLAGS, "RETIRE_AFTER": RETIRE_AFTER},
    "every": {"BIRTH_FLAGS": ALL_FLAGS, "RETIRE_AFTER": 0},
    "events": {"BIRTH_FLAGS": EVENT_FLAGS, "RETIRE_AFTER": RETIRE_AFTER},
}

_CAP_NET_ADMIN, _CAP_SYS_ADMIN, _CAP_PERFMON, _CAP_BPF = 12, 21, 38, 39

_INSTALL_BCC = (
    "install the distribution's bcc: apt install python3-bpfcc, dnf install python3-bcc, pacman -S python-bcc"
)


@dataclass(frozen=True)
class Options:
    """What the kernel's side is asked for. ``map_size`` rows, ``callbacks`` one of MODES; None: as the host needs."""

    cgroup: str | None = None
    callbacks: str | None = None
    map_size: int | None = None
    adopt: bool = True


@dataclass(frozen=True)
class Attached:
    """Descriptors by name, and what the kernel accepted."""

    fds: dict[str, int]
    features: frozenset[str]
    callbacks: str
    neighbours: tuple[dict[str, Any], ...]
    refused: dict[str, str]
    map_size: int
    cgroup_root: str
    cgroup: str


def hertz() -> int:
    """Jiffies a second: the coarse clock's resolution is a tick (kernel/time/posix-timers.c, KTIME_LOW_RES)."""
    return round(1 / time.clock_getres(CLOCK_MONOTONIC_COARSE))


def effective_capabilities() -> int:
    """The mask of CapEff, proc(5)."""
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff:")), 16)


def require_privilege() -> None:
    """Raises Unsupported without the capabilities to load and attach."""
    have = effective_capabilities()

    def has(capability: int) -> bool:
        return bool(have >> capability & 1)

    if not (has(_CAP_SYS_ADMIN) or (has(_CAP_BPF) and has(_CAP_NET_ADMIN) and has(_CAP_PERFMON))):
        raise Unsupported(
            "attaching a sock_ops program needs root", "run it with sudo, or without BPF: --source sockdiag"
        )


def default_map_size() -> int:
    """A power of two with room for eight times the sockets in use now (/proc/net/sockstat)."""
    try:
        words = Path("/proc/net/sockstat").read_text().split()
        in_use = int(words[words.index("alloc") + 1])
    except (OSError, ValueError):
        in_use = 0
    return min(MAX_ROWS, max(262_144, 1 << (8 * in_use).bit_length()))


def attempts(adopt: bool, has_btf: bool) -> list[list[str]]:
    """Sets of features, the richest first; the loader takes the first that the verifier accepts."""
    btf = ["HAVE_BTF_SOCKET", "HAVE_ITERATORS"] + (["HAVE_ADOPTION"] if adopt else [])
    task = ["HAVE_PID", "HAVE_COMM", "HAVE_CGROUP"]
    without_pid = ["HAVE_COMM", "HAVE_CGROUP"]
    rich = [btf + task, btf + without_pid, btf] if has_btf else []
    return [*rich, task, without_pid, []]


def request(options: Options) -> dict[str, Any]:
    """What the loader is told: a JSON object. Raises Usage or Unsupported for the cgroup."""
    target, root = cgroup.resolve(options.cgroup)
    try:
        offsets = layout.kernel_offsets()
    except Unsupported:
        offsets = {}
    defines: dict[str, Any] = {
        "HZ": hertz(),
        "MAP_SIZE": options.map_size or default_map_size(),
        "RING_PAGES": RING_BYTES // os.sysconf("SC_PAGE_SIZE"),
        **offsets,
    }
    if target != root:
        level = target.removeprefix(root).count("/")
        defines |= {"OUR_CGROUP_LEVEL": level, "OUR_CGROUP_ID": os.stat(target).st_ino}
    return {
        "text": records.header() + (HERE / "sockops.c").read_text() + (HERE / "iterators.c").read_text(),
        "defines": defines,
        "modes": MODES,
        "callbacks": options.callbacks,
        "attempts": attempts(options.adopt, bool(offsets)),
        "headers": str(HERE / "include"),
        "source": str(HERE),
        "cgroup": target,
        "cgroup_root": root,
    }


def _start(interpreter: str, ours: socket.socket, theirs: socket.socket) -> subprocess.Popen[bytes]:
    """The loader, with an empty environment and nothing of the working directory in its way."""
    child = subprocess.Popen(
        [interpreter, "-I", str(HERE / "loader.py"), str(theirs.fileno())],
        pass_fds=[theirs.fileno()],
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    theirs.close()
    ours.settimeout(60)
    return child


def _receive(ours: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """The answer, whole, and its descriptors."""
    data, fds, _, _ = socket.recv_fds(ours, 1 << 16, 32)
    while data and not data.endswith(b"\n"):
        more = ours.recv(1 << 16)
        if not more:
            break
        data += more
    if not data.endswith(b"\n"):
        for fd in fds:
            os.close(fd)
        return {"error": "died", "message": "the loader ended without an answer", "hint": ""}, []
    return json.loads(data), fds


def _exchange(ours: socket.socket, asked: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
    """Ask, and receive. A loader that dies or hangs meanwhile is an answer too."""
    try:
        ours.sendall(json.dumps(asked).encode() + b"\n")
        return _receive(ours)
    except OSError as error:  # BrokenPipeError from here must not be taken for a closed standard output
        reason = error.strerror or "no answer in time"
        return {"error": "died", "message": f"the loader ended without an answer: {reason}", "hint": ""}, []


def _ask(interpreter: str, options: Options) -> tuple[dict[str, Any], list[int], dict[str, Any]]:
    """One loader's answer. The kernel's layout is read while the loader imports bcc."""
    ours, theirs = socket.socketpair()
    with ours:
        child = _start(interpreter, ours, theirs)
        try:
            asked = request(options)
            answer, fds = _exchange(ours, asked)
        except BaseException:
            child.kill()
            raise
        finally:
            ours.close()
            child.wait()
    return answer, fds, asked


def refusal(answer: dict[str, Any]) -> TcptopError:
    """The error that an answer of the loader stands for."""
    kind, message, hint = answer["error"], answer["message"], answer["hint"]
    if kind in ("occupied", "attach", "no-bcc", "system"):
        return Unsupported(message, hint or "tcptop-ops --source sockdiag works without BPF")
    if kind in ("compile", "verifier"):
        return Unsupported(message.splitlines()[0], f"please report this with: {hint}" if hint else "")
    return Failed(message.strip().splitlines()[-1], hint)


def attach(options: Options) -> Attached:
    """Compile, load and attach in a child; its descriptors are ours now. Raises Unsupported, Usage or Failed."""
    require_privilege()
    interpreters = [path for path in INTERPRETERS if os.access(path, os.X_OK)]
    answer: dict[str, Any] = {"error": "no-bcc", "message": f"no Python at {INTERPRETERS[0]}", "hint": _INSTALL_BCC}
    for interpreter in interpreters:
        answer, fds, asked = _ask(interpreter, options)
        if "error" not in answer:
            return Attached(
                fds=dict(zip(answer["fds"], fds, strict=True)),
                features=frozenset(answer["features"]),
                callbacks=answer["callbacks"],
                neighbours=tuple(answer["neighbours"]),
                refused=answer["refused"],
                map_size=asked["defines"]["MAP_SIZE"],
                cgroup_root=asked["cgroup_root"],
                cgroup=asked["cgroup"],
            )
        if answer["error"] != "no-bcc":
            break
        answer["hint"] = _INSTALL_BCC
    raise refusal(answer)
