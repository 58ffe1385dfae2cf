"""The C structs against ctypes, which lays structs out as a C compiler does."""

from __future__ import annotations

import ctypes
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcptop_ops import snapshot
from tcptop_ops.bpf.records import c_struct, header

SIZES: dict[str, Any] = {
    "__u8": ctypes.c_uint8,
    "__u16": ctypes.c_uint16,
    "__u32": ctypes.c_uint32,
    "__u64": ctypes.c_uint64,
    "char": ctypes.c_char,
}
DTYPES = {
    "socket": snapshot.SOCKET,
    "events": snapshot.EVENTS,
    "ending": snapshot.ENDING,
    "final": snapshot.FINAL,
    "owner": snapshot.OWNER,
    "counters": snapshot.COUNTERS,
    "happening": snapshot.HAPPENING,
    "story": snapshot.STORY,
    "seen": snapshot.SEEN,
}
MEMBER = re.compile(r"\t(struct )?(\w+) (\w+)((?:\[\d+\])*);")


def parse(text: str) -> dict[str, type[ctypes.Structure]]:
    """The structs of a C header, as ctypes reads them."""
    found: dict[str, type[ctypes.Structure]] = {}
    for name, body in re.findall(r"struct (\w+) \{\n(.*?)\n\};", text, re.DOTALL):
        members: list[tuple[str, Any]] = []
        for line in body.split("\n"):
            match = MEMBER.fullmatch(line)
            assert match, line
            is_struct, kind, member, shape = match.groups()
            of: Any = found[kind] if is_struct else SIZES[kind]
            for count in reversed(re.findall(r"\d+", shape)):
                of = of * int(count)
            members.append((member, of))
        found[name] = type(name, (ctypes.Structure,), {"_fields_": members})
    return found


def check(struct: type[ctypes.Structure], dtype: np.dtype[np.void]) -> None:
    assert [member[0] for member in struct._fields_] == list(dtype.names or ())
    assert ctypes.sizeof(struct) == dtype.itemsize
    for name in dtype.names or ():
        assert dtype.fields is not None
        of, offset = dtype.fields[name][:2]
        assert (getattr(struct, name).offset, getattr(struct, name).size) == (offset, of.itemsize), name


@pytest.mark.parametrize("name", DTYPES)
def test_c_lays_it_out_as_numpy_does(name: str) -> None:
    check(parse(header())[name], DTYPES[name])


def test_the_header_says_so_itself() -> None:
    asserted = dict(re.findall(r'_Static_assert\(sizeof\(struct (\w+)\) == (\d+), "layout of \1"\);', header()))
    assert {name: int(size) for name, size in asserted.items()} == {k: v.itemsize for k, v in DTYPES.items()}


def test_bytes_written_by_c_are_read_by_numpy() -> None:
    made = parse(header())["final"]()
    made.socket.cookie, made.socket.cc, made.socket.drops = 2**63, b"bbr", 77
    made.socket.raddr[15], made.events.retrans[3], made.ending.from_state = 9, 5, 8
    read = np.frombuffer(bytes(made), snapshot.FINAL)[0]
    assert (read["socket"]["cookie"], read["socket"]["cc"], read["socket"]["drops"]) == (2**63, b"bbr", 77)
    assert (read["socket"]["raddr"][15], read["events"]["retrans"][3], read["ending"]["from_state"]) == (9, 5, 8)


KINDS = st.sampled_from(["u1", "u2", "u4", "u8", "S16", "S5"])
SHAPES = st.sampled_from([(), (3,), (2, 3)])


@given(st.lists(st.tuples(KINDS, SHAPES), min_size=1, max_size=12))
def test_any_layout(kinds: list[tuple[str, tuple[int, ...]]]) -> None:
    listed = tuple((f"f{i}", kind, () if kind[0] == "S" else shape) for i, (kind, shape) in enumerate(kinds))
    dtype: np.dtype[np.void] = np.dtype(list(listed), align=True)
    check(parse(c_struct("any", listed))["any"], dtype)


def test_by_hand() -> None:
    assert c_struct("x", (("a", "u1"), ("b", "u8"), ("c", "u2", (2, 3)), ("d", "S4"))) == (
        "struct x {\n\t__u8 a;\n\t__u64 b;\n\t__u16 c[2][3];\n\tchar d[4];\n};\n"
        '_Static_assert(sizeof(struct x) == 32, "layout of x");\n'
    )
