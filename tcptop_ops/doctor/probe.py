"""What ``--doctor`` asks of the host: the real start, for a moment, and what stands in its way."""

from __future__ import annotations

import os
import platform
import pwd
import re
import struct
import subprocess
import sys
import threading
import time
from array import array
from contextlib import suppress
from dataclasses import replace

from tcptop_ops.bpf import cgroup, helper, kernel_calls, kernel_offsets
from tcptop_ops.bpf.attach import RING_BYTES, Attached, Options
from tcptop_ops.bpf.loader_process import effective_capabilities, interpreters, is_privileged
from tcptop_ops.doctor.report import (
    WHOLE_USER_NAMESPACE,
    Accepted,
    AttachedProgram,
    Cgroups,
    Facts,
    Interpreter,
    Members,
    Refusal,
    Sockets,
)
from tcptop_ops.errors import Failed, TcptopError, Unsupported
from tcptop_ops.host.privilege import give_up
from tcptop_ops.sources.base import Source
from tcptop_ops.sources.cheaper_reader import TRIAL_READS
from tcptop_ops.sources.open import open_source
from tcptop_ops.sources.sockops import SockOpsSource

LOCKDOWN = "/sys/kernel/security/lockdown"
UNPRIVILEGED = "/proc/sys/kernel/unprivileged_bpf_disabled"
UID_MAP = "/proc/self/uid_map"
SOCKSTATS = ("/proc/thread-self/net/sockstat", "/proc/thread-self/net/sockstat6")
PATIENCE_S = 30

TRIALS = 2 * TRIAL_READS - 1
"""Polls after the first one until both readers were tried."""

TRIALS_APART_S = 0.25
"""Seconds between them: the price of sock_diag has a share of the time for owners."""

_QUERY_EFFECTIVE = 1  # BPF_F_QUERY_EFFECTIVE (linux/bpf.h)


def examine(options: Options) -> Facts:
    """Everything, the real start included: privilege is given up at the end. Raises Usage for a wrong cgroup."""
    place = resolve(options.cgroup)
    uid, capabilities, privileged = os.geteuid(), effective_capabilities(), is_privileged()
    programs = None if isinstance(place, Refusal) or not privileged else sock_ops_programs(*place)
    attached, sockets = start(options, privileged)
    kept = give_up()
    return Facts(
        python=f"{platform.python_version()}, {sys.executable}",
        interpreters=tuple(bcc_of(path) for path in interpreters()),
        uid=uid,
        capabilities=capabilities,
        privileged=privileged,
        mapped_users=mapped_users(read(UID_MAP)),
        kernel=os.uname().release,
        machine=os.uname().machine,
        btf=kernel_members(),
        lockdown=lockdown(read(LOCKDOWN)),
        unprivileged_bpf=number(read(UNPRIVILEGED)),
        cgroups=place if isinstance(place, Refusal) else cgroups(place[1]),
        cgroup=options.cgroup,
        programs=programs,
        attached=attached,
        sockets=sockets,
        user_after=user(),
        capabilities_after=effective_capabilities(),
        kept=kept,
    )


def read(path: str) -> str | None:
    """Return a small file; None where it can't be read."""
    try:
        with open(path, errors="replace") as file:
            return file.read()
    except OSError:
        return None


def lockdown(text: str | None) -> str | None:
    """Return the mode in brackets: ``none [integrity] confidentiality``."""
    found = re.search(r"\[(\w+)\]", text or "")
    return found[1] if found else None


def number(text: str | None) -> int | None:
    """Return a sysctl's value."""
    text = (text or "").strip()
    return int(text) if text.isascii() and text.isdecimal() else None


def mapped_users(text: str | None) -> int:
    """How many user ids this user namespace has (user_namespaces(7)); the first one has all 2^32 - 1."""
    counts = [int(line.split()[2]) for line in (text or "").splitlines()]
    return sum(counts) if counts else WHOLE_USER_NAMESPACE


def user() -> str:
    """Name and number of who this process is now."""
    uid = os.geteuid()
    try:
        return f"{pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        return f"uid {uid}"


def refusal(error: TcptopError) -> Refusal:
    """Return an error as a fact."""
    return Refusal(error.message, error.hint)


def bcc_of(interpreter: str) -> Interpreter:
    """Whether this Python has bcc, asked as the loader will: isolated."""
    command = [interpreter, "-I", "-c", "from bcc import BPF, __version__; print(__version__)"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False, cwd="/")
    except (OSError, subprocess.TimeoutExpired) as error:
        return Interpreter(interpreter, None, str(error))
    said = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
    last = said[-1] if said else f"exit status {done.returncode}"
    return Interpreter(interpreter, last) if done.returncode == 0 else Interpreter(interpreter, None, last)


def kernel_members() -> Members | Refusal:
    """Return which of the members that the programs read this kernel's BTF knows."""
    try:
        known = kernel_offsets.of_kernel()
        return Members(sum(not known.lacks(want.macro) for want in kernel_offsets.WANTED), known.costs())
    except Unsupported as error:
        return refusal(error)


