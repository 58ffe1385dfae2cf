"""Bound the time that a regular expression can take, by counting its possible matches before it is used.

``re`` backtracks: ``(a+)+$`` takes 2**n steps for n characters. It has no time limit and holds the GIL while it runs,
and ``(?:){1000000000}`` exhausts memory. Processes choose their own names, so the text may be the worst case.

The bound is the number of ways in which a pattern could match at one position of a value of ``LONGEST_VALUE``
characters if every character matched everywhere: a repeated character counts the lengths it may have, an alternation
the sum of its branches, a sequence the product of its parts, a repeated group a power. That rules out a repetition
inside a repetition, and more than two unbounded repetitions in a sequence. What remains is polynomial: at most
MOST_WAYS attempts at each position of a value.

Patterns are assumed to be valid: ``re`` has compiled them already.
"""

from __future__ import annotations

import re

LONGEST_PATTERN = 256
"""Maximum length of a pattern, in characters."""

LONGEST_VALUE = 512
"""Characters of a value that are matched; a longer value is truncated to it."""

MOST_WAYS = 4 * LONGEST_VALUE**2
"""Maximum number of ways to match at one position: room for two unbounded repetitions."""


_COUNTED = re.compile(r"\{(?!\})([0-9]*)(?:(,)([0-9]*))?\}")
_OPENING = re.compile(
    r"\((?:\?(?:P<\w+>|P=(?P<same>\w+)|#(?P<comment>[^)]*)|<?[=!]|[:>]|\(\w+\)|(?P<flags>[a-zA-Z-]+)(?P<rest>:?)))?"
)
_CLASS = re.compile(r"\[\^?(?:\\.|.)(?:\\.|[^\]\\])*\]", re.DOTALL)
_SUFFIX = re.compile(r"[?+]?")


class TooManyWays(ValueError):
    """A pattern that could take too long to match."""

    def __init__(self, at: int) -> None:
        """Take the offset of the offending character in the pattern, from 0."""
        super().__init__(at)
        self.at = at


def ways(pattern: str) -> int:
    """Return an upper bound of the number of ways to match at one position. Raises TooManyWays."""
    return _Scan(pattern).alternatives()


class _Scan:
    """A recursive-descent parser of a pattern; each method consumes one construct and returns its number of ways."""

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
        """Count the ways of an alternation, up to its closing parenthesis (not consumed) or the end."""
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
        # 21 doublings exceed MOST_WAYS; the full power could be an integer of megabytes
        power = inner ** min(most, MOST_WAYS.bit_length())
        return self._bounded(max(lengths, most) * power)

    def _character(self) -> int:
        """Consume an escape, a character class or a character.

        The digits of ``\\x41`` are counted as further characters, which never lowers the count.
        """
        if self._next() == "[":
            found = _CLASS.match(self._pattern, self._at)
            self._at = found.end() if found else len(self._pattern)
        else:
            self._at += 2 if self._next() == "\\" else 1
        return 1

    def _group(self) -> int:
        opening = _OPENING.match(self._pattern, self._at)
        if opening is None:  # never reached: _OPENING matches any opening parenthesis
            raise TooManyWays(self._at)
        self._at = opening.end()
        if "x" in (opening["flags"] or ""):  # (?x) changes what blanks mean, which is not parsed here
            raise TooManyWays(self._at - 1)
        has_body = opening["same"] is None and opening["comment"] is None
        has_body = has_body and not (opening["flags"] and not opening["rest"])
        inner = self.alternatives() if has_body else 1
        self._at += 1
        return inner

    def _quantifier(self) -> tuple[int, int]:
        """Consume a quantifier, if there is one. Return the least and the greatest number of repetitions."""
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
        """Return the bounds of ``{m}``, ``{m,}``, ``{,n}`` or ``{m,n}``.

        Raises TooManyWays above LONGEST_VALUE: an empty group would be repeated that often.
        """
        low, comma, high = counted.groups() if counted else ("", "", "")
        least = int(low or 0)
        most = least if not comma else int(high) if high else max(LONGEST_VALUE, least)
        if max(least, most) > LONGEST_VALUE:
            raise TooManyWays(self._at - 1)
        return least, most
