"""Which line of a settings file a setting is on, for errors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tcptop_ops.config.settings import FILE, HINT, short
from tcptop_ops.errors import Usage

SettingPath = tuple[str, ...]


class SettingLines:
    """Finds the lines of settings, for error messages.

    It scans the text anew, since tomlkit does not keep line numbers.
    """

    def __init__(self, text: str) -> None:
        """Take the text of the file, which need not be valid TOML."""
        self._text = text

    def wrong(self, path: SettingPath, message: str, hint: str) -> Usage:
        """Return the error for the setting at this path, with its line."""
        return Usage(f"{FILE} line {self.of(path)}: {short(message, 160)}", hint or HINT)

    @contextmanager
    def telling(self, path: SettingPath, before: str) -> Iterator[None]:
        """Add the setting's line, and ``before`` in front of the message, to a Usage raised inside the block."""
        try:
            yield
        except Usage as error:
            raise self.wrong(path, before + error.message, error.hint) from error

    def of(self, path: SettingPath) -> int:
        """Return the first line of the setting at this path; if it is inside an inline table, the line of that."""
        statements = list(_statements(self._text))
        inside = [line for line, there in statements if there[: len(path)] == path]
        around = [(len(there), line) for line, there in statements if path[: len(there)] == there]
        return inside[0] if inside else max(around, default=(0, 1))[1]

    def doubled(self) -> int | None:
        """Return the line that defines something for the second time, or None."""
        seen: set[SettingPath] = set()
        for line, path in _statements(self._text, arrays=False):
            if path in seen:
                return line
            seen.add(path)
        return None


_TOKEN = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}' r"|'''.*?'{3,5}" r'|"(?:\\.|[^"\\\n])*"' r"|'[^'\n]*'" r"|\#[^\n]*|[\[\]{}\n]",
    re.DOTALL,
)


_PART = re.compile(r""""(?:\\.|[^"\\])*"|'[^']*'|[A-Za-z0-9_-]+""")


_NAME = re.compile(rf"(?:{_PART.pattern}|[ \t.])*")


def _statements(text: str, arrays: bool = True) -> Iterator[tuple[int, SettingPath]]:
    """Yield the line and the path of each header and each ``key = value``. ``arrays``: include arrays of tables."""
    above: SettingPath = ()
    for line, statement in _pieces(text):
        brackets = len(statement) - len(statement.lstrip("["))
        path = _path(statement[brackets:])
        if brackets:
            above = path
        if path and (brackets < 2 or arrays):
            yield line, path if brackets else above + path
        if brackets == 2 and not arrays:
            return  # further tables of an array may repeat keys


def _pieces(text: str) -> Iterator[tuple[int, str]]:
    """Yield each statement with its first line; one with brackets or a multi-line string spans several lines."""
    depth, start, at_line, line = 0, 0, 1, 1
    for token in _TOKEN.finditer(text):
        found = token.group()
        if found in "[{":
            depth += 1
        elif found in "]}":
            depth -= 1
        if found == "\n" and depth <= 0:
            yield at_line, text[start : token.start()].strip()
            start, at_line, depth = token.end(), line + 1, 0
        line += found.count("\n")
    yield at_line, text[start:].strip()


def _path(statement: str) -> SettingPath:
    name = _NAME.match(statement)
    return tuple(map(_unquoted, _PART.findall(name.group()))) if name else ()


def _unquoted(part: str) -> str:
    if part[0] == '"' and "\\" in part:
        import tomlkit
        from tomlkit.exceptions import TOMLKitError

        with suppress(TOMLKitError):  # the text may be invalid TOML, and so may this part
            return next(iter(tomlkit.parse(f"{part} = 0")))
    return part[1:-1] if part[0] in "\"'" else part
