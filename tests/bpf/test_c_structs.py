"""The C structs against ctypes, which lays structs out as a C compiler does."""

from __future__ import annotations

import ctypes
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcptop_ops.bpf import flag_setter, helper, proc_walk
from tcptop_ops.bpf.c_structs import ENUMS, c_enum, c_struct, header
from tcptop_ops.bpf.loader_process import HERE
from tcptop_ops.model import fields, records
from tcptop_ops.model.enums import FlagRequest, Met, OwnerKind, State, WritingOperator

SIZES: dict[str, Any] = {
    "__u8": ctypes.c_uint8,
    "__u16": ctypes.c_uint16,
    "__u32": ctypes.c_uint32,
    "__u64": ctypes.c_uint64,
    "char": ctypes.c_char,
}
DTYPES = {
    "socket": records.SOCKET,
    "events": records.EVENTS,
    "ending": records.ENDING,
    "final": records.FINAL,
    "owner": records.OWNER,
    "counters": records.COUNTERS,
    "happening": records.HAPPENING,
    "story": records.STORY,
    "seen": records.SEEN,
    "control": records.CONTROL,
    "cpu": records.CPU,
    "met": records.MET,
    "met_process": records.MET_PROCESS,
    "walk": records.WALK,
    "flag_request": records.FLAG_REQUEST,
    "flag_setter": records.FLAG_SETTER,
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
    read = np.frombuffer(bytes(made), records.FINAL)[0]
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


def test_an_enum_by_hand() -> None:
    wanted = (
        "enum { OWNER_UNKNOWN = 0, OWNER_HOLDER = 1, OWNER_CALLER = 2, OWNER_CLOSER = 3, "
        "OWNER_LISTENER = 4, OWNER_FORMER = 5 };\n"
    )
    assert c_enum("OWNER", OwnerKind) == wanted
    assert wanted in header()


C = {path.name: re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.DOTALL) for path in HERE.glob("*.[ch]")}


@pytest.mark.parametrize("name", C)
def test_c_has_no_enum_of_its_own(name: str) -> None:
    """But for those of the kernel that no header tells: what Python has too is written by ``header``."""
    own = {word for body in re.findall(r"enum {(.*?)}", C[name], re.DOTALL) for word in re.findall(r"[A-Z]\w+", body)}
    assert all(word.startswith(("CHRONO_", "ICSK_", "TCPECN_")) for word in own)


def test_c_uses_names_that_there_are() -> None:
    made = {f"{prefix}_{member.name}" for prefix, members in ENUMS.items() for member in members}
    used = {word for text in C.values() for word in re.findall(rf"\b(?:{'|'.join(ENUMS)})_[A-Z]\w+", text)}
    assert used <= made
    assert {"FLAGS_ADOPT", "FLAGS_GIVE_BACK"} <= used


def test_what_the_helper_has_of_its_own() -> None:
    """It is run as a script that imports nothing of this package."""
    assert tuple(FlagRequest) == (flag_setter.ADOPT, flag_setter.GIVE_BACK, flag_setter.STRIP)
    assert (flag_setter.OUR_LEVEL, flag_setter.OUR_OPTION) == (fields.OUR_LEVEL, fields.OUR_OPTION)
    for packed, dtype in (
        (flag_setter.ASK, records.FLAG_ASK),
        (flag_setter.TOLD, records.FLAG_REQUEST),
        (flag_setter.SETTER, records.FLAG_SETTER),
    ):
        numbers = tuple(range(1, 1 + len(dtype.names or ())))
        assert np.frombuffer(packed.pack(*numbers), dtype)[0].tolist() == numbers
    rows = np.arange(records.MET.itemsize, dtype="u1").view(records.MET)
    names = ("cookie", "inode", "pid", "fd", "kind", "state", "cb_flags")
    assert helper.MET.unpack(rows.tobytes()) == tuple(rows[name][0] for name in names)
    assert (helper.MET_SOCKET, helper.LISTEN) == (Met.SOCKET, State.LISTEN)
    assert proc_walk.OWNER.size == records.OWNER.itemsize


def test_the_operators_that_write() -> None:
    """Every operator that the program does more with than to look whether a flag is still needed."""
    body = C["sockops.c"].partition("int sockops(")[2]
    handled = set(re.findall(r"case BPF_SOCK_OPS_(\w+):", body))
    only_retire = {"PARSE_HDR_OPT_CB", "HDR_OPT_LEN_CB", "WRITE_HDR_OPT_CB"}
    assert handled == {operator.name for operator in WritingOperator} | only_retire
