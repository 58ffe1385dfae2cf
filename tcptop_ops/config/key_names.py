"""Convert between key names, as Textual spells them, and the characters that the keys type. Pure."""

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
"""Names that Textual spells shorter than Unicode (``textual.keys.KEY_NAME_REPLACEMENTS``)."""

MODIFIERS = frozenset({"ctrl", "shift", "alt"})


def of_character(character: str) -> str:
    """Return the name of the key that types this character, as ``textual.keys`` forms it."""
    if character.isalnum():
        return character
    name = unicodedata.name(character).lower().replace("-", "_").replace(" ", "_")
    return SHORTER.get(name, name)


CHARACTERS = {of_character(character): character for character in string.punctuation + " "}
"""ASCII punctuation and the space, by the name of the key that types it."""

NAMED = frozenset(CHARACTERS) | {
    *("up", "down", "left", "right", "home", "end", "pageup", "pagedown", "insert", "delete"),
    *("backspace", "tab", "enter", "escape"),
    *(f"f{n}" for n in range(1, 25)),
}
"""Names of the keys that are not letters or digits."""


def canonical(key: str) -> str:
    """Return a key's name as Textual spells it; a key may be given by the character that it types. Raises Usage."""
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
    """Return the names in a list such as ``"q,f10"``, as Textual spells them, without duplicates. Raises Usage."""
    names = [name.strip() for name in keys.split(",")]
    if not all(names):
        raise Usage("a key is missing", 'for instance: "q,f10"; the comma itself is called comma')
    return tuple(dict.fromkeys(canonical(name) for name in names))


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:40] + "~"
