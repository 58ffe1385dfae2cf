"""How long may a regular expression keep ``re`` busy? It backtracks: ``(a+)+$`` takes 2**n steps for n characters.

Python's ``re`` has no limit of time, holds the interpreter's lock while it runs, and ``(?:){1000000000}`` takes all
memory. A process chooses its own name, so that a value may well be the worst one. So a pattern is weighed before it is
used: in how many ways could it match at one place of a value of ``LONGEST_VALUE`` characters, were every character to
fit everywhere? A repetition of a character has as many ways as it has lengths, a branch the sum, a sequence the
product, a repeated group the power: repetitions within a repetition are out, and so are more than two unbounded ones
in a row. What remains is polynomial of a known degree: at most MOST_WAYS tries at each place of a value.

The pattern is known to be valid: ``re`` has compiled it.
"""

from __future__ import annotations

import re

LONGEST_PATTERN = 256
LONGEST_VALUE = 512
"""Characters; a longer value is cut to it before it is matched."""

MOST_WAYS = 4 * LONGEST_VALUE**2

_COUNTED = re.compile(r"\{(?!\})([0-9]*)(?:(,)([0-9]*))?\}")
_OPENING = re.compile(
    r"\((?:\?(?:P<\w+>|P=(?P<same>\w+)|#(?P<comment>[^)]*)|<?[=!]|[:>]|\(\w+\)|(?P<flags>[a-zA-Z-]+)(?P<rest>:?)))?"
)
_CLASS = re.compile(r"\[\^?(?:\\.|.)(?:\\.|[^\]\\])*\]", re.DOTALL)
_SUFFIX = re.compile(r"[?+]?")


class TooManyWays(ValueError):
    """A match might take for ever. ``at``: the character, from 0, where that is known."""

    def __init__(self, at: int) -> None:
        super().__init__(at)
        self.at = at


def ways(pattern: str) -> int:
    """In how many ways it could match at one place, at most. Raises TooManyWays."""
    return _Scan(pattern).alternatives()


class _Scan:
    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._at = 0

    def _next(self) -> str:
        return self._pattern[self._at : self._at + 1]

    def _bounded(self, number: int) -> int:
        if number > MOST_WAYS:
            raise TooManyWays(min(self._at, len(self._pattern)) - 1)
        return number

    def alternatives(self) -> int:
        """Up to the closing parenthesis, which is left, or the end."""
        total = self._sequence()
        while self._next() == "|":
            self._at += 1
            total = self._bounded(total + self._sequence())
        return total

    def _sequence(self) -> int:
        product = 1
        while self._next() not in ("", "|", ")"):
            product = self._bounded(product * self._repeated())
        return product

    def _repeated(self) -> int:
        is_group = self._next() == "("
        inner = self._group() if is_group else self._character()
        least, most = self._quantifier()
        lengths = most - least + 1
        if not is_group or (least, most) == (1, 1):
            return inner if is_group else self._bounded(lengths)
        # most >= 21 doublings are over the bound already: the power itself would be a number of megabytes
        power = inner ** min(most, MOST_WAYS.bit_length())
        return self._bounded(max(lengths, most) * power)

    def _character(self) -> int:
        """An escape, a class or a character. The digits of \\x41 are characters more: no fewer ways for that."""
        if self._next() == "[":
            found = _CLASS.match(self._pattern, self._at)
            self._at = found.end() if found else len(self._pattern)
        else:
            self._at += 2 if self._next() == "\\" else 1
        return 1

    def _group(self) -> int:
        opening = _OPENING.match(self._pattern, self._at)
        if opening is None:  # not reached: a parenthesis alone matches
            raise TooManyWays(self._at)
        self._at = opening.end()
        if "x" in (opening["flags"] or ""):  # blanks and comments would mean something else from here on
            raise TooManyWays(self._at - 1)
        has_body = opening["same"] is None and opening["comment"] is None
        has_body = has_body and not (opening["flags"] and not opening["rest"])
        inner = self.alternatives() if has_body else 1
        self._at += 1
        return inner

    def _quantifier(self) -> tuple[int, int]:
        """How often, at least and at most."""
        simple = {"*": (0, LONGEST_VALUE), "+": (1, LONGEST_VALUE), "?": (0, 1)}.get(self._next())
        counted = None if simple else _COUNTED.match(self._pattern, self._at)
        if simple is None and counted is None:
            return 1, 1
        self._at = counted.end() if counted else self._at + 1
        found = simple or self._counts(counted)
        lazy = _SUFFIX.match(self._pattern, self._at)
        self._at = lazy.end() if lazy else self._at
        return found

    def _counts(self, counted: re.Match[str] | None) -> tuple[int, int]:
        """{m}, {m,}, {,n} or {m,n}; larger ones than a value is long are refused: an empty group repeats as often."""
        low, comma, high = counted.groups() if counted else ("", "", "")
        least = int(low or 0)
        most = least if not comma else int(high) if high else max(LONGEST_VALUE, least)
        if max(least, most) > LONGEST_VALUE:
            raise TooManyWays(self._at - 1)
        return least, most
