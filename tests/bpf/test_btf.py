"""Member offsets from type information made by hand, from the kernel's own, and from damaged bytes."""

from __future__ import annotations

import contextlib
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcptop_ops.bpf import kernel_offsets
from tcptop_ops.bpf.btf import LACKING, VMLINUX, Btf, Member, WantedOffset, offsets
from tcptop_ops.errors import Unsupported

STRUCT, UNION, INT, POINTER, TYPEDEF = 4, 5, 1, 2, 8
HEADER = struct.Struct("<HBBIIIII")


class Builder:
    """Writes BTF as Documentation/bpf/btf.rst describes it."""

    def __init__(self) -> None:
        self.types = b""
        self.strings = b"\0"

    def string(self, text: str) -> int:
        if not text:
            return 0
        at = self.strings.find(b"\0" + text.encode() + b"\0")
        if at < 0:
            at = len(self.strings) - 1
            self.strings += text.encode() + b"\0"
        return at + 1

    def integer(self, name: str, size: int) -> None:
        self.types += struct.pack("<IIII", self.string(name), INT << 24, size, size * 8)

    def composite(
        self, name: str, size: int, *members: tuple[str, int], bitfields: bool = False, kind: int = STRUCT
    ) -> None:
        self.types += struct.pack("<III", self.string(name), kind << 24 | len(members) | bitfields << 31, size)
        for member, offset in members:
            self.types += struct.pack("<III", self.string(member), 1, offset)

    def bytes(self) -> bytes:
        head = HEADER.pack(0xEB9F, 1, 0, HEADER.size, 0, len(self.types), len(self.types), len(self.strings))
        return head + self.types + self.strings


def built() -> Builder:
    made = Builder()
    made.integer("int", 4)
    made.composite("list_head", 16, ("next", 0), ("prev", 64))
    made.composite("sock", 96, ("sk_err", 32), ("", 64), ("sk_timer", 128))
    made.composite("timer_list", 40, ("entry", 0), ("expires", 192))
    made.composite("", 8, ("lrcvtime", 96), ("pingpong", 32))
    made.composite("odd", 8, ("low", 3 << 24 | 0), ("flag", 1 << 24 | 13), ("whole", 32), bitfields=True)
    made.composite("either", 8, ("a", 0), kind=UNION)
    return made


def members(btf: Btf, name: str) -> dict[str, Member]:
    at = btf.struct_named(name)
    assert at is not None, name
    return btf.members_at(at)


def nested(btf: Btf, name: str) -> dict[str, Member]:
    at = btf.struct_named(name)
    assert at is not None, name
    return btf.nested_at(at)


@pytest.fixture(scope="module")
def btf() -> Btf:
    return Btf(built().bytes())


def test_members(btf: Btf) -> None:
    assert members(btf, "list_head") == {"next": Member(0, 0, 1), "prev": Member(64, 0, 1)}
    assert {name: member.offset for name, member in members(btf, "sock").items()} == {"sk_err": 4, "sk_timer": 16}


def test_bit_fields(btf: Btf) -> None:
    found = members(btf, "odd")
    assert [(m.bit, m.bits, m.offset) for m in found.values()] == [(0, 3, 0), (13, 1, 1), (32, 0, 4)]


@pytest.mark.parametrize("name", ["nope", "either", "sk_err", "int", "list", "", "sock\0"])
def test_no_such_struct(btf: Btf, name: str) -> None:
    assert btf.struct_named(name) is None


