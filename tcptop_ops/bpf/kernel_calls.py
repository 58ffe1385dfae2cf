"""bpf(2) as the loader and the helper need it, and who else is attached to cgroups. Of the standard library alone."""

from __future__ import annotations

import array
import ctypes
import os
import sys
import time
from typing import Any

BPF_PROG_QUERY, BPF_PROG_GET_FD_BY_ID, BPF_OBJ_GET_INFO_BY_FD = 16, 13, 15
BPF_MAP_UPDATE_ELEM, BPF_LINK_CREATE, BPF_ENABLE_STATS, BPF_ITER_CREATE = 2, 28, 32, 33
BPF_CGROUP_SOCK_OPS, BPF_CGROUP_SETSOCKOPT = 3, 22
BPF_F_ALLOW_MULTI = 2
SYS_BPF = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "loongarch64": 280, "ppc64le": 361, "s390x": 351}
MAX_PROGRAMS = 64

libc = ctypes.CDLL(None, use_errno=True)


def bpf(command: int, attr: bytearray) -> int:
    """Call bpf(2) with a command and its attributes; return its result. Raises OSError."""
    buffer = (ctypes.c_char * len(attr)).from_buffer(attr)
    return checked(libc.syscall(SYS_BPF[os.uname().machine], command, ctypes.byref(buffer), len(attr)))


def checked(result: int) -> int:
    """Make a system call and return its result. Raises OSError."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return int(result)


def words(*values: int, size: int = 64) -> bytearray:
    """Return an attr of 32-bit words, padded with zeros."""
    return bytearray(array.array("I", values).tobytes().ljust(size, b"\0"))


def link(program: int, target: int, kind: int) -> int:
    """Return a descriptor of a new bpf_link, which attaches while it is open. Raises OSError."""
    return bpf(BPF_LINK_CREATE, words(program, target, kind))


def programs_at(cgroup: int, kind: int = BPF_CGROUP_SOCK_OPS) -> tuple[list[int], int]:
    """Return the ids of the programs attached to this cgroup itself, and the flags of their attachment."""
    ids = (ctypes.c_uint32 * MAX_PROGRAMS)()
    attr = words(cgroup, kind)
    attr[16:24] = ctypes.addressof(ids).to_bytes(8, sys.byteorder)
    attr[24:28] = MAX_PROGRAMS.to_bytes(4, sys.byteorder)
    bpf(BPF_PROG_QUERY, attr)
    count = int.from_bytes(attr[24:28], sys.byteorder)
    return list(ids[:count]), int.from_bytes(attr[12:16], sys.byteorder)


def program_info(fd: int) -> bytes:
    """struct bpf_prog_info of a program. Raises OSError."""
    info = bytearray(256)
    attr = words(fd, len(info))
    attr[8:16] = ctypes.addressof((ctypes.c_char * len(info)).from_buffer(info)).to_bytes(8, sys.byteorder)
    bpf(BPF_OBJ_GET_INFO_BY_FD, attr)
    return bytes(info)


def program_id(fd: int) -> int:
    """Return the number of a program. Raises OSError."""
    return int.from_bytes(program_info(fd)[4:8], sys.byteorder)


def program_by_id(program_id: int) -> dict[str, Any]:
    """Its name, or "?", and when it was loaded: CLOCK_MONOTONIC, ns; 0 where that is not told."""
    try:
        fd = bpf(BPF_PROG_GET_FD_BY_ID, words(program_id))
    except OSError:
        return {"id": program_id, "name": "?", "loaded_ns": 0}
    try:
        info = program_info(fd)
    finally:
        os.close(fd)
    name = info[64:80].split(b"\0")[0].decode(errors="replace") or "?"
    asleep_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.monotonic_ns()
    return {"id": program_id, "name": name, "loaded_ns": int.from_bytes(info[40:48], sys.byteorder) - asleep_ns}


def ancestors(cgroup: str, root: str) -> list[str]:
    """Return the cgroup and all above it, up to the mount's root."""
    chain = [cgroup]
    while chain[-1] != root and len(chain[-1]) > len(root):
        chain.append(os.path.dirname(chain[-1]))
    return chain


def neighbours(cgroup: str, root: str, below_too: bool = True) -> list[dict[str, Any]]:
    """Return the sock_ops programs that share sockets with us: of the cgroup, above, and below it. Raises OSError."""
    found = []
    below = [path for path, _, _ in os.walk(cgroup)][1:] if below_too else []
    for where in ancestors(cgroup, root) + below:
        try:
            fd = os.open(where, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            continue
        try:
            ids, flags = programs_at(fd)
        except FileNotFoundError:
            continue  # removed meanwhile
        finally:
            os.close(fd)
        above = where not in below
        found += [program_by_id(i) | {"where": where, "flags": flags, "above": above} for i in ids]
    return found
