"""Define the table of settings and convert the settings file: TOML text to Settings and back. No I/O."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from tcptop_ops.errors import Failed, Usage
from tcptop_ops.settings import FILE, GROUPS, HINT, LEAST_WIDTH, MOST_WIDTH, THEMES, Settings, between, said, short

Path_ = tuple[str, ...]

# Checks of values: each returns the value as Settings holds it, or raises Usage


def _seconds(name: str) -> Callable[[Any], float]:
    def check(value: Any) -> float:
        if not _is_number(value):
            raise Usage(f"{said(value)} is not a number of seconds", f"for instance: {getattr(Settings(), name):g}")
        return between(name, value)

    return check


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _switch(value: Any) -> bool:
    if not isinstance(value, bool):
        raise Usage(f"{said(value)} is not true or false", "true or false, without quotes")
    return value


def _one_of(names: tuple[str, ...]) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if not isinstance(value, str) or value not in names:
            raise Usage(
                f"{said(value)} is none of: {', '.join(names)}", _near(value, names) or f"for instance: {names[1]}"
            )
        return value

    return check


def _sort(value: Any) -> str:
    from tcptop_ops.views.column_sets import parse_sort

    if not isinstance(value, str):
        raise Usage(f"{said(value)} is not a column's name", 'for instance: "retr:desc"')
    column, falling = parse_sort(value)
    return f"{column.id}:{'desc' if falling else 'asc'}"


def _columns(value: Any) -> tuple[str, ...] | None:
    from tcptop_ops.views.column_sets import DEFAULT, parse_list

    names = value if isinstance(value, list) else [value]
    if not all(isinstance(name, str) for name in names):
        raise Usage(f"{said(value)} is not a list of columns", 'for instance: ["process", "peer", "srtt"]')
    chosen = tuple(column.id for column in parse_list(",".join(names)))
    return None if chosen == DEFAULT else chosen


# Checks of table entries: each returns the id and the value as Settings holds them, or raises Usage


def _width(name: str, value: Any) -> tuple[str, int]:
    from tcptop_ops.views.column_lookup import find

    column = find(name)
    if not isinstance(value, int) or isinstance(value, bool) or not LEAST_WIDTH <= value <= MOST_WIDTH:
        raise Usage(
            f"{said(value)} is not from {LEAST_WIDTH} to {MOST_WIDTH} characters", f"for instance: {column.width}"
        )
    return column.id, value


def _threshold(name: str, value: Any) -> tuple[str, tuple[float, float]]:
    from tcptop_ops.views.column_lookup import find

    column = find(name)
    if not column.is_number:
        raise Usage("its values are not numbers", "thresholds are for columns of numbers, such as srtt")
    if not (isinstance(value, list) and len(value) == 2 and all(map(_is_number, value))):
        raise Usage(f"{said(value)} is not two numbers", f"from where it is a warning, and bad: {name} = [3, 20]")
    if not (all(map(_is_finite, value)) and value[0] < value[1]):
        raise Usage(f"{said(value)} does not ascend", f"from where it is a warning, and bad: {name} = [3, 20]")
    return column.id, (value[0], value[1])


def _is_finite(value: float) -> bool:
    """Return whether a number can be compared with float64 values without overflow."""
    return abs(value) <= 1e300 if isinstance(value, int) else math.isfinite(value)


def _key(name: str, value: Any) -> tuple[str, str]:
    from tcptop_ops.keymap import KEYS
    from tcptop_ops.keynames import listed

    known = [key.id for key in KEYS]
    if name not in known:
        raise Usage(
            f"no key is called {said(name)}", _near(name, known) or f"--print-config lists them: {known[0]}, ..."
        )
    if not isinstance(value, str):
        raise Usage(f"{said(value)} is not a key, or several", 'for instance: "q,f10"')
    return name, ",".join(listed(value))


@dataclass(frozen=True)
class Setting:
    """One setting: its name, its description in the file, and ``check``, which returns its value or raises Usage."""

    name: str
    means: str
    check: Callable[[Any], Any]


@dataclass(frozen=True)
class Table:
    """A TOML table of settings of one kind.

    ``check`` takes an entry's name and value and returns both, or raises Usage.
    """

    name: str
    means: tuple[str, ...]
    check: Callable[[str, Any], tuple[str, Any]]


SETTINGS = (
    Setting("delay", "Seconds between refreshes: 0.1 to 3600.", _seconds("delay")),
    Setting("window", 'Seconds that are "recent": 1 to 86400.', _seconds("window")),
    Setting("closed", "Seconds that a closed connection stays listed: 0 to 3600.", _seconds("closed")),
    Setting("sort", 'What rows are sorted by: a column; then ":asc" or ":desc".', _sort),
    Setting("columns", 'Columns: a list, or a text as of --columns: "all", "+cwnd,-rto".', _columns),
    Setting("group", f"What rows are put together by: {', '.join(GROUPS)}.", _one_of(GROUPS)),
    Setting("names", "Names of hosts and services in place of numbers: true or false.", _switch),
    Setting("mouse", "Whether the mouse is the program's (true), or left to the terminal (false).", _switch),
    Setting("theme", f"The colours: {', '.join(THEMES)}; auto is what the terminal asks for.", _one_of(THEMES)),
    Setting("show_closed", "Whether closed connections are shown: true or false.", _switch),
    Setting("loopback", "Whether connections within this host are shown: true or false.", _switch),
)

TABLES = (
    Table(
        "widths",
        (f"How wide a column is: {LEAST_WIDTH} to {MOST_WIDTH} characters; without it, as wide as it needs.",),
        _width,
    ),
    Table(
        "thresholds",
        (
            "From where a column's value is a warning, and bad: two numbers. Any column of numbers may have them, in",
            "the unit that its id tells: srtt_us = [20000, 100000].",
        ),
        _threshold,
    ),
    Table("keys", ('The keys, separated by commas: names ("slash"), or what they type ("/").',), _key),
)


# Text to settings


def parse(text: str) -> Settings:
    """Parse the text of a settings file. Raises Usage with the number of the line."""
    found = _parsed(text)
    lines = Lines(text)
    known = [item.name for item in (*SETTINGS, *TABLES)]
    for name in found:
        if name not in known:
            raise lines.wrong(
                (name,), f"no setting {said(name)}", _near(name, known) or "--print-config lists them all"
            )
    values: dict[str, Any] = {}
    for setting in SETTINGS:
        if setting.name in found:
            with lines.telling((setting.name,), f"{setting.name}: "):
                values[setting.name] = setting.check(found[setting.name])
    for table in TABLES:
        values[table.name] = _read_table(table, found, lines)
    values["thresholds"] = {
        name: pair for name, pair in values["thresholds"].items() if pair != _usual_thresholds().get(name)
    }
    values["keys"] = {name: keys for name, keys in values["keys"].items() if keys != _usual_keys()[name]}
    return Settings(**values)


def _read_table(table: Table, found: Mapping[str, Any], lines: Lines) -> dict[str, Any]:
    given = found.get(table.name, {})
    if not isinstance(given, dict):
        raise lines.wrong((table.name,), f"{table.name} is not a table", f"its entries stand below [{table.name}]")
    read: dict[str, Any] = {}
    for path, name, value in _entries(table, given):
        with lines.telling(path, f"{name}: "):
            id_, checked = table.check(name, value)
            if id_ in read:
                raise Usage(f"{id_} was told before", "one of them is enough")
            read[id_] = checked
    if table.name == "keys":
        _refuse_shared(read, {name: path for path, name, _ in _entries(table, given)}, lines)
    return read


def _entries(table: Table, given: Mapping[str, Any], above: Path_ = ()) -> Iterator[tuple[Path_, str, Any]]:
    """Yield the path, the name and the value of each entry. In TOML ``sort.menu`` without quotes is a nested table."""
    for name, value in given.items():
        if isinstance(value, dict) and table.name == "keys":
            yield from _entries(table, value, (*above, name))
        else:
            yield (table.name, *above, name), ".".join((*above, name)), value


def _refuse_shared(read: Mapping[str, str], paths: Mapping[str, Path_], lines: Lines) -> None:
    """Raise Usage if one key is bound twice: bindings of the table and of the app are active together."""
    owners = {key: name for name, keys in _usual_keys().items() if name not in read for key in keys.split(",")}
    for name, keys in read.items():
        for key in keys.split(","):
            if key in owners:
                raise lines.wrong(
                    paths[name],
                    f"{name}: the key {key} is that of {owners[key]} too",
                    f"give {owners[key]} another one",
                )
            owners[key] = name


def _usual_keys() -> dict[str, str]:
    from tcptop_ops.keymap import KEYS

    return {key.id: key.keys for key in KEYS}


def _usual_thresholds() -> dict[str, tuple[float, float]]:
    from tcptop_ops.views.columns import COLUMNS

    return {column.id: column.severity for column in COLUMNS if column.severity is not None}


def _parsed(text: str) -> dict[str, Any]:
    """Parse TOML to plain values. Raises Usage with the number of the line."""
    import tomlkit
    from tomlkit.exceptions import ParseError, TOMLKitError

    try:
        return tomlkit.parse(text).unwrap()
    except (TOMLKitError, RecursionError) as error:
        lines = Lines(text)
        line = lines.doubled() or (_counted(text, error.line) if isinstance(error, ParseError) else 1)
        why = re.sub(r" at line \d+ col \d+$", "", str(error)).rstrip(".").replace(r"'\x00'", "the end")
        raise Usage(f"{FILE} line {line}: not TOML: {short(_lower(why), 100)}", HINT) from error


def _counted(text: str, line: int) -> int:
    """Convert tomlkit's line number to that of an editor: tomlkit counts further line separators."""
    return "".join(text.splitlines(keepends=True)[: line - 1]).count("\n") + 1