def test_offsets(btf: Btf) -> None:
    wanted = (
        WantedOffset("ERR", ("sock.sk_err",)),
        WantedOffset("FIRST", ("sock.nope", "sock.sk_timer", "sock.sk_err")),
        WantedOffset("ALONE", ("sock.nope", "sock.sk_err"), since="timer_list.expires"),
        WantedOffset("OLDER", ("sock.nope", "sock.sk_err"), since="timer_list.nope"),
        WantedOffset("FLAG", ("odd.flag",), bits=True),
        WantedOffset("PLAIN", ("odd.whole",), bits=True),
        WantedOffset("LOST", ("sock.nope", "gone.x", "sock.sk_err.deeper"), bits=True),
    )
    assert offsets(btf, wanted) == {
        "ERR": 4,
        "FIRST": 16,
        "ALONE": LACKING,
        "OLDER": 4,
        "FLAG": 1,
        "FLAG_SHIFT": 5,
        "FLAG_MASK": 1,
        "PLAIN": 4,
        "PLAIN_SHIFT": 0,
        "PLAIN_MASK": 0xFF,
        "LOST": LACKING,
        "LOST_SHIFT": 0,
        "LOST_MASK": 0xFF,
    }


def intricate() -> Builder:
    """A timer in a union without a name, behind types of every shape that a walk has to step over."""
    made = built()
    made.types += struct.pack("<IIIIII", 0, 3 << 24, 0, 1, 1, 4)  # an array
    made.types += struct.pack("<IIIII", 0, 13 << 24 | 1, 1, 0, 1)  # a function with a parameter
    made.types += struct.pack("<IIIIII", 0, 19 << 24 | 1, 8, made.string("LARGE"), 1, 1)  # a 64-bit enumeration
    made.types += struct.pack("<III", 0, POINTER << 24, 4)  # of struct timer_list, the fourth of ``built``
    made.types += struct.pack("<III", made.string("timer_t"), TYPEDEF << 24, 4)
    unnamed = 13  # seven types of ``built``, these five
    made.types += struct.pack("<III", 0, UNION << 24 | 2, 48)
    made.types += struct.pack("<IIIIII", made.string("sk_timer"), 12, 0, made.string("other"), 11, 64)
    made.types += struct.pack("<III", 0, STRUCT << 24 | 1, 64)
    made.types += struct.pack("<III", 0, unnamed, 128)  # a struct without a name around it
    made.types += struct.pack("<III", made.string("outer"), STRUCT << 24 | 2, 96)
    made.types += struct.pack("<IIIIII", made.string("first"), 1, 0, 0, unnamed + 1, 256)
    return made


def test_members_of_a_union_without_a_name() -> None:
    btf = Btf(intricate().bytes())
    assert list(members(btf, "outer")) == ["first"]
    assert {name: member.offset for name, member in nested(btf, "outer").items()} == {"sk_timer": 48, "other": 56}
    assert nested(btf, "list_head") == {}


def test_paths_go_through_other_names_and_pointers() -> None:
    """By the type of each step; offsets add up, but not across a pointer."""
    btf = Btf(intricate().bytes())
    wanted = (
        WantedOffset("EXPIRES", ("outer.sk_timer.expires",)),
        WantedOffset("POINTED", ("outer.other.expires",)),
        WantedOffset("NO_STRUCT", ("outer.first.expires",)),
    )
    assert offsets(btf, wanted) == {"EXPIRES": 72, "POINTED": 24, "NO_STRUCT": LACKING}


def test_the_way_to_a_struct_beats_its_name() -> None:
    """A kernel may have several structs of one name."""
    made = Builder()
    made.integer("int", 4)
    made.composite("timer", 8, ("expires", 8))
    made.composite("timer", 8, ("expires", 64))
    made.types += struct.pack("<IIIIII", made.string("sock"), STRUCT << 24 | 1, 8, made.string("sk_timer"), 3, 0)
    btf, wanted = Btf(made.bytes()), [WantedOffset("EXPIRES", ("timer.expires",))]
    assert offsets(btf, wanted) == {"EXPIRES": 1}
    assert offsets(btf, wanted, {"timer": "sock.sk_timer"}) == {"EXPIRES": 8}
    assert offsets(btf, wanted, {"timer": "sock.nope"}) == {"EXPIRES": 1}
    assert offsets(btf, wanted, {"timer": "timer.expires"}) == {"EXPIRES": 1}
    assert offsets(btf, [WantedOffset("OTHER", ("list.x",))], {"list": "sock.sk_timer"}) == {"OTHER": LACKING}


