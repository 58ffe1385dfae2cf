"""Fill the command palette with everything that a key does."""

from __future__ import annotations

from functools import partial

from textual.command import DiscoveryHit, Hit, Hits, Provider

from tcptop_ops.config.keymap import APP, KeyAction
from tcptop_ops.widgets.base.key_bindings import spell

LEFT_OUT = frozenset({"interrupt"})
"""Ids of keys that are not in the palette."""


class PaletteCommands(Provider):
    """The keys of the main screen, each once; over whichever screen the palette lies."""

    async def discover(self) -> Hits:
        """Yield all commands, as shown before anything is typed."""
        for key, title in self._titles():
            yield DiscoveryHit(title, partial(self._run, key), help=self._keys(key))

    async def search(self, query: str) -> Hits:
        """Yield the commands that match what was typed; Textual sorts them by score."""
        matcher = self.matcher(query)
        for key, title in self._titles():
            if (score := matcher.match(title)) > 0:
                yield Hit(score, matcher.highlight(title), partial(self._run, key), help=self._keys(key))

    async def _run(self, key: KeyAction) -> None:
        await self.app.run_action(key.action, self.app.screen_stack[0])

    def _keys(self, key: KeyAction) -> str:
        """Return the keys in force: those of the settings file, or the defaults."""
        wanted = self.app._keymap.get(key.id, key.keys)
        return " ".join(spell(name) for name in wanted.split(","))

    def _titles(self) -> list[tuple[KeyAction, str]]:
        keys: tuple[KeyAction, ...] = getattr(self.app.screen_stack[0], "KEYS", APP)
        wanted = [key for key in keys if key.id not in LEFT_OUT and not key.id[-1].isdigit()]
        return [(key, key.told or key.words) for key in wanted]