class Lines:
    """Finds the lines of settings, for error messages.

    It scans the text anew, since tomlkit does not keep line numbers.
    """

    def __init__(self, text: str) -> None:
        """Take the text of the file, which need not be valid TOML."""
        self._text = text

    def wrong(self, path: Path_, message: str, hint: str) -> Usage:
        """Return the error for the setting at this path, with its line."""
        return Usage(f"{FILE} line {self.of(path)}: {short(message, 160)}", hint or HINT)

    @contextmanager
    def telling(self, path: Path_, before: str) -> Iterator[None]:
        """Add the setting's line, and ``before`` in front of the message, to a Usage raised inside the block."""
        try:
            yield
        except Usage as error:
            raise self.wrong(path, before + error.message, error.hint) from error

    def of(self, path: Path_) -> int:
        """Return the first line of the setting at this path; if it is inside an inline table, the line of that."""
        statements = list(_statements(self._text))
        inside = [line for line, there in statements if there[: len(path)] == path]
        around = [(len(there), line) for line, there in statements if path[: len(there)] == there]
        return inside[0] if inside else max(around, default=(0, 1))[1]

    def doubled(self) -> int | None:
        """Return the line that defines something for the second time, or None."""
        seen: set[Path_] = set()
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


def _statements(text: str, arrays: bool = True) -> Iterator[tuple[int, Path_]]:
    """Yield the line and the path of each header and each ``key = value``. ``arrays``: include arrays of tables."""
    above: Path_ = ()
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