def test_many_types_are_stepped_over_once() -> None:
    made = Builder()
    for _ in range(1000):
        made.integer("int", 4)
    for number in range(700):
        made.composite("", 8, (f"m{number}", 8 * number))
    btf = Btf(made.bytes())
    for number in (699, 0, 300, 127, 128, 699):
        assert btf.struct_of(1001 + number)[0] is not None
        assert btf.members_at(btf.struct_of(1001 + number)[0] or 0)[f"m{number}"].offset == number
    for number in (0, 1, 1000, 1701, 1 << 31):
        assert btf.struct_of(number) == (None, False)


def test_a_struct_that_contains_itself_comes_to_an_end() -> None:
    made = Builder()
    made.integer("int", 4)
    made.types += struct.pack("<IIIIII", made.string("snake"), STRUCT << 24 | 1, 8, 0, 2, 0)
    assert nested(Btf(made.bytes()), "snake") == {}


def test_a_name_that_the_kernel_knows() -> None:
    btf = Btf(intricate().bytes())
    assert btf.names("LARGE")
    assert not btf.names("LARG")


def test_what_only_looks_like_a_struct() -> None:
    """Other types may hold the same bytes: between two words, or with members whose names nobody wrote."""
    made = built()
    decoy = struct.pack("<IIIIII", made.string("list_head"), STRUCT << 24 | 1, 16, made.string("prev"), 1, 800)
    nameless = struct.pack("<IIIIII", made.string("list_head"), STRUCT << 24 | 1, 16, 1 << 20, 1, 800)
    made.types = b"\0" + decoy + b"\0\0\0" + nameless + made.types
    assert members(Btf(made.bytes()), "list_head")["prev"].offset == 8


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(Unsupported) as error:
        Btf.of_kernel(tmp_path / "vmlinux")
    assert "No such file" in error.value.message
    assert "CONFIG_DEBUG_INFO_BTF" in error.value.hint


@pytest.mark.parametrize("data", [b"", b"\x9f\xeb", b"\x7fELF" + b"\0" * 60, HEADER.pack(0x9FEB, 1, 0, 24, 0, 0, 0, 0)])
def test_no_btf(data: bytes, tmp_path: Path) -> None:
    file = tmp_path / "vmlinux"
    file.write_bytes(data)
    with pytest.raises(Unsupported):
        Btf.of_kernel(file)


def test_any_truncation_is_told() -> None:
    whole = built().bytes()
    for size in range(len(whole)):
        with pytest.raises(Unsupported, match="truncated"):
            Btf(whole[:size])


WHOLE = built().bytes()
NAMES = ("list_head", "sock", "timer_list", "odd", "either", "nope")


@settings(max_examples=300)
@given(st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), min_size=1, max_size=8))
def test_damaged_bytes(damage: list[tuple[int, int]]) -> None:
    data = bytearray(WHOLE)
    for at, byte in damage:
        data[at] = byte
    assert_answered_or_refused(bytes(data))


@settings(max_examples=200)
@given(st.binary(max_size=400), st.integers(0, 400), st.integers(0, 400))
def test_any_bytes(data: bytes, types: int, strings: int) -> None:
    assert_answered_or_refused(HEADER.pack(0xEB9F, 1, 0, HEADER.size, 0, types, types, strings) + data)
    assert_answered_or_refused(data)


def assert_answered_or_refused(data: bytes) -> None:
    """Ask everything that can be asked: an answer, or Unsupported; no other error is raised."""
    with contextlib.suppress(Unsupported):
        btf = Btf(data)
        for name in NAMES:
            at = btf.struct_named(name)
            if at is not None:
                assert all(member.offset >= 0 for member in (btf.nested_at(at) | btf.members_at(at)).values())
        kernel_offsets.layout_of(btf)


def test_names_that_run_off_the_table() -> None:
    made = built()
    made.strings = made.strings[:-3] + b"\xff\xfe\xfd"
    found = Btf(made.bytes())
    assert list(members(found, "list_head")) == ["next", "prev"]


@pytest.fixture(scope="module")
def kernel() -> bytes:
    if not VMLINUX.exists():
        pytest.skip(f"this kernel has no {VMLINUX}")
    return VMLINUX.read_bytes()


