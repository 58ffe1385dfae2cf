"""Member offsets from the kernel's own BTF, so that C can read kernel structs without kernel headers.

Only what a lookup needs is read. A struct is found by searching the type section for its name, or by the number of its
type, which another's member tells: the types before it are stepped over, once. Format: Documentation/bpf/btf.rst in the
kernel tree.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tcptop_ops.errors import Unsupported

VMLINUX = Path("/sys/kernel/btf/vmlinux")

_HEADER = struct.Struct("<HBBIIIII")
_TYPE = struct.Struct("<III")
_MEMBER = struct.Struct("<III")
_MAGIC = 0xEB9F
_KIND_POINTER, _KIND_STRUCT, _KIND_UNION = 2, 4, 5
_SAME_AS = frozenset({8, 9, 10, 11, 18})
"""Kinds that only give another name, or a property, to a type: typedef, volatile, const, restrict, type tag."""
_SIZES = {1: (4, 0), 3: (12, 0), 4: (0, 12), 5: (0, 12), 6: (0, 8), 13: (0, 8), 14: (4, 0), 15: (0, 12)}
_SIZES |= {17: (4, 0), 19: (0, 12)}
"""Bytes behind the header of a type, by its kind: always, and for each of its members. Other kinds have none."""
_DEEPEST = 8
_WORD = 4
_STRIDE = 128


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


def _width(info: int) -> int:
    """How many words a type takes, by the word that holds its kind and the number of its members."""
    always, each = _SIZES.get(info >> 24 & 0x1F, (0, 0))
    return (_TYPE.size + always + (info & 0xFFFF) * each) // _WORD


class Btf:
    """A kernel's type information, searched by name. Raises Unsupported where the data is not BTF."""

    def __init__(self, data: bytes | mmap.mmap) -> None:
        """Take the bytes of a BTF file: header, types, strings."""
        if len(data) < _HEADER.size:
            raise Unsupported("the kernel's BTF is truncated")
        magic, _version, _flags, size, type_off, type_len, str_off, str_len = _HEADER.unpack_from(data)
        if magic != _MAGIC:
            raise Unsupported("the kernel's BTF has an unknown format")
        if size + max(type_off + type_len, str_off + str_len) > len(data):
            raise Unsupported("the kernel's BTF is truncated")
        self._data = data
        self._types: int = size + type_off
        self._types_end: int = self._types + type_len
        self._strings: int = size + str_off
        self._strings_end: int = self._strings + str_len
        self._words = memoryview(data)[self._types : self._types + type_len // _WORD * _WORD].cast("I")
        self._widths: dict[int, int] = {}  # of the types met so far, by the word after the name: see _width
        self._places = [1]  # where that word is, of every _STRIDE-th type: of 1 first, of others as far as was asked

    @classmethod
    def of_kernel(cls, path: Path = VMLINUX) -> Btf:
        """Return the running kernel's BTF. Raises Unsupported where there is none."""
        try:
            return cls(_contents(path))
        except OSError as error:
            raise Unsupported(
                f"no BTF of the kernel at {path}: {error.strerror}",
                "a kernel built with CONFIG_DEBUG_INFO_BTF lets tcptop-ops read sockets directly",
            ) from error

    def names(self, name: str) -> bool:
        """Return whether a type, a member or an enumerator has this name."""
        return self._name_offset(name) is not None

    def struct_named(self, name: str) -> int | None:
        """Return where the first ``struct name`` begins; None if the kernel has no such struct."""
        offset = self._name_offset(name)
        if not offset:
            return None
        wanted = struct.pack("<I", offset)
        at = self._types - 1
        while (at := self._data.find(wanted, at + 1, self._types_end)) >= 0:
            if (at - self._types) % _WORD == 0 and self._is_struct(at - self._types):
                return at - self._types
        return None

    def struct_of(self, type_id: int) -> tuple[int | None, bool]:
        """Return where the struct or union begins that this type is or points to, and whether it points.

        None for another kind of type, or where not all of it is there.
        """
        is_pointer = False
        for _ in range(_DEEPEST):
            place = self._info(type_id)
            if place is None or place + 1 >= len(self._words):
                return None, is_pointer
            info, type_id = self._words[place], self._words[place + 1]
            kind = info >> 24 & 0x1F
            if kind in (_KIND_STRUCT, _KIND_UNION):
                is_whole = place - 1 + _width(info) <= len(self._words)
                return (place - 1) * _WORD if is_whole else None, is_pointer
            if kind == _KIND_POINTER and not is_pointer:
                is_pointer = True
            elif kind not in _SAME_AS:
                return None, is_pointer
        return None, is_pointer

    def name_at(self, at: int) -> str:
        """Return the name of the type that begins there; empty if it has none."""
        name_off = self._words[at // _WORD]
        return self._name(name_off) if name_off else ""

    def members_at(self, at: int, base_bit: int = 0) -> dict[str, Member]:
        """Return the members with a name of the struct or union that begins there, ``base_bit`` added to each."""
        found: dict[str, Member] = {}
        for name_off, bit, bits, type_id in self._each_member(at):
            if name_off:
                found.setdefault(self._name(name_off), Member(base_bit + bit, bits, type_id))
        return found

    def nested_at(self, at: int, base_bit: int = 0, depth: int = 0) -> dict[str, Member]:
        """Return the members of structs and unions without a name inside of one, at any depth, as ``members_at``."""
        found: dict[str, Member] = {}
        for name_off, bit, _, type_id in self._each_member(at):
            inner, is_pointer = (None, False) if name_off else self.struct_of(type_id)
            if inner is None or is_pointer or depth == _DEEPEST:
                continue
            place = base_bit + bit
            for name, member in (self.members_at(inner, place) | self.nested_at(inner, place, depth + 1)).items():
                found.setdefault(name, member)
        return found

    def _info(self, type_id: int) -> int | None:
        """Where the second word of a type is, by the type's number; 0 is void. None beyond the last."""
        if not 0 < type_id <= len(self._words):
            return None
        stride, beyond = divmod(type_id - 1, _STRIDE)
        while len(self._places) <= stride:
            self._places.append(self._step_over(self._places[-1], _STRIDE))
        place = self._step_over(self._places[stride], beyond)
        return place if place < len(self._words) else None

    def _step_over(self, place: int, count: int) -> int:
        """Where the same word is, so many types on; beyond the end in damaged data.

        A kernel has 125,000 types: this is 70 ns for each. An exact dict, and nothing else in the loop, is why.
        """
        words, widths = self._words, self._widths
        if place >= len(words):
            return place
        try:
            for _ in range(count):
                try:
                    place += widths[words[place]]
                except KeyError:
                    info = words[place]
                    widths[info] = _width(info)
                    place += widths[info]
        except IndexError:
            return len(words)
        return place

    def _name_offset(self, name: str) -> int | None:
        """Where in the strings this one is."""
        at = self._data.find(b"\0" + name.encode() + b"\0", self._strings, self._strings_end)
        return at + 1 - self._strings if at >= 0 else None

    def _name(self, offset: int) -> str:
        start = self._strings + offset
        end = self._data.find(b"\0", start, self._strings_end)
        return self._data[start : end if end >= 0 else self._strings_end].decode(errors="replace")

    def _is_struct(self, at: int) -> bool:
        """Whether a struct starts at ``at``: its kind, unused bits, and members whose names lie in the table."""
        if self._types + at + _TYPE.size > self._types_end:
            return False
        _, info, size = _TYPE.unpack_from(self._data, self._types + at)
        count = info & 0xFFFF
        if (info >> 24) & 0x1F != _KIND_STRUCT or info & 0x60FF0000 or not 0 < size < 1 << 20 or not count:
            return False
        if self._types + at + _TYPE.size + count * _MEMBER.size > self._types_end:
            return False
        length = self._strings_end - self._strings
        return all(name_off < length for name_off, _, _ in self._raw_members(at))

    def _raw_members(self, at: int) -> Iterator[tuple[int, int, int]]:
        """Name, type and offset of each, as they are written there."""
        start = self._types + at
        _, info, _ = _TYPE.unpack_from(self._data, start)
        end = start + _TYPE.size + (info & 0xFFFF) * _MEMBER.size
        return _MEMBER.iter_unpack(self._data[start + _TYPE.size : end])

    def _each_member(self, at: int) -> Iterator[tuple[int, int, int, int]]:
        """Of each member: where its name is (0: it has none), its bit, its width (0: not a bit field), its type."""
        _, info, _size = _TYPE.unpack_from(self._data, self._types + at)
        has_bitfields = info >> 31
        for name_off, type_id, offset in self._raw_members(at):
            bit, bits = (offset & 0xFFFFFF, offset >> 24) if has_bitfields else (offset, 0)
            yield name_off, bit, bits, type_id


def _contents(path: Path) -> bytes | mmap.mmap:
    """All of a file; of the kernel's, from 6.16 on, without copying it. Raises OSError."""
    with path.open("rb", buffering=0) as file:
        try:
            return mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)
        except (OSError, ValueError):  # before 6.16; an empty file
            return file.readall()


@dataclass(frozen=True)
class WantedOffset:
    """A value that the C reads, and the paths of members (first that exists wins) that lead to it.

    A path begins with the name of a struct: ``sock.sk_timer.expires``. Each step is a member of the struct or union
    that the step before is, or points to; offsets add up from the last pointer on. As in C, a member of a struct that
    has no name, inside of one that has, is a member of the latter. ``since``: a path that exists where the first path
    alone means this, and another would lead to something else. ``bits``: it may be a bit field, which needs
    ``macro_SHIFT`` and ``macro_MASK`` too. ``feeds``: the columns that are null without it; nothing is lost where the
    kernel has the macro ``unless``.
    """

    macro: str
    paths: tuple[str, ...]
    since: str = ""
    bits: bool = False
    feeds: tuple[str, ...] = ()
    unless: str = ""

    @property
    def member(self) -> str:
        """The path of today's kernels."""
        return self.paths[0]


LACKING = -1
"""The offset of what a kernel does not have."""


class Finder:
    """Members by their paths; each struct is read once.

    ``ways``: to a struct by a path that ends in it, which is faster than the search for its name. The kernel may have
    several structs of one name, too: then it is the one that is meant.
    """

    def __init__(self, btf: Btf, ways: Mapping[str, str]) -> None:
        """Search this BTF; what was found once is remembered."""
        self._btf = btf
        self._ways = ways
        self._roots: dict[str, int | None] = {}
        self._members: dict[int, dict[str, Member]] = {}
        self._whole: set[int] = set()  # those whose nested members were added

    def find(self, path: str) -> Member | None:
        """Return the last member of a path, its bit from the start of the last struct pointed to; or None."""
        name, *steps = path.split(".")
        at, bit, member = self._root(name), 0, None
        for step in steps:
            if member is not None:
                at, is_pointer = self._btf.struct_of(member.type_id)
                bit = 0 if is_pointer else bit
            member = None if at is None else self._member(at, step)
            if member is None:
                return None
            bit += member.bit
        return Member(bit, member.bits, member.type_id) if member else None

    def _root(self, name: str) -> int | None:
        if name not in self._roots:
            self._roots[name] = None  # of a way that leads through itself
            way = self.find(self._ways[name]) if name in self._ways else None
            at = None if way is None else self._btf.struct_of(way.type_id)[0]
            is_it = at is not None and self._btf.name_at(at) == name
            self._roots[name] = at if is_it else self._btf.struct_named(name)
        return self._roots[name]

    def _member(self, at: int, name: str) -> Member | None:
        """Most members are direct ones: structs without a name are looked into where it must be."""
        if at not in self._members:
            self._members[at] = self._btf.members_at(at)
        if name not in self._members[at] and at not in self._whole:
            self._whole.add(at)
            self._members[at] = self._btf.nested_at(at) | self._members[at]
        return self._members[at].get(name)


def offsets(btf: Btf, wanted: Iterable[WantedOffset], ways: Mapping[str, str] | None = None) -> dict[str, int]:
    """Return each macro with its offset, bytes; LACKING where this kernel has none of its paths."""
    finder = Finder(btf, ways or {})
    found: dict[str, int] = {}
    for want in wanted:
        paths = want.paths[:1] if want.since and finder.find(want.since) else want.paths
        member = next(filter(None, map(finder.find, paths)), None)
        found[want.macro] = LACKING if member is None else member.offset
        if want.bits:
            is_bit_field = member is not None and member.bits > 0
            found[want.macro + "_SHIFT"] = member.bit % 8 if member and is_bit_field else 0
            found[want.macro + "_MASK"] = (1 << member.bits) - 1 if member and is_bit_field else 0xFF
    return found
