"""Member offsets from the kernel's own BTF, so that C can read kernel structs without kernel headers.

Only what a lookup needs is read: a struct is found by searching the type section for its name, instead of walking
all of the 150,000 types. Format: Documentation/bpf/btf.rst in the kernel tree.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tcptop_ops.errors import Unsupported

VMLINUX = Path("/sys/kernel/btf/vmlinux")

_HEADER = struct.Struct("<HBBIIIII")
_TYPE = struct.Struct("<III")
_MEMBER = struct.Struct("<III")
_MAGIC = 0xEB9F
_KIND_STRUCT, _KIND_UNION = 4, 5


@dataclass(frozen=True)
class Member:
    """Where a member lies in its struct: ``bit`` from the struct's start, ``bits`` its width (0: not a bit field)."""

    bit: int
    bits: int
    type_id: int

    @property
    def offset(self) -> int:
        """Bytes from the start of the struct."""
        return self.bit // 8


class Btf:
    """A kernel's type information, searched by name. Raises Unsupported where the data is not BTF."""

    def __init__(self, data: bytes) -> None:
        if len(data) < _HEADER.size:
            raise Unsupported("the kernel's BTF is truncated")
        magic, _version, _flags, size, type_off, type_len, str_off, str_len = _HEADER.unpack_from(data)
        if magic != _MAGIC:
            raise Unsupported("the kernel's BTF has an unknown format")
        if size + max(type_off + type_len, str_off + str_len) > len(data):
            raise Unsupported("the kernel's BTF is truncated")
        self._types = data[size + type_off : size + type_off + type_len]
        self._strings = data[size + str_off : size + str_off + str_len]

    @classmethod
    def of_kernel(cls, path: Path = VMLINUX) -> Btf:
        """The running kernel's BTF. Raises Unsupported where there is none."""
        try:
            return cls(path.read_bytes())
        except OSError as error:
            raise Unsupported(
                f"no BTF of the kernel at {path}: {error.strerror}",
                "a kernel built with CONFIG_DEBUG_INFO_BTF lets tcptop-ops read sockets directly",
            ) from error

    def members(self, name: str) -> dict[str, Member]:
        """The members of ``struct name``, those of anonymous structs and unions inside it too.

        Raises Unsupported if the kernel has no such struct.
        """
        at = self._find_struct(name)
        if at is None:
            raise Unsupported(f"the kernel's BTF has no struct {name}")
        return self._members_at(at, 0)

    def member_of_unnamed(self, name: str) -> Member | None:
        """A member whose struct has no name, found by its own; None unless all members so named have one offset."""
        at = -1
        found: set[int] = set()
        for wanted in self._name_offsets(name):
            while (at := self._types.find(wanted, at + 1)) >= 0:
                if at % 4 == 0 and self._is_member(at):
                    found.add(_MEMBER.unpack_from(self._types, at)[2])
        return Member(found.pop(), 0, 0) if len(found) == 1 else None

    def _name_offsets(self, name: str) -> list[bytes]:
        name_off = self._strings.find(b"\0" + name.encode() + b"\0") + 1
        return [struct.pack("<I", name_off)] if name_off else []

    def _is_member(self, at: int) -> bool:
        if at + _MEMBER.size > len(self._types):
            return False
        type_id, bit = struct.unpack_from("<II", self._types, at + 4)
        return bool(0 < type_id < 1 << 20 and bit % 8 == 0 and bit < 1 << 15)

    def _name(self, offset: int) -> str:
        end = self._strings.find(b"\0", offset)
        return self._strings[offset : end if end >= 0 else None].decode(errors="replace")

    def _find_struct(self, name: str) -> int | None:
        for wanted in self._name_offsets(name):
            at = -1
            while (at := self._types.find(wanted, at + 1)) >= 0:
                if at % 4 == 0 and self._is_struct(at):
                    return at
        return None

    def _is_struct(self, at: int) -> bool:
        """Whether a struct starts at ``at``: its kind, unused bits, and members whose names lie in the table."""
        if at + _TYPE.size > len(self._types):
            return False
        _, info, size = _TYPE.unpack_from(self._types, at)
        count = info & 0xFFFF
        if (info >> 24) & 0x1F != _KIND_STRUCT or info & 0x60FF0000 or not 0 < size < 1 << 20:
            return False
        end = at + _TYPE.size + count * _MEMBER.size
        names = (_MEMBER.unpack_from(self._types, i)[0] for i in range(at + _TYPE.size, end, _MEMBER.size))
        return count > 0 and end <= len(self._types) and all(n < len(self._strings) for n in names)

    def _members_at(self, at: int, base_bit: int) -> dict[str, Member]:
        _, info, _size = _TYPE.unpack_from(self._types, at)
        has_bitfields = info >> 31
        found: dict[str, Member] = {}
        for i in range(info & 0xFFFF):
            name_off, type_id, offset = _MEMBER.unpack_from(self._types, at + _TYPE.size + i * _MEMBER.size)
            bit, bits = (offset & 0xFFFFFF, offset >> 24) if has_bitfields else (offset, 0)
            if name_off:
                found.setdefault(self._name(name_off), Member(base_bit + bit, bits, type_id))
        return found


@dataclass(frozen=True)
class Wanted:
    """A value that the C reads, and the chains of members (first that exists wins) that lead to it.

    A chain is ``struct.member`` steps whose offsets add up: ``("inet_connection_sock.icsk_retransmit_timer",
    "timer_list.expires")``. A member of a struct that has no name is written ``.member``.
    """

    macro: str
    chains: tuple[tuple[str, ...], ...]


def offsets(btf: Btf, wanted: Iterable[Wanted]) -> dict[str, int]:
    """Preprocessor definitions, bytes: each wanted macro that this kernel has. What it lacks is left undefined."""
    structs: dict[str, dict[str, Member]] = {}

    def member(step: str) -> Member | None:
        owner, name = step.split(".")
        if not owner:
            return btf.member_of_unnamed(name)
        if owner not in structs:
            try:
                structs[owner] = btf.members(owner)
            except Unsupported:
                structs[owner] = {}
        return structs[owner].get(name)

    found: dict[str, int] = {}
    for want in wanted:
        for chain in want.chains:
            steps = [member(step) for step in chain]
            if all(steps):
                found[want.macro] = sum(step.offset for step in steps if step)
                if steps[-1] and steps[-1].bits:
                    found[want.macro + "_SHIFT"] = steps[-1].bit % 8
                break
    return found
