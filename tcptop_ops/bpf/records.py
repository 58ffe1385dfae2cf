"""The C structs of the kernel's side, written from the numpy dtypes of ``snapshot``: one truth for both."""

from __future__ import annotations

import numpy as np

from tcptop_ops import snapshot

_TYPES = {"u1": "__u8", "u2": "__u16", "u4": "__u32", "u8": "__u64"}


def _member(name: str, dtype: np.dtype[np.void]) -> str:
    base, shape = dtype.subdtype or (dtype, ())
    if base.names:
        return f"struct {name} {name};"
    if base.kind == "S":
        return f"char {name}[{base.itemsize}];"
    return f"{_TYPES[base.str[1:]]} {name}{''.join(f'[{n}]' for n in shape)};"


def c_struct(name: str, dtype: np.dtype[np.void]) -> str:
    """A C struct of the same layout, with an assertion that it is. ``dtype`` must be made with ``align=True``."""
    members = "\n".join("\t" + _member(field, dtype.fields[field][0]) for field in dtype.names or () if dtype.fields)
    return (
        f"struct {name} {{\n{members}\n}};\n"
        f'_Static_assert(sizeof(struct {name}) == {dtype.itemsize}, "layout of {name}");\n'
    )


def header() -> str:
    """The header that both C files need."""
    structs = {
        "socket": snapshot.SOCKET,
        "events": snapshot.EVENTS,
        "ending": snapshot.ENDING,
        "final": snapshot.FINAL,
        "owner": snapshot.OWNER,
        "counters": snapshot.COUNTERS,
    }
    return "\n".join(c_struct(name, dtype) for name, dtype in structs.items())
