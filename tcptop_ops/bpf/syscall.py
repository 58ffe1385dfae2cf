"""The few bpf(2) commands that the monitor itself needs: reads, deletes, iterators. All work without privilege on a
descriptor that somebody handed over. Layouts: union bpf_attr, include/uapi/linux/bpf.h."""

from __future__ import annotations

import ctypes
import errno
import os
import struct

import numpy as np

from tcptop_ops.bpf.kernel_calls import SYS_BPF, program_info
from tcptop_ops.errors import Unsupported
from tcptop_ops.model.records import Records

MAP_LOOKUP, MAP_UPDATE = 1, 2
MAP_LOOKUP_BATCH, MAP_DELETE_BATCH = 24, 27
ITER_CREATE = 33

_libc = ctypes.CDLL(None, use_errno=True)


def bpf(command: int, attr: bytes | bytearray) -> int:
    """bpf(2): its result. A bytearray is written back to. Raises OSError."""
    machine = os.uname().machine
    if machine not in SYS_BPF:
        raise Unsupported(f"the number of bpf(2) on {machine} is not known")
    buffer = ctypes.create_string_buffer(bytes(attr), len(attr))
    result = int(_libc.syscall(SYS_BPF[machine], command, buffer, len(attr)))
    if isinstance(attr, bytearray):
        attr[:] = buffer.raw
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def _address(array: Records) -> int:
    return int(array.ctypes.data)


RUN_TIME_AT = 192
"""Of run_time_ns in struct bpf_prog_info; run_cnt follows."""


def run_statistics(program_fd: int) -> tuple[int, int]:
    """Nanoseconds that the kernel spent in a program, and calls, while its statistics were on. Raises OSError."""
    nanoseconds, calls = struct.unpack_from("<QQ", program_info(program_fd), RUN_TIME_AT)
    return nanoseconds, calls


def lookup(map_fd: int, key: Records, value: Records) -> None:
    """Fill ``value`` (of a per-CPU map: one row a possible CPU). Raises OSError, ENOENT where the key is not there."""
    bpf(MAP_LOOKUP, struct.pack("<IIQQQ", map_fd, 0, _address(key), _address(value), 0))


def update(map_fd: int, key: Records, value: Records) -> None:
    """Set ``key`` to ``value``. Raises OSError."""
    bpf(MAP_UPDATE, struct.pack("<IIQQQ", map_fd, 0, _address(key), _address(value), 0))


def lookup_batch(map_fd: int, keys: Records, values: Records) -> int | None:
    """Read a whole hash map into two buffers of one length: how many rows there are; None if the buffers are too small.

    A row that is there throughout is read; one that comes or goes meanwhile may be. The kernel hands out whole buckets,
    and says ENOSPC for one that does not fit into what is left. Raises OSError.
    """
    done: int = 0
    first = True
    tokens = np.zeros(2, "u8")
    while done < len(keys):
        attr = bytearray(
            struct.pack(
                "<QQQQIIQQ",
                0 if first else _address(tokens[:1]),
                _address(tokens[1:]),
                _address(keys[done:]),
                _address(values[done:]),
                len(keys) - done,
                map_fd,
                0,
                0,
            )
        )
        end = False
        try:
            bpf(MAP_LOOKUP_BATCH, attr)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                return None
            end = error.errno == errno.ENOENT
            if not end:
                raise
        done += int(struct.unpack_from("<I", attr, 32)[0])
        if end:
            return done
        tokens[0], first = tokens[1], False
    return None


def delete_batch(map_fd: int, keys: Records) -> None:
    """Delete rows; one that is gone already is no error. Raises OSError."""
    start = 0
    while start < len(keys):
        rest = np.ascontiguousarray(keys[start:])
        attr = bytearray(struct.pack("<QQQQIIQQ", 0, 0, _address(rest), 0, len(rest), map_fd, 0, 0))
        try:
            bpf(MAP_DELETE_BATCH, attr)
            return
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
            start += struct.unpack_from("<I", attr, 32)[0] + 1


def create_iterator(link_fd: int) -> int:
    """Return a descriptor to read one pass of an iterator from, in this thread's network namespace. Raises OSError."""
    return bpf(ITER_CREATE, struct.pack("<II", link_fd, 0))
