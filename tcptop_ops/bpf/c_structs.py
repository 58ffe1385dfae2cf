"""The C structs and enums of the kernel's side, written from ``model.fields`` and ``model.enums``: defined once."""

from __future__ import annotations

from enum import IntEnum
from math import prod

from tcptop_ops.model import fields
from tcptop_ops.model.enums import (
    Direction,
    EcnMode,
    FlagRequest,
    Happening,
    HasRecord,
    Met,
    Origin,
    OwnerKind,
    ResetSeen,
    RetransClass,
    SeenRow,
    Timer,
    WritingOperator,
)
from tcptop_ops.model.fields import Field, Fields

_TYPES = {"u1": "__u8", "u2": "__u16", "u4": "__u32", "u8": "__u64"}


def _layout(kind: str) -> tuple[int, int]:
    """Size and alignment, bytes, of one value of this kind."""
    if kind in RECORDS:
        return sizes(RECORDS[kind])
    return (int(kind[1:]), 1) if kind[0] == "S" else (int(kind[1:]),) * 2


def sizes(listed: Fields) -> tuple[int, int]:
    """Size and alignment, bytes, of a record: as the C compiler and numpy's ``align=True`` lay it out."""
    size, alignment = 0, 1
    for field in listed:
        one, align = _layout(field[1])
        size = -(-size // align) * align + one * prod(_shape(field))
        alignment = max(alignment, align)
    return -(-size // alignment) * alignment, alignment


def _shape(field: Field) -> tuple[int, ...]:
    return field[2] if len(field) == 3 else ()


def _member(field: Field) -> str:
    name, kind = field[:2]
    if kind[0] == "S":
        return f"char {name}[{kind[1:]}];"
    type_ = f"struct {kind}" if kind in RECORDS else _TYPES[kind]
    return f"{type_} {name}{''.join(f'[{n}]' for n in _shape(field))};"


def c_struct(name: str, listed: Fields) -> str:
    """Return a C struct, with an assertion that its layout is the one that numpy reads."""
    members = "\n".join("\t" + _member(field) for field in listed)
    return (
        f"struct {name} {{\n{members}\n}};\n"
        f'_Static_assert(sizeof(struct {name}) == {sizes(listed)[0]}, "layout of {name}");\n'
    )


RECORDS: dict[str, Fields] = {
    "socket": fields.SOCKET,
    "events": fields.EVENTS,
    "ending": fields.ENDING,
    "final": fields.FINAL,
    "owner": fields.OWNER,
    "counters": fields.COUNTERS,
    "happening": fields.HAPPENING,
    "story": fields.STORY,
    "seen": fields.SEEN,
    "cpu": fields.CPU,
    "control": fields.CONTROL,
    "met": fields.MET,
    "met_process": fields.MET_PROCESS,
    "walk": fields.WALK,
    "flag_request": fields.FLAG_REQUEST,
    "flag_setter": fields.FLAG_SETTER,
}

ENUMS: dict[str, type[IntEnum]] = {
    "DIRECTION": Direction,
    "ORIGIN": Origin,
    "OWNER": OwnerKind,
    "CLASS": RetransClass,
    "TIMER": Timer,
    "HAPPENING": Happening,
    "FLAGS": FlagRequest,
    "MET": Met,
    "RECORD": HasRecord,
    "SEEN": SeenRow,
    "RESET": ResetSeen,
    "ECN": EcnMode,
}
"""By the prefix that their names have in C."""


def c_enum(prefix: str, members: type[IntEnum]) -> str:
    """Return a C enum without a name, whose constants are the members' names behind a prefix."""
    listed = ", ".join(f"{prefix}_{member.name} = {member.value}" for member in members)
    return f"enum {{ {listed} }};\n"


def c_operators() -> str:
    """Return assertions that the operators have the numbers of the kernel's header."""
    return "".join(
        f'_Static_assert(BPF_SOCK_OPS_{operator.name} == {operator.value}, "number of {operator.name}");\n'
        for operator in WritingOperator
    )


def header() -> str:
    """Return the header that all C files need."""
    numbers = {
        "LAST_OPERATOR": fields.OPERATORS - 1,
        "HAPPENINGS": fields.HAPPENINGS,
        "TURNS": fields.TURNS,
        "RTT_BUCKETS": fields.RTT_BUCKETS,
        "OUR_LEVEL": fields.OUR_LEVEL,
        "OUR_OPTION": fields.OUR_OPTION,
    }
    constants = f"enum {{ {', '.join(f'{name} = {value}' for name, value in numbers.items())} }};\n"
    enums = "".join(c_enum(prefix, members) for prefix, members in ENUMS.items())
    structs = "\n".join(c_struct(name, listed) for name, listed in RECORDS.items())
    return "\n".join([constants + enums, c_operators(), structs])