def _path(statement: str) -> Path_:
    name = _NAME.match(statement)
    return tuple(map(_unquoted, _PART.findall(name.group()))) if name else ()


def _unquoted(part: str) -> str:
    if part[0] == '"' and "\\" in part:
        import tomlkit
        from tomlkit.exceptions import TOMLKitError

        with suppress(TOMLKitError):  # the text may be invalid TOML, and so may this part
            return next(iter(tomlkit.parse(f"{part} = 0")))
    return part[1:-1] if part[0] in "\"'" else part


# Settings to text


def edited(text: str, wanted: Settings) -> str:
    """Return the text changed to the wanted settings; comments and order are kept.

    Raises Usage if the text is invalid, and Failed if it can't be edited.
    """
    import tomlkit

    now = parse(text)
    document = tomlkit.parse(text)
    for setting in SETTINGS:
        value = getattr(wanted, setting.name)
        if value != getattr(now, setting.name):
            document[setting.name] = _plain(setting.name, value)
    for table in TABLES:
        _edit_table(document, table, getattr(now, table.name), getattr(wanted, table.name))
    made = tomlkit.dumps(document)
    if parse(made) != wanted:
        raise Failed(f"{FILE} can't be changed without being written anew", "mend it by hand")
    return made


def _edit_table(document: Any, table: Table, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    if before == after:
        return
    paths = {
        table.check(name, value)[0]: path
        for path, name, value in _entries(table, document.unwrap().get(table.name, {}))
    }
    if table.name not in document:
        import tomlkit

        document[table.name] = tomlkit.table()
    for name in {**before, **after}:
        if before.get(name) == after.get(name):
            continue
        *above, last = paths.get(name, (table.name, name))
        place = document
        for part in above:
            place = place[part]
        if name in after:
            place[last] = list(after[name]) if isinstance(after[name], tuple) else after[name]
        else:
            del place[last]


def _plain(name: str, value: Any) -> Any:
    if name == "columns":
        from tcptop_ops.views.column_sets import DEFAULT

        return list(DEFAULT if value is None else value)
    return value


def commented_defaults() -> str:
    """Return a settings file that changes nothing and describes every setting (``--print-config``)."""
    usual = Settings()
    lines = ["# The settings of tcptop-ops, as they are without this file. The command line beats it."]
    for setting in SETTINGS:
        lines += [
            "",
            f"# {setting.means}",
            f"{setting.name} = {_toml(_plain(setting.name, getattr(usual, setting.name)))}",
        ]
    examples = {
        "widths": ["# peer = 30"],
        "thresholds": [f"{name} = {_toml(list(pair))}" for name, pair in _usual_thresholds().items()],
        "keys": _key_lines(),
    }
    for table in TABLES:
        lines += ["", *(f"# {line}" for line in table.means), f"[{table.name}]", *examples[table.name]]
    return "\n".join(lines) + "\n"


def _key_lines() -> list[str]:
    from tcptop_ops.keymap import KEYS

    names = {key.id: f'"{key.id}"' if "." in key.id else key.id for key in KEYS}
    return [f"{names[key.id]} = {_toml(key.keys)} # {key.told or key.words}" for key in KEYS]


def _toml(value: Any) -> str:
    import tomlkit

    text: str = tomlkit.item(value).as_string()
    return text


# Helpers for messages


def _near(name: Any, names: tuple[str, ...] | list[str]) -> str:
    near = get_close_matches(name, names, 1) if isinstance(name, str) and len(name) < 100 else []
    return f"did you mean {near[0]}?" if near else ""


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
