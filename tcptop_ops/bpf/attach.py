"""What the loader is asked for, and what comes of it: the monitor's side of ``loader.py``."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tcptop_ops.bpf import c_structs, cgroup, kernel_offsets
from tcptop_ops.bpf.loader_process import (
    HERE,
    INTERPRETERS,
    LoaderProcess,
    interpreters,
    is_privileged,
    require_privilege,
)
from tcptop_ops.errors import Failed, TcptopError, Unsupported

CLOCK_MONOTONIC_COARSE = 6
MAX_ROWS = 1_048_576
RING_BYTES = 16 << 20
STATES_BYTES = 1 << 20
"""Of the ring ``states``: room for four times the records of one read() of an iterator, which is 32 KiB of rows."""

ALL_FLAGS, EVENT_FLAGS = 0x7F, 0x07
READERS = ("descriptors", "sock_diag")

RETIRE_AFTER = 4
"""Segments, both ways, after which the per-packet flags of a socket retire."""
ASKED_A_SECOND = 256
"""Births a second, on each CPU, that get the per-packet flags; of those that come after them, 1 of 16 does. 0: all."""

MODES = {
    "all": {"BIRTH_FLAGS": ALL_FLAGS, "RETIRE_AFTER": RETIRE_AFTER, "ASKED_A_SECOND": ASKED_A_SECOND},
    "every": {"BIRTH_FLAGS": ALL_FLAGS, "RETIRE_AFTER": 0, "ASKED_A_SECOND": 0},
    "events": {"BIRTH_FLAGS": EVENT_FLAGS, "RETIRE_AFTER": 0, "ASKED_A_SECOND": 0},  # none of ours is there to retire
}

PROGRAMS = ("sockops.c", "iterators.c", "tracepoints.c", "adoption.c")
"""The C files that are compiled as one program text, in this order."""

FILE_ITERATOR = "bpf_iter__task_file"
ADOPTION = "adoption"
TRACEPOINTS = ("inet_sk_error_report", "tcp_receive_reset", "tcp_send_reset")
"""Raw tracepoints of the kernel; the C has a function of each name behind ``trace_``."""

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
    helper: bool = True  # what still needs privilege is done by a helper
    may_close: bool = False  # the helper closes connections, if asked
    reader: str = ""  # READERS: how the present state is read; "": as costs less here


@dataclass(frozen=True)
class Attached:
    """Descriptors by name, and what the kernel accepted."""

    fds: dict[str, int]
    features: frozenset[str]
    callbacks: str
    neighbours: tuple[dict[str, Any], ...]
    refused: dict[str, str]  # reasons, by iterator, tracepoint or ADOPTION
    map_size: int
    cgroup_root: str
    cgroup: str
    program_id: int
    directory: int  # inode number of the cgroup's directory that it was attached to
    tells_cgroups: bool  # a pass over descriptors tells of which cgroup a socket is
    missing: frozenset[str]  # the columns that this kernel's structs can't feed: see ``kernel_offsets``
    helper: LoaderProcess | None  # what the loader became


def hertz() -> int:
    """Jiffies a second: the coarse clock's resolution is a tick (kernel/time/posix-timers.c, KTIME_LOW_RES)."""
    return round(1 / time.clock_getres(CLOCK_MONOTONIC_COARSE))


def default_map_size() -> int:
    """Return a power of two with room for eight times the sockets in use now (/proc/net/sockstat)."""
    try:
        words = Path("/proc/net/sockstat").read_text().split()
        in_use = int(words[words.index("alloc") + 1])
    except (OSError, ValueError):
        in_use = 0
    return min(MAX_ROWS, max(65_536, 1 << (8 * in_use).bit_length()))


def attempts(has_btf: bool, can_adopt: bool = True) -> list[list[str]]:
    """Return sets of features, the richest first; the loader takes the first that the verifier accepts.

    ``can_adopt``: the kernel knows how to set callback flags by setsockopt. The verifier would not tell.
    """
    btf = ["HAVE_BTF_SOCKET", "HAVE_ITERATORS", *(["HAVE_ADOPTION"] if can_adopt else [])]
    task = ["HAVE_PID", "HAVE_COMM", "HAVE_CGROUP"]
    without_pid = ["HAVE_COMM", "HAVE_CGROUP"]
    rich = [btf + task, btf + without_pid, btf] if has_btf else []
    return [*rich, task, without_pid, []]


def unable_to(known: kernel_offsets.KernelLayout) -> dict[str, str]:
    """Return what the kernel's BTF tells too little for: the reason by iterator, by tracepoint, and by ADOPTION."""
    socket = known.reason(kernel_offsets.SOCKET)
    found = {
        FILE_ITERATOR: socket or known.reason(kernel_offsets.DESCRIPTORS),
        ADOPTION: known.reason(kernel_offsets.ADOPTION) if known.has_option else "",
        **dict.fromkeys(TRACEPOINTS, socket or _untraceable(known)),
    }
    return {name: reason for name, reason in found.items() if reason}


