"""bcc for an emulated machine: what the compiler made is kept, since it takes most of a test's time there.

``kernels.sh`` puts it in the place of the package's ``__init__``, which becomes ``bcc._whole``. A text that is compiled
again with the same flags is not: its instructions get the descriptors of new maps, and go to the verifier as ever. The
number of the cgroup differs from test to test; it is compiled as MAGIC and written in afterwards. What is not the
product (no ``-DHZ=``) goes to bcc itself.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import pickle
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from bcc import _whole
from bcc._whole import *  # noqa: F403
from bcc._whole import __version__  # noqa: F401
from bcc.libbcc import lib

KEPT = Path("/run/tcptop-kept")
MAGIC = 0x2BADCAFE
CGROUP = re.compile(r"-DOUR_CGROUP_ID=(\d+)")
INSTRUCTION = 8
LD_IMM64, PSEUDO_MAP_FD = 0x18, 1  # linux/bpf.h
LOG = ctypes.create_string_buffer(1 << 16)


class Table(NamedTuple):
    """A map as bcc made it; ``fd``: its descriptor in the instructions."""

    kind: int
    name: bytes
    key_size: int
    leaf_size: int
    max_entries: int
    flags: int
    fd: int


class Code(NamedTuple):
    """What a compilation came to."""

    functions: dict[bytes, bytes]
    tables: list[Table]


def compiled(text: str, cflags: list[str]) -> Code:
    """By bcc itself. Its maps go with it."""
    made = _whole.BPF(text=text, cflags=cflags)
    functions = [lib.bpf_function_name(made.module, at) for at in range(lib.bpf_num_functions(made.module))]
    lib.bpf_num_tables.restype, lib.bpf_num_tables.argtypes = ctypes.c_size_t, [ctypes.c_void_p]
    tables = [_table(made.module, at) for at in range(lib.bpf_num_tables(made.module))]
    return Code({name: made.dump_func(name) for name in functions}, tables)


def _table(module: Any, at: int) -> Table:
    def told(name: str, kind: Any) -> Any:
        function = getattr(lib, name)
        function.restype, function.argtypes = kind, [ctypes.c_void_p, ctypes.c_size_t]
        return function(module, at)

    return Table(
        told("bpf_table_type_id", ctypes.c_int),
        told("bpf_table_name", ctypes.c_char_p),
        told("bpf_table_key_size_id", ctypes.c_size_t),
        told("bpf_table_leaf_size_id", ctypes.c_size_t),
        told("bpf_table_max_entries_id", ctypes.c_size_t),
        told("bpf_table_flags_id", ctypes.c_int),
        told("bpf_table_fd_id", ctypes.c_int),
    )


def kept(text: str, cflags: list[str]) -> Code:
    """From an earlier time, or made now and kept for the next."""
    headers = os.environ.get("BCC_KERNEL_SOURCE", "")
    place = KEPT / hashlib.sha256(repr((text, cflags, headers)).encode()).hexdigest()
    try:
        return Code(*pickle.loads(place.read_bytes()))
    except FileNotFoundError:
        made = compiled(text, cflags)
    KEPT.mkdir(exist_ok=True)
    new = place.with_suffix(f".{os.getpid()}")
    new.write_bytes(pickle.dumps(tuple(made)))
    new.rename(place)
    return made


def written_in(code: bytes, fds: dict[int, int], cgroup: int | None) -> bytes:
    """The instructions with descriptors of ours, and the cgroup's number in the place of MAGIC."""
    found = bytearray(code)
    for at in range(0, len(found), INSTRUCTION):
        value = int.from_bytes(found[at + 4 : at + 8], "little")
        if found[at] == LD_IMM64 and found[at + 1] >> 4 == PSEUDO_MAP_FD:
            found[at + 4 : at + 8] = fds[value].to_bytes(4, "little")
        elif value == MAGIC and cgroup is not None:
            found[at + 4 : at + 8] = cgroup.to_bytes(4, "little")
    return bytes(found)


class Kept:
    """What the loader uses of a compiled module."""

    def __init__(self, text: str, cflags: list[str]) -> None:
        numbers = [int(match[1]) for flag in cflags if (match := CGROUP.fullmatch(flag))]
        self._cgroup = numbers[0] if numbers else None
        self._code = kept(text, [CGROUP.sub(f"-DOUR_CGROUP_ID={MAGIC}", flag) for flag in cflags])
        self._fds = {table.name: self._map(table) for table in self._code.tables}

    @staticmethod
    def _map(table: Table) -> int:
        fd = lib.bcc_create_map(table.kind, table.name, table.key_size, table.leaf_size, table.max_entries, table.flags)
        if fd < 0:
            raise Exception(f"could not create the map {table.name!r}: {os.strerror(ctypes.get_errno())}")
        return int(fd)

    def __getitem__(self, name: bytes) -> SimpleNamespace:
        return SimpleNamespace(map_fd=self._fds[name])

    def load_func(self, name: bytes, kind: int) -> SimpleNamespace:
        """As bcc does; its verifier's words go to standard error, too."""
        fds = {table.fd: self._fds[table.name] for table in self._code.tables}
        code = written_in(self._code.functions[name], fds, self._cgroup)
        fd = lib.bcc_prog_load(kind, name, code, len(code), b"GPL", 0, 0, LOG, len(LOG))
        if fd < 0:
            error = os.strerror(ctypes.get_errno())
            os.write(2, LOG.value)
            raise Exception(f"Failed to load BPF program {name!r}: {error}")
        return SimpleNamespace(fd=fd)


class BPF(_whole.BPF):  # type: ignore[misc]
    """bcc's, and in its place what was kept."""

    def __new__(cls, *words: Any, text: str | bytes | None = None, cflags: list[str] | None = None, **more: Any) -> Any:
        if isinstance(text, str) and any(flag.startswith("-DHZ=") for flag in cflags or ()):
            return Kept(text, cflags or [])
        return super().__new__(cls)
