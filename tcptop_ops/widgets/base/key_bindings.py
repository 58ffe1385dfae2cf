"""Convert bindings to the form in which users read them: keys and a label."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from textual.app import App
from textual.binding import ActiveBinding, Binding, BindingType
from textual.screen import Screen

from tcptop_ops.config.key_names import CHARACTERS
from tcptop_ops.config.keymap import KEYS, KeyAction

SPELLED = CHARACTERS | {
    "space": "Spc",
    "escape": "Esc",
    "enter": "Enter",
    "pageup": "PgUp",
    "pagedown": "PgDn",
}

PLACES = {key.id: place for place, key in enumerate(KEYS)}
"""The order of keys in the table, by id: Textual lists those last that the settings file has changed."""


class KeyHelp(NamedTuple):
    """The keys of one action, as shown to users.

    ``action``: with its namespace, as a click runs it. ``in_bar``: whether the key bar shows it.
    """

    keys: tuple[str, ...]
    description: str
    action: str
    in_bar: bool


def bindings(keys: Iterable[KeyAction]) -> list[BindingType]:
    """Return these keys as Textual's bindings."""
    return [Binding(k.keys, k.action, k.words, id=k.id, show=k.bar, priority=k.priority) for k in keys]


def spell(key: str) -> str:
    """Return a key as the help writes it: ``^C``, ``PgUp``, ``/``."""
    if key in SPELLED:
        return SPELLED[key]
    if key.startswith("ctrl+"):
        return f"^{spell(key[5:]).upper()}" if key.count("+") == 1 else key
    return key.capitalize() if len(key) > 1 else key


def character(key: str) -> str | None:
    """Return the character that a key types, or None. Textual's ``key_to_character`` does not know "slash"."""
    if key == "space":
        return " "
    return spell(key) if len(spell(key)) == 1 else None


def listed(active: Mapping[str, ActiveBinding]) -> list[KeyHelp]:
    """Merge the bindings in force that have the same label: first those of the bar, then the app's, then the others.

    Within the bar, those of the focused widget come before the app's.
    """
    keys: dict[str, list[str]] = {}
    first: dict[str, ActiveBinding] = {}
    ranked = sorted(active.items(), key=lambda item: _rank(item[1]))
    for key, found in ranked:
        if found.binding.id and not found.binding.system:
            keys.setdefault(found.binding.description, []).append(spell(key))
            first.setdefault(found.binding.description, found)
    return [KeyHelp(_range(keys[what]), what, _action(found), found.binding.show) for what, found in first.items()]


def in_force(screen: Screen[Any]) -> list[KeyHelp]:
    """Return the keys of a screen as they are now: where text is typed, a letter is a letter."""
    active, typing = screen.active_bindings, screen.focused
    if typing is not None:
        active = {key: found for key, found in active.items() if not typing.check_consume_key(key, character(key))}
    return listed(active)


def _rank(found: ActiveBinding) -> tuple[bool, bool, int]:
    shown = found.binding.show
    return not shown, shown != _has_focus(found), PLACES.get(found.binding.id or "", len(PLACES))


def _has_focus(found: ActiveBinding) -> bool:
    """Whether it is a key of a widget: such a one counts while the widget has the focus."""
    return not isinstance(found.node, (App, Screen))


def _action(found: ActiveBinding) -> str:
    """Return the action of a click on the key."""
    action = found.binding.action
    if action.partition("(")[0].count("."):
        return action
    node = found.node
    return f"{'app' if isinstance(node, App) else 'screen' if isinstance(node, Screen) else 'focused'}.{action}"


def _range(keys: list[str]) -> tuple[str, ...]:
    """Abbreviate three or more digits to a range such as ``1-9``."""
    return (f"{keys[0]}-{keys[-1]}",) if len(keys) > 2 and "".join(keys).isdigit() else tuple(keys)