def resolve(path: str | None) -> tuple[str, str] | Refusal:
    """As ``cgroup.resolve``. Raises Usage."""
    try:
        return cgroup.resolve(path)
    except Unsupported as error:
        return refusal(error)


def cgroups(top: str) -> Cgroups:
    """Return what is known of this top directory."""
    return Cgroups(top, cgroup.is_part(top), cgroup.is_unmounted(top))


def sock_ops_programs(target: str, top: str) -> tuple[AttachedProgram, ...] | None:
    """Return the programs of others that share sockets with us; None where the kernel does not tell."""
    try:
        seen = kernel_calls.neighbours(target, top)
        effective = effective_at(target)
    except OSError:
        return None
    found = [
        AttachedProgram(each["id"], each["name"], each["where"].removeprefix(top) or "/", each["flags"], each["above"])
        for each in seen
    ]
    known = {program.id for program in found}
    hidden = [
        AttachedProgram(i, kernel_calls.program_by_id(i)["name"], "", None, above=True)
        for i in effective
        if i not in known
    ]
    return tuple(found + hidden)


def effective_at(target: str) -> list[int]:
    """Return the ids of all sock_ops programs that a socket of this cgroup calls, wherever they are attached.

    Those above what a container sees are among them. Raises OSError.
    """
    ids = array("I", bytes(4 * kernel_calls.MAX_PROGRAMS))
    fd = os.open(target, os.O_RDONLY | os.O_DIRECTORY)
    try:
        attr = kernel_calls.words(fd, kernel_calls.BPF_CGROUP_SOCK_OPS, _QUERY_EFFECTIVE)
        struct.pack_into("=QI", attr, 16, ids.buffer_info()[0], len(ids))
        kernel_calls.bpf(kernel_calls.BPF_PROG_QUERY, attr)
    finally:
        os.close(fd)
    return ids[: struct.unpack_from("=I", attr, 24)[0]].tolist()


def start(options: Options, privileged: bool) -> tuple[Accepted | Refusal, Sockets | Refusal]:
    """Attach as for real and poll, without touching a socket that is open; polled only where that can't be.

    Raises Usage.
    """
    try:
        source = SockOpsSource(replace(options, adopt=False))
    except (Unsupported, Failed) as error:
        return refusal(error), poll_only(options, privileged)
    try:
        whole = options.cgroup is None and not cgroup.is_part(source.attached.cgroup_root)
        sockets = ask(source, in_use(), privileged, whole)
        if isinstance(sockets, Sockets):
            sockets = replace(sockets, reader=reader_of(source))
        return accepted(source.attached), sockets
    finally:
        source.close()


def reader_of(source: SockOpsSource) -> str:
    """Which reader reads the present state here, and why, as it is known after a trial of both."""
    if source.walk is not None:
        with suppress(Failed):  # the first poll went well: what is known is told
            for _ in range(TRIALS):
                time.sleep(TRIALS_APART_S)
                source.poll()
    return source.reader


def poll_only(options: Options, privileged: bool) -> Sockets | Refusal:
    """By the source that needs no BPF."""
    before = in_use()  # while every namespace can be entered
    try:
        source = open_source("sockdiag", options)
    except TcptopError as error:
        return refusal(error)
    try:
        return ask(source, before, privileged, whole=True)
    finally:
        source.close()


def accepted(attached: Attached) -> Accepted:
    """Return what the kernel took."""
    return Accepted(attached.features, attached.refused, attached.callbacks, attached.map_size, RING_BYTES)


def ask(source: Source, before: dict[int, int], privileged: bool, whole: bool) -> Sockets | Refusal:
    """One poll, beside what the kernel counted ``before``, and counts in the same namespaces afterwards."""
    try:
        snapshot = source.poll()
    except TcptopError as error:
        return refusal(error)
    after = before | in_use()
    counts = (sum(before.values()), sum(after.values()))
    return Sockets(source.name, len(snapshot.sockets), counts if whole else None, len(after), privileged)


def in_use() -> dict[int, int]:
    """TCP sockets in use by network namespace (inode number), of those that can be entered."""
    found: dict[int, int] = {}
    thread = threading.Thread(target=_count_everywhere, args=(found,))  # it stays where it went last, and ends
    thread.start()
    thread.join()
    return found


def _count_everywhere(found: dict[int, int]) -> None:
    namespaces = helper.Namespaces()
    try:
        found[namespaces.own] = count_in_use(*map(read, SOCKSTATS))
        namespaces.refresh()
        for inode in namespaces.fds.keys() - {namespaces.own}:
            with suppress(OSError):
                namespaces.enter(inode)
                found[inode] = count_in_use(*map(read, SOCKSTATS))
    finally:
        namespaces.close()


def count_in_use(*texts: str | None) -> int:
    """``inuse`` of TCP and TCP6 (get_proto counts of sockstat_seq_show(), net/ipv4/proc.c): without TIME-WAIT."""
    lines = [line.split() for text in texts for line in (text or "").splitlines()]
    return sum(int(words[words.index("inuse") + 1]) for words in lines if words[:1] in (["TCP:"], ["TCP6:"]))
