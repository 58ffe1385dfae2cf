"""Parse the filter language into a syntax tree. ``compiler`` gives the tree its meaning.

    or          joins conditions of which at least one must hold; binds loosest
    and         joins conditions that must all hold; binds tighter than ``or``
    not         binds tightest; parentheses override the precedence
    comparison  FIELD OPERATOR VALUE; the blanks between them are optional
    word        a single word or quoted string without an operator

A word ends at a blank and at any of ``( ) = ! < > ~ " '``. A string is enclosed in double or single quotes; inside it a
backslash escapes a quote or another backslash and is literal before any other character. Keywords are case-insensitive.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from tcptop_ops.errors import Usage

if TYPE_CHECKING:
    from lark import Lark, Token

LONGEST = 4096
"""Maximum length of a filter, in characters."""

DEEPEST = 64
"""Maximum nesting depth of parentheses: the tree is walked by recursion."""

COMPARISONS = ("=", "!=", "<", "<=", ">", ">=", "~")
EXAMPLE = "for instance: srtt > 20ms and not port = 443"

_GRAMMAR = r"""
?start: both (_OR both)*
?both: unit (_AND unit)*
?unit: _NOT unit -> negation
     | "(" start ")"
     | WORD OP (WORD | STRING) -> comparison
     | (WORD | STRING) -> word

