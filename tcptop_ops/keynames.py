"""The names of keys, as Textual writes them, and the characters that they type. Pure."""

from __future__ import annotations

import string
import unicodedata
from difflib import get_close_matches

from tcptop_ops.errors import Usage

SHORTER = {
    "solidus": "slash",
    "reverse_solidus": "backslash",
    "commercial_at": "at",
    "hyphen_minus": "minus",
    "plus_sign": "plus",
    "low_line": "underscore",
}
"""Names that Textual writes shorter than Unicode does (``textual.keys.KEY_NAME_REPLACEMENTS``)."""

MODIFIERS = frozenset({"ctrl", "shift", "alt"})


def of_character(character: str) -> str:
    """The name of the key that types it, as ``textual.keys`` makes it."""
    if character.isalnum():
        return character
    name = unicodedata.name(character).lower().replace("-", "_").replace(" ", "_")
    return SHORTER.get(name, name)


CHARACTERS = {of_character(character): character for character in string.punctuation + " "}
"""What the keys with a name type: those of ASCII."""

NAMED = frozenset(CHARACTERS) | {
    *("up", "down", "left", "right", "home", "end", "pageup", "pagedown", "insert", "delete"),
    *("backspace", "tab", "enter", "escape"),
    *(f"f{n}" for n in range(1, 25)),
}
"""Keys that have a name rather than a letter."""


def canonical(key: str) -> str:
    """A key as Textual names it; it may be given as what it types. Raises Usage where there is none."""
    if len(key) == 1:
        if not key.isprintable():
            raise Usage("a key that can't be printed has a name", "for instance: tab, escape, space")
        return of_character(key)
    *modifiers, base = key.split("+")
    if MODIFIERS.issuperset(modifiers) and len(set(modifiers)) == len(modifiers):
        if len(base) == 1 and base.isprintable():
            return "+".join([*modifiers, of_character(base)])
        if base in NAMED:
            return key
    near = get_close_matches(key, NAMED, 1)
    raise Usage(
        f"no key {_short(key)!r}",
        f"did you mean {near[0]}?" if near else "for instance: q, /, slash, f5, ctrl+r, pageup",
    )


def listed(keys: str) -> tuple[str, ...]:
    """``"q,f10"``: each as Textual names it, once. Raises Usage."""
    names = [name.strip() for name in keys.split(",")]
    if not all(names):
        raise Usage("a key is missing", 'for instance: "q,f10"; the comma itself is called comma')
    return tuple(dict.fromkeys(canonical(name) for name in names))


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:40] + "~"
