"""Format the recorded events of a connection (HAPPENING rows) as lines: a time relative to now, and a text. Pure."""

from __future__ import annotations

import errno
import math
from collections.abc import Callable
from typing import Any, NamedTuple

from tcptop_ops import text
from tcptop_ops.model.enums import SHORT_STATES, STATE_NAMES, Happening, RetransClass
from tcptop_ops.model.records import UNKNOWN_U32, Records

TIME_WIDTH = 9
"""Width of a time such as ``-192.114``, in characters."""

CLASSES = {
    RetransClass.RTO: "timeout",
    RetransClass.RECOVERY: "recovery",
    RetransClass.PROBE: "tail-loss probe",
    RetransClass.OTHER: "other",
}

GROWN, SHRUNK = "grew", "fell"


class Told(NamedTuple):
    """One event as text.

    ``ago_s``: seconds before now; ``level`` as ``Column.level``: 0 none, 1 a warning, 2 bad, -1 dim.
    """

    ago_s: float
    what: str
    level: int

    @property
    def when(self) -> str:
        """The time as text, such as ``-19.966`` (seconds); from 1000 seconds on as a duration."""
        if self.ago_s < 1000:
            return f"{-max(self.ago_s, 0.0):.3f}"
        return "-" + text.duration(self.ago_s)


def lines(story: Records, now_ns: int) -> list[Told]:
    """Format HAPPENING rows (the oldest first) as of ``now_ns`` (CLOCK_MONOTONIC)."""
    found = []
    first_us = 0  # length of the first timeout in a row
    for happening in story:
        kind = int(happening["kind"])
        if kind == Happening.RTO:
            first_us = int(happening["b"]) if happening["a"] == 1 else first_us
            found.append(Told((now_ns - int(happening["first_ns"])) / 1e9, _rto(happening, first_us), 2))
            continue
        tell = _TELL.get(kind)
        if tell is not None:
            what, level = tell(happening)
            found.append(Told((now_ns - int(happening["first_ns"])) / 1e9, what, level))
    return found


def waited_before_standing_us(story: Records) -> int:
    """Return the microseconds spent on timeouts before the connection was established; 0 if it is not in the story."""
    waited = 0
    for happening in story:
        if happening["kind"] == Happening.RTO:
            waited += int(happening["b"])
        elif happening["kind"] == Happening.ESTABLISHED:
            return waited
    return 0


def state_name(number: int) -> str:
    """Return the short name of a state, as the table shows it; ``?`` for an unknown number."""
    name = STATE_NAMES.get(number, "?")
    return SHORT_STATES.get(name, name)


def _us(value: Any) -> str:
    return text.duration(int(value) / 1e6)


def _connect(_: Any) -> tuple[str, int]:
    return "connect()", 0


def _established(_: Any) -> tuple[str, int]:
    return "established", 0


def _state(told: Any) -> tuple[str, int]:
    return f"{state_name(int(told['a']))} -> {state_name(int(told['b']))}", 0


def _rto(told: Any, first_us: int) -> str:
    """Format a timeout; the back-off is how often its length was doubled.

    It is computed from the first timeout's length: the first timeouts of a SYN are all of one length
    (net.ipv4.tcp_syn_linear_timeouts).
    """
    doubled = round(math.log2(int(told["b"]) / first_us)) if first_us and told["b"] else 0
    backed = f", back-off {doubled}" if doubled > 0 else ""
    return f"RTO #{int(told['a'])} {_us(told['b'])}{backed}"


def _retrans(told: Any) -> tuple[str, int]:
    lasted = int(told["last_ns"] - told["first_ns"]) / 1e9 if told["last_ns"] > told["first_ns"] else 0.0
    during = f" within {text.duration(lasted)}" if lasted else ""
    kind = CLASSES.get(RetransClass(int(told["detail"]))) if told["detail"] in _KNOWN_CLASSES else "?"
    return f"RETRANS x{int(told['a'])} ({kind}){during}", 1


def _recovered(told: Any) -> tuple[str, int]:
    return f"recovered, srtt {_us(told['a'])}", 0


def _srtt(told: Any) -> tuple[str, int]:
    way = GROWN if told["b"] > told["a"] else SHRUNK
    return f"srtt {way} from {_us(told['a'])} to {_us(told['b'])}", 1 if way == GROWN else 0


def _close(told: Any) -> tuple[str, int]:
    error = int(told["a"])
    if error in (0, UNKNOWN_U32):
        return f"closed, from {state_name(int(told['b']))}", 0
    return f"closed, from {state_name(int(told['b']))}: {errno.errorcode.get(error, error)}", 2


def _adopted(told: Any) -> tuple[str, int]:
    """Format an adoption. Its mask has one bit per state that was seen; a single bit is the state it was found in."""
    mask = int(told["a"])
    alone = mask > 0 and mask & (mask - 1) == 0
    return f"adopted, {state_name(mask.bit_length() - 1)}" if alone else "adopted", -1


_KNOWN_CLASSES = frozenset(int(one) for one in RetransClass)
_TELL: dict[int, Callable[[Any], tuple[str, int]]] = {
    Happening.CONNECT: _connect,
    Happening.ESTABLISHED: _established,
    Happening.STATE: _state,
    Happening.RETRANS: _retrans,
    Happening.RECOVERED: _recovered,
    Happening.SRTT: _srtt,
    Happening.CLOSE: _close,
    Happening.ADOPTED: _adopted,
}
