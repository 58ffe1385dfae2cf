"""Member offsets from type information made by hand, from the kernel's own, and from damaged bytes."""

from __future__ import annotations

import contextlib
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcptop_ops.bpf import layout
from tcptop_ops.bpf.btf import VMLINUX, Btf, Member, Wanted, offsets
from tcptop_ops.errors import Unsupported

STRUCT, UNION, INT = 4, 5, 1
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


@pytest.fixture(scope="module")
def btf() -> Btf:
    return Btf(built().bytes())


def test_members(btf: Btf) -> None:
    assert btf.members("list_head") == {"next": Member(0, 0, 1), "prev": Member(64, 0, 1)}
    assert {name: member.offset for name, member in btf.members("sock").items()} == {"sk_err": 4, "sk_timer": 16}


def test_bit_fields(btf: Btf) -> None:
    found = btf.members("odd")
    assert [(m.bit, m.bits, m.offset) for m in found.values()] == [(0, 3, 0), (13, 1, 1), (32, 0, 4)]


@pytest.mark.parametrize("name", ["nope", "either", "sk_err", "int", "list", "", "sock\0"])
def test_no_such_struct(btf: Btf, name: str) -> None:
    with pytest.raises(Unsupported):
        btf.members(name)


def test_a_member_of_a_struct_without_a_name(btf: Btf) -> None:
    found = btf.member_of_unnamed("lrcvtime")
    assert found is not None
    assert found.offset == 12
    assert btf.member_of_unnamed("nope") is None


def test_a_member_at_two_offsets_is_none() -> None:
    made = built()
    made.composite("", 8, ("lrcvtime", 64))
    assert Btf(made.bytes()).member_of_unnamed("lrcvtime") is None


def test_offsets(btf: Btf) -> None:
    wanted = (
        Wanted("ERR", (("sock.sk_err",),)),
        Wanted("EXPIRES", (("sock.nope", "timer_list.expires"), ("sock.sk_timer", "timer_list.expires"))),
        Wanted("FIRST", (("sock.sk_err",), ("sock.sk_timer",))),
        Wanted("LRCV", (("sock.sk_timer", ".lrcvtime"),)),
        Wanted("FLAG", (("odd.flag",),)),
        Wanted("LOST", (("sock.nope",), ("gone.x",))),
    )
    assert offsets(btf, wanted) == {"ERR": 4, "EXPIRES": 40, "FIRST": 4, "LRCV": 28, "FLAG": 1, "FLAG_SHIFT": 5}


def nested() -> Builder:
    """A timer in a union without a name, behind types of every shape that a walk has to step over."""
    made = built()
    made.types += struct.pack("<IIIIII", 0, 3 << 24, 0, 1, 1, 4)  # an array
    made.types += struct.pack("<IIIII", 0, 13 << 24 | 1, 1, 0, 1)  # a function with a parameter
    made.types += struct.pack("<IIIIII", 0, 19 << 24 | 1, 8, made.string("LARGE"), 1, 1)  # a 64-bit enumeration
    made.types += struct.pack("<III", 0, 2 << 24, 1)  # a pointer
    unnamed = 12  # seven types of ``built``, these four
    made.composite("", 48, ("sk_timer", 0), ("other", 64), kind=UNION)
    made.types += struct.pack("<III", 0, STRUCT << 24 | 1, 64)
    made.types += struct.pack("<III", 0, unnamed, 128)  # a struct without a name around it
    made.types += struct.pack("<III", made.string("outer"), STRUCT << 24 | 2, 96)
    made.types += struct.pack("<IIIIII", made.string("first"), 1, 0, 0, unnamed + 1, 256)
    return made


def test_members_of_a_union_without_a_name() -> None:
    btf = Btf(nested().bytes())
    assert list(btf.members("outer")) == ["first"]
    found = {name: member.offset for name, member in btf.nested_members("outer").items()}
    assert found == {"sk_timer": 48, "other": 56}
    wanted = (Wanted("EXPIRES", (("outer.sk_timer",), ("outer..sk_timer", "timer_list.expires"))),)
    assert offsets(btf, wanted) == {"EXPIRES": 72}
    assert btf.nested_members("list_head") == {}
    with pytest.raises(Unsupported):
        btf.nested_members("nope")


def test_a_struct_that_contains_itself_comes_to_an_end() -> None:
    made = Builder()
    made.integer("int", 4)
    made.types += struct.pack("<IIIIII", made.string("snake"), STRUCT << 24 | 1, 8, 0, 2, 0)
    assert Btf(made.bytes()).nested_members("snake") == {}