def _untraceable(known: kernel_offsets.KernelLayout) -> str:
    if not known.may_trace:
        return "tracing programs may not use its maps yet (6.1)"
    return known.reason(kernel_offsets.TRACEPOINTS)


def request(options: Options, target: str, root: str) -> dict[str, Any]:
    """Return what the loader is told: a JSON object. ``target``: the cgroup's directory; ``root``: the mount of it."""
    try:
        known = kernel_offsets.of_kernel()
    except Unsupported:
        known = kernel_offsets.NOTHING
    has_btf = bool(known.offsets) and not known.without(kernel_offsets.SOCKET)
    unable = unable_to(known) if known.offsets else {}
    iterators = [name for name in (FILE_ITERATOR,) if name not in unable]
    tracepoints = [name for name in TRACEPOINTS if has_btf and name not in unable]
    defines: dict[str, Any] = {
        "HZ": hertz(),
        "MAP_SIZE": options.map_size or default_map_size(),
        "RING_PAGES": RING_BYTES // os.sysconf("SC_PAGE_SIZE"),
        **known.defines(),
        "STATE_PAGES": STATES_BYTES // os.sysconf("SC_PAGE_SIZE"),
        **({"TRACES": 1} if tracepoints else {}),
    }
    return {
        "text": c_structs.header() + "".join((HERE / name).read_text() for name in PROGRAMS),
        "defines": defines,
        "modes": MODES,
        "callbacks": options.callbacks,
        "attempts": attempts(has_btf, FILE_ITERATOR in iterators and known.has_option and ADOPTION not in unable),
        "iterators": iterators,
        "tracepoints": tracepoints,
        "unable": unable,
        "missing": sorted(known.missing) if has_btf else [],
        "headers": str(HERE / "include"),
        "source": str(HERE),
        "cgroup": target,
        "cgroup_root": root,
        "helper": options.helper,
        "may_close": options.may_close,
    }


def refusal(answer: dict[str, Any]) -> TcptopError:
    """Return the error that an answer of the loader stands for."""
    kind, message, hint = answer["error"], answer["message"], answer["hint"]
    if kind == "no-bcc":
        return Unsupported(message, _INSTALL_BCC)
    if kind in ("occupied", "attach", "system"):
        return Unsupported(message, hint or "tcptop-ops --source sockdiag works without BPF")
    if kind in ("compile", "verifier"):
        return Unsupported(message.splitlines()[0], f"please report this with: {hint}" if hint else "")
    return Failed(message.strip().splitlines()[-1], hint)


@dataclass(frozen=True)
class Pending:
    """A loader at work on its request."""

    child: LoaderProcess
    asked: dict[str, Any]


def begin(options: Options, interpreter: str | None = None) -> Pending | None:
    """Start a loader and send its request; None where it would be in vain: ``attach`` tells why.

    Imports nothing slow, so that the compiler runs while the monitor imports the rest. Raises Usage or Unsupported for
    the cgroup.
    """
    found = [interpreter] if interpreter else interpreters()
    if not found or not is_privileged():
        return None
    place = cgroup.resolve(options.cgroup)
    child = LoaderProcess(found[0])
    asked = request(options, *place)
    child.send(asked)
    return Pending(child, asked)


def attach(options: Options, pending: Pending | None = None) -> Attached:
    """Compile, load and attach in a child; its descriptors are ours now. Raises Unsupported, Usage or Failed.

    ``pending``: what ``begin`` returned for these options.
    """
    require_privilege()
    answer: dict[str, Any] = {"error": "no-bcc", "message": f"no Python at {INTERPRETERS[0]}", "hint": ""}
    for interpreter in interpreters():
        current = pending or begin(options, interpreter)
        if current is None:
            break
        answer, fds = current.child.receive()
        pending = None
        if "error" in answer or not options.helper:
            current.child.close()
        if "error" not in answer:
            return Attached(
                fds=dict(zip(answer["fds"], fds, strict=True)),
                features=frozenset(answer["features"]),
                callbacks=answer["callbacks"],
                neighbours=tuple(answer["neighbours"]),
                refused=current.asked["unable"] | answer["refused"],
                map_size=current.asked["defines"]["MAP_SIZE"],
                cgroup_root=current.asked["cgroup_root"],
                cgroup=current.asked["cgroup"],
                program_id=answer["program_id"],
                directory=answer["directory"],
                tells_cgroups=all(current.asked["defines"].get(name, -1) >= 0 for name in kernel_offsets.CGROUP),
                missing=frozenset(current.asked["missing"]),
                helper=current.child if options.helper else None,
            )
        if answer["error"] != "no-bcc":
            break
    raise refusal(answer)