_AND.2: /and(?![^\s()=!<>~"'])/i
_OR.2: /or(?![^\s()=!<>~"'])/i
_NOT.2: /not(?![^\s()=!<>~"'])/i
OP: /[=!<>~]+/
WORD: /[^\s()=!<>~"']+/
STRING: /"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'/s
%ignore /\s+/
"""


class FilterError(Usage):
    """A filter that can't be parsed or compiled, with the place of the error and what was expected there."""

    def __init__(self, column: int, expected: str, found: str | None, hint: str = "") -> None:
        """Build the message. ``column`` counts characters from 1; ``found`` is None for the end of the text."""
        self.column = column
        self.expected = expected
        self.found = found
        shown = "the end" if found is None else repr(found if len(found) <= 40 else found[:39] + "~")
        super().__init__(f"filter: column {column}: expected {expected}, found {shown}", hint or EXAMPLE)


@dataclass(frozen=True)
class Text:
    """A word or a string without its quotes; ``column`` is where it begins in the filter, from 1."""

    value: str
    column: int
    quoted: bool = False


@dataclass(frozen=True)
class Comparison:
    """``FIELD OPERATOR VALUE``, for example ``srtt > 20ms``."""

    field: Text
    operator: Text
    value: Text


@dataclass(frozen=True)
class BareWord:
    """A word without an operator: a process name, an address or a state."""

    text: Text


@dataclass(frozen=True)
class Not:
    """A negated condition. ``inner`` is never itself a Not: double negations are dropped by the parser."""

    inner: Node


@dataclass(frozen=True)
class Join:
    """Two or more conditions joined by ``and`` (``every`` is True) or by ``or`` (``every`` is False)."""

    every: bool
    parts: tuple[Node, ...]


Node = Comparison | BareWord | Not | Join


def parse(text: str) -> Node:
    """Parse a filter into its syntax tree. Raises FilterError."""
    from lark import UnexpectedCharacters, UnexpectedToken

    if len(text) > LONGEST:
        raise FilterError(LONGEST + 1, f"at most {LONGEST} characters", text[LONGEST:], "make it shorter")
    try:
        tokens = list(_lark().lex(text))
        _bound_depth(tokens)
        tree: Node = _lark().parse(text)  # type: ignore[assignment]  # the transformer returns a Node
    except UnexpectedCharacters as error:
        start: int = error.pos_in_stream  # type: ignore[assignment]  # lark declares it Optional; it is set when raised
        raise _unclosed_string(text, start) from None
    except UnexpectedToken as error:
        raise _unexpected(text, tokens, error.token) from None
    return tree


@cache
def _lark() -> Lark:
    """Build the parser, once per process, at the first filter: importing lark takes 60 ms, its tables 15 ms."""
    from lark import Lark, Token, Transformer

    class Build(Transformer[Token, Node]):
        def start(self, parts: list[Node]) -> Node:
            return Join(False, tuple(parts))

        def both(self, parts: list[Node]) -> Node:
            return Join(True, tuple(parts))

        def negation(self, parts: list[Node]) -> Node:
            inner = parts[0]
            return inner.inner if isinstance(inner, Not) else Not(inner)

        def comparison(self, parts: list[Token]) -> Node:
            return Comparison(_text(parts[0]), _operator(parts[1]), _text(parts[2]))

        def word(self, parts: list[Token]) -> Node:
            return BareWord(_text(parts[0]))

    return Lark(_GRAMMAR, parser="lalr", lexer="basic", transformer=Build())


def _column(token: Token) -> int:
    return (token.start_pos or 0) + 1


def _text(token: Token) -> Text:
    if token.type != "STRING":
        return Text(str(token), _column(token))
    return Text(re.sub(r"""\\(["'\\])""", r"\1", token[1:-1]), _column(token), quoted=True)


def _operator(token: Token) -> Text:
    text = Text(str(token), _column(token))
    if text.value not in COMPARISONS:
        meant = {"==": "=", "<>": "!=", "=<": "<=", "=>": ">=", "=~": "~", "~=": "~"}.get(text.value)
        wanted = {"!~": "write: not FIELD ~ PATTERN"}.get(text.value, f"did you mean {meant}?" if meant else "")
        raise FilterError(text.column, f"one of {' '.join(COMPARISONS)}", text.value, wanted)
    return text


def _bound_depth(tokens: Sequence[Token]) -> None:
    depth = 0
    for token in tokens:
        depth += (token.type == "LPAR") - (token.type == "RPAR")
        if depth > DEEPEST:
            expected = f"at most {DEEPEST} parentheses in each other"
            raise FilterError(_column(token), expected, "(", "leave out those that change nothing")


def _unclosed_string(text: str, start: int) -> FilterError:
    """Build the error for an unclosed quote, the only text that the lexer rejects: anything else matches a token."""
    hint = f"the string begins at column {start + 1}; a quote that is meant is written \\{text[start]}"
    return FilterError(len(text) + 1, f"the closing {text[start]}", None, hint)


def _unexpected(text: str, tokens: Sequence[Token], at: Token) -> FilterError:
    """Build the error for an unexpected token.

    What was expected is derived from the tokens before it: the set of accepted terminals that lark reports is
    incomplete.
    """
    ended = at.type == "$END"
    before = list(tokens) if ended else [t for t in tokens if _column(t) < _column(at)]
    column = len(text) + 1 if ended else _column(at)
    return FilterError(column, _expected(before), None if ended else str(at), _hint(before, None if ended else at))


def _expected(before: Sequence[Token]) -> str:
    last = before[-1].type if before else ""
    if last == "OP":
        return "a value"
    if last not in ("WORD", "STRING", "RPAR"):
        return "a field, a word, 'not' or '('"
    names_a_field = last == "WORD" and [t.type for t in before[-2:-1]] != ["OP"]
    rest = "')'" if _open(before) else "the end"
    return ("an operator, " if names_a_field else "") + f"'and', 'or' or {rest}"


def _open(before: Sequence[Token]) -> list[int]:
    """Return the columns of the parentheses that are still open, the outermost first."""
    columns: list[int] = []
    for token in before:
        if token.type == "LPAR":
            columns.append(_column(token))
        elif token.type == "RPAR" and columns:
            columns.pop()
    return columns


def _hint(before: Sequence[Token], at: Token | None) -> str:
    last = before[-1].type if before else ""
    if at is None:
        is_open = _open(before)
        complete = last in ("WORD", "STRING", "RPAR")
        return f"the parenthesis at column {is_open[-1]} is open" if is_open and complete else ""
    spelled = {"&&": "and", "&": "and", "||": "or", "|": "or", "!": "not"}.get(str(at))
    if spelled:
        return f"write: {spelled}"
    if last == "OP" and at.type == "LPAR":
        return "a pattern with parentheses is written in quotes: '(a|b)'"
    if last == "OP":
        return f"as a value it is written in quotes: '{at}'"
    if at.type == "RPAR":
        return "no parenthesis is open" if not _open(before) else ""
    if at.type == "LPAR" and [str(t) for t in before[-2:-1]] == ["~"]:
        return f"a pattern with parentheses is written in quotes: '{before[-1]}(...)'"
    return "'and' joins two conditions; a text with blanks is written in quotes" if last in ("WORD", "STRING") else ""