def test_a_name_that_the_kernel_knows() -> None:
    btf = Btf(nested().bytes())
    assert btf.names("LARGE")
    assert not btf.names("LARG")


def test_what_only_looks_like_a_struct() -> None:
    """Other types may hold the same bytes: between two words, or with members whose names nobody wrote."""
    made = built()
    decoy = struct.pack("<IIIIII", made.string("list_head"), STRUCT << 24 | 1, 16, made.string("prev"), 1, 800)
    nameless = struct.pack("<IIIIII", made.string("list_head"), STRUCT << 24 | 1, 16, 1 << 20, 1, 800)
    made.types = b"\0" + decoy + b"\0\0\0" + nameless + made.types
    assert Btf(made.bytes()).members("list_head")["prev"].offset == 8


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
            with contextlib.suppress(Unsupported):
                assert all(member.offset >= 0 for member in btf.members(name).values())
        btf.member_of_unnamed("lrcvtime")
        with contextlib.suppress(Unsupported):
            btf.nested_members("sock")
        offsets(btf, layout.WANTED)


def test_names_that_run_off_the_table() -> None:
    made = built()
    made.strings = made.strings[:-3] + b"\xff\xfe\xfd"
    found = Btf(made.bytes())
    assert list(found.members("list_head")) == ["next", "prev"]


def test_a_kernel_that_lacks_a_member(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Btf, "of_kernel", classmethod(lambda cls: cls(WHOLE)))
    with pytest.raises(Unsupported) as error:
        layout.kernel_offsets()
    assert "TP_SRTT_US" in error.value.message
    assert "SK_INO" not in error.value.message


@pytest.fixture(scope="module")
def kernel() -> bytes:
    if not VMLINUX.exists():
        pytest.skip(f"this kernel has no {VMLINUX}")
    return VMLINUX.read_bytes()


def walk(data: bytes) -> dict[str, dict[str, tuple[int, int]]]:
    """Every struct of a kernel: its members with their offset and width in bits; all types one after the other."""
    _, _, _, size, type_off, type_len, str_off, _ = HEADER.unpack_from(data)
    strings = size + str_off
    extra = {1: 4, 3: 12, 14: 4, 17: 4}  # INT, ARRAY, VAR, DECL_TAG
    each = {4: 12, 5: 12, 6: 8, 13: 8, 15: 12, 19: 12}  # STRUCT, UNION, ENUM, FUNC_PROTO, DATASEC, ENUM64

    def text(offset: int) -> str:
        return data[strings + offset : data.index(b"\0", strings + offset)].decode()

    found: dict[str, dict[str, tuple[int, int]]] = {}
    at, end = size + type_off, size + type_off + type_len
    while at < end:
        name, info, _ = struct.unpack_from("<III", data, at)
        kind, count = info >> 24 & 0x1F, info & 0xFFFF
        at += 12
        if kind == STRUCT and name and text(name) not in found:
            members = found[text(name)] = {}
            for i in range(count):
                member, _, offset = struct.unpack_from("<III", data, at + 12 * i)
                split = (offset & 0xFFFFFF, offset >> 24) if info >> 31 else (offset, 0)
                if member:
                    members.setdefault(text(member), split)
        at += extra.get(kind, 0) + each.get(kind, 0) * count
    return found


def test_the_kernels_own_types(kernel: bytes) -> None:
    """Searching agrees with a walk over all types, for every struct that is asked for."""
    everything = walk(kernel)
    btf = Btf(kernel)
    steps = {step.partition(".")[0] for want in layout.WANTED for chain in want.chains for step in chain} - {""}
    known = steps & everything.keys()
    assert {"tcp_sock", "sock", "inet_connection_sock", "task_struct", "file"} <= known
    for name in known:
        found = {member: (of.bit, of.bits) for member, of in btf.members(name).items()}
        assert found == everything[name], name
    for name in steps - known:
        with pytest.raises(Unsupported):
            btf.members(name)


def test_the_kernels_offsets(kernel: bytes) -> None:
    found = layout.kernel_offsets()
    everything = walk(kernel)
    assert found["TP_SRTT_US"] == everything["tcp_sock"]["srtt_us"][0] // 8
    timer, expires = everything["sock"]["sk_timer"], everything["timer_list"]["expires"]
    assert found["SK_TIMER_EXPIRES"] == (timer[0] + expires[0]) // 8
    assert "TP_CB_FLAGS" in found


def test_a_truncated_kernel(kernel: bytes) -> None:
    for size in (0, 1, 23, 24, 1000, len(kernel) // 2, len(kernel) - 1):
        with pytest.raises(Unsupported):
            Btf(kernel[:size])
