"""Member offsets from the kernel's own BTF, so that C can read kernel structs without kernel headers.

Only what a lookup needs is read: a struct is found by searching the type section for its name, instead of walking
all of the 150,000 types. Format: Documentation/bpf/btf.rst in the kernel tree.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tcptop_ops.errors import Unsupported

VMLINUX = Path("/sys/kernel/btf/vmlinux")

_HEADER = struct.Struct("<HBBIIIII")
_TYPE = struct.Struct("<III")
_MEMBER = struct.Struct("<III")
_MAGIC = 0xEB9F
_KIND_STRUCT, _KIND_UNION = 4, 5
_SIZES = {1: (4, 0), 3: (12, 0), 4: (0, 12), 5: (0, 12), 6: (0, 8), 13: (0, 8), 14: (4, 0), 15: (0, 12)}
_SIZES |= {17: (4, 0), 19: (0, 12)}
"""Bytes behind the header of a type, by its kind: always, and for each of its members. Other kinds have none."""
_DEEPEST = 8


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

    def names(self, name: str) -> bool:
        """Whether a type, a member or an enumerator has this name."""
        return bool(self._name_offsets(name))

    def members(self, name: str) -> dict[str, Member]:
        """The members of ``struct name``. Raises Unsupported if the kernel has no such struct."""
        at = self._find_struct(name)
        if at is None:
            raise Unsupported(f"the kernel's BTF has no struct {name}")
        return self._members_at(at, 0)

    def nested_members(self, name: str) -> dict[str, Member]:
        """The members of structs and unions without a name inside ``struct name``, at any depth; offsets are from it.

        Costs a walk of all types, since such a member is told by its number alone. Raises Unsupported as ``members``.
        """
        at = self._find_struct(name)
        if at is None:
            raise Unsupported(f"the kernel's BTF has no struct {name}")
        return self._nested_at(at, 0, self._places(), depth=0)

    def member_of_unnamed(self, name: str) -> Member | None:
        """A member whose struct has no name, found by its own; None unless all members so named have one offset."""
        at = -1
        found: set[int] = set()
        for wanted in self._name_offsets(name):
            while (at := self._types.find(wanted, at + 1)) >= 0:
                if at % 4 == 0 and self._is_member(at):
                    found.add(_MEMBER.unpack_from(self._types, at)[2])
        return Member(found.pop(), 0, 0) if len(found) == 1 else None

    def _nested_at(self, at: int, base_bit: int, places: list[int], depth: int) -> dict[str, Member]:
        found: dict[str, Member] = {}
        for bit, type_id in self._unnamed_at(at, base_bit):
            inner = places[type_id] if type_id < len(places) else -1
            if inner < 0 or depth == _DEEPEST or not self._is_composite(inner):
                continue
            for name, member in (self._members_at(inner, bit) | self._nested_at(inner, bit, places, depth + 1)).items():
                found.setdefault(name, member)
        return found

    def _places(self) -> list[int]:
        """Where each type begins, by its number; the first is void. Ends early in damaged data."""
        places, at, types = [-1], 0, self._types
        while at + _TYPE.size <= len(types):
            places.append(at)
            info = int.from_bytes(types[at + 4 : at + 8], "little")
            always, each = _SIZES.get(info >> 24 & 0x1F, (0, 0))
            at += _TYPE.size + always + (info & 0xFFFF) * each
        return places

    def _is_composite(self, at: int) -> bool:
        _, info, _ = _TYPE.unpack_from(self._types, at)
        is_whole = at + _TYPE.size + (info & 0xFFFF) * _MEMBER.size <= len(self._types)
        return is_whole and (info >> 24) & 0x1F in (_KIND_STRUCT, _KIND_UNION)

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

    def _each_member(self, at: int) -> Iterator[tuple[int, int, int, int]]:
        """Of each member: where its name is (0: it has none), its bit, its width (0: not a bit field), its type."""
        _, info, _size = _TYPE.unpack_from(self._types, at)
        has_bitfields = info >> 31
        for i in range(info & 0xFFFF):
            name_off, type_id, offset = _MEMBER.unpack_from(self._types, at + _TYPE.size + i * _MEMBER.size)
            bit, bits = (offset & 0xFFFFFF, offset >> 24) if has_bitfields else (offset, 0)
            yield name_off, bit, bits, type_id

    def _members_at(self, at: int, base_bit: int) -> dict[str, Member]:
        found: dict[str, Member] = {}
        for name_off, bit, bits, type_id in self._each_member(at):
            if name_off:
                found.setdefault(self._name(name_off), Member(base_bit + bit, bits, type_id))
        return found

    def _unnamed_at(self, at: int, base_bit: int) -> list[tuple[int, int]]:
        """Bit and type of each member without a name."""
        return [(base_bit + bit, type_id) for name_off, bit, _, type_id in self._each_member(at) if not name_off]


@dataclass(frozen=True)
class Wanted:
    """A value that the C reads, and the chains of members (first that exists wins) that lead to it.

    A chain is ``struct.member`` steps whose offsets add up: ``("inet_connection_sock.icsk_retransmit_timer",
    "timer_list.expires")``. A member of a struct that has no name is written ``.member``; one that lies in a struct or
    union without a name, inside a struct that has one, ``struct..member``.
    """

    macro: str
    chains: tuple[tuple[str, ...], ...]


def offsets(btf: Btf, wanted: Iterable[Wanted]) -> dict[str, int]:
    """Preprocessor definitions, bytes: each wanted macro that this kernel has. What it lacks is left undefined."""
    structs: dict[tuple[str, bool], dict[str, Member]] = {}

    def member(step: str) -> Member | None:
        owner, name = step.split(".", 1)
        if not owner:
            return btf.member_of_unnamed(name)
        is_nested = name.startswith(".")
        key = owner, is_nested
        if key not in structs:
            try:
                structs[key] = btf.nested_members(owner) if is_nested else btf.members(owner)
            except Unsupported:
                structs[key] = {}
        return structs[key].get(name.removeprefix("."))

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