class Walked:
    """Every type of a file, one after the other: kind, name, members (name, type, bit, width), and what it names."""

    def __init__(self, data: bytes) -> None:
        _, _, _, size, type_off, type_len, str_off, _ = HEADER.unpack_from(data)
        strings = size + str_off
        extra = {1: 4, 3: 12, 14: 4, 17: 4}  # INT, ARRAY, VAR, DECL_TAG
        each = {4: 12, 5: 12, 6: 8, 13: 8, 15: 12, 19: 12}  # STRUCT, UNION, ENUM, FUNC_PROTO, DATASEC, ENUM64

        def text(offset: int) -> str:
            return data[strings + offset : data.index(b"\0", strings + offset)].decode()

        self.types: list[tuple[int, str, list[tuple[str, int, int, int]], int]] = [(0, "", [], 0)]
        self.structs: dict[str, int] = {}
        at, end = size + type_off, size + type_off + type_len
        while at < end:
            name, info, named = struct.unpack_from("<III", data, at)
            kind, count = info >> 24 & 0x1F, info & 0xFFFF
            at += 12
            found = []
            for i in range(count if kind in (STRUCT, UNION) else 0):
                member, type_id, offset = struct.unpack_from("<III", data, at + 12 * i)
                bit, width = (offset & 0xFFFFFF, offset >> 24) if info >> 31 else (offset, 0)
                found.append((text(member), type_id, bit, width))
            if kind == STRUCT:
                self.structs.setdefault(text(name), len(self.types))
            self.types.append((kind, text(name), found, named))
            at += extra.get(kind, 0) + each.get(kind, 0) * count

    def behind(self, type_id: int) -> int:
        """Without pointers, other names and properties."""
        while self.types[type_id][0] in (2, 8, 9, 10, 11, 18):
            type_id = self.types[type_id][3]
        return type_id

    def member(self, type_id: int, wanted: str) -> tuple[int, int, int] | None:
        """Type, bit and width."""
        inside = self.types[type_id][2]
        for name, inner, bit, width in inside:
            if name == wanted:
                return inner, bit, width
        for name, inner, bit, _ in inside:
            deeper = None if name else self.member(self.behind(inner), wanted)
            if deeper is not None:
                return deeper[0], deeper[1] + bit, deeper[2]
        return None

    def place(self, path: str) -> tuple[int, int] | None:
        """Bit and width at the end of a path."""
        root, *steps = path.split(".")
        at, bit, width = self.structs.get(root, 0), 0, 0
        for step in steps:
            found = self.member(at, step)
            if found is None:
                return None
            at, bit, width = self.behind(found[0]), bit + found[1], found[2]
        return bit, width


def test_the_kernels_own_types(kernel: bytes) -> None:
    """Searching agrees with a walk over all types, for every member that is asked for."""
    everything = Walked(kernel)
    found = kernel_offsets.layout_of(Btf(kernel)).offsets
    for want in kernel_offsets.WANTED:
        only_first = want.since and everything.place(want.since)
        places = [everything.place(path) for path in (want.paths[:1] if only_first else want.paths)]
        there = next((place for place in places if place), None)
        assert found[want.macro] == (LACKING if there is None else there[0] // 8), want.macro
        if want.bits and there and there[1]:
            shift, mask = found[want.macro + "_SHIFT"], found[want.macro + "_MASK"]
            assert (shift, mask) == (there[0] % 8, (1 << there[1]) - 1), want.macro


def test_each_way_leads_to_the_struct_that_has_the_name(kernel: bytes) -> None:
    known = Btf(kernel)
    with_ways, by_name = kernel_offsets.layout_of(known).offsets, offsets(known, kernel_offsets.WANTED)
    assert with_ways == by_name


def test_a_truncated_kernel(kernel: bytes) -> None:
    for size in (0, 1, 23, 24, 1000, len(kernel) // 2, len(kernel) - 1):
        with pytest.raises(Unsupported):
            Btf(kernel[:size])
