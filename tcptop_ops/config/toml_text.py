"""The settings file as text: text to Settings and back. Nothing is read from disk or written here."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from tcptop_ops.config.setting_table import SETTING_TABLES, SETTINGS, Table, nearest
from tcptop_ops.config.settings import FILE, HINT, Settings, said, short
from tcptop_ops.config.toml_lines import SettingLines, SettingPath
from tcptop_ops.errors import Failed, Usage

# Text to settings


def parse(text: str) -> Settings:
    """Parse the text of a settings file. Raises Usage with the number of the line."""
    found = _parsed(text)
    lines = SettingLines(text)
    known = [item.name for item in (*SETTINGS, *SETTING_TABLES)]
    for name in found:
        if name not in known:
            raise lines.wrong(
                (name,), f"no setting {said(name)}", nearest(name, known) or "--print-config lists them all"
            )
    values: dict[str, Any] = {}
    for setting in SETTINGS:
        if setting.name in found:
            with lines.telling((setting.name,), f"{setting.name}: "):
                values[setting.name] = setting.check(found[setting.name])
    for table in SETTING_TABLES:
        values[table.name] = _read_table(table, found, lines)
    values["thresholds"] = {
        name: pair for name, pair in values["thresholds"].items() if pair != _usual_thresholds().get(name)
    }
    values["keys"] = {name: keys for name, keys in values["keys"].items() if keys != _usual_keys()[name]}
    return Settings(**values)


def _read_table(table: Table, found: Mapping[str, Any], lines: SettingLines) -> dict[str, Any]:
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


def _entries(table: Table, given: Mapping[str, Any], above: SettingPath = ()) -> Iterator[tuple[SettingPath, str, Any]]:
    """Yield the path, the name and the value of each entry. In TOML ``sort.menu`` without quotes is a nested table."""
    for name, value in given.items():
        if isinstance(value, dict) and table.name == "keys":
            yield from _entries(table, value, (*above, name))
        else:
            yield (table.name, *above, name), ".".join((*above, name)), value


def _refuse_shared(read: Mapping[str, str], paths: Mapping[str, SettingPath], lines: SettingLines) -> None:
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
    from tcptop_ops.config.keymap import KEYS

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
        lines = SettingLines(text)
        line = lines.doubled() or (_counted(text, error.line) if isinstance(error, ParseError) else 1)
        why = re.sub(r" at line \d+ col \d+$", "", str(error)).rstrip(".").replace(r"'\x00'", "the end")
        raise Usage(f"{FILE} line {line}: not TOML: {short(_lower(why), 100)}", HINT) from error


def _counted(text: str, line: int) -> int:
    """Convert tomlkit's line number to that of an editor: tomlkit counts further line separators."""
    return "".join(text.splitlines(keepends=True)[: line - 1]).count("\n") + 1


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
    for table in SETTING_TABLES:
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
    for table in SETTING_TABLES:
        lines += ["", *(f"# {line}" for line in table.means), f"[{table.name}]", *examples[table.name]]
    return "\n".join(lines) + "\n"


def _key_lines() -> list[str]:
    from tcptop_ops.config.keymap import KEYS

    names = {key.id: f'"{key.id}"' if "." in key.id else key.id for key in KEYS}
    return [f"{names[key.id]} = {_toml(key.keys)} # {key.told or key.words}" for key in KEYS]


def _toml(value: Any) -> str:
    import tomlkit

    text: str = tomlkit.item(value).as_string()
    return text


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
