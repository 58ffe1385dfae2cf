"""The command palette: everything that a key does, found by a few letters of what it is called."""

from __future__ import annotations

from functools import partial

from textual.command import DiscoveryHit, Hit, Hits, Provider

from tcptop_ops.keymap import APP, Key
from tcptop_ops.widgets.keys import spell

LEFT_OUT = frozenset({"interrupt"})


class Commands(Provider):
    """The keys of the main screen, each once; over whichever screen the palette lies."""

    async def discover(self) -> Hits:
        """All of them."""
        for key, title in self._titles():
            yield DiscoveryHit(title, partial(self._run, key), help=self._keys(key))

    async def search(self, query: str) -> Hits:
        """Those that match, the best first."""
        matcher = self.matcher(query)
        for key, title in self._titles():
            if (score := matcher.match(title)) > 0:
                yield Hit(score, matcher.highlight(title), partial(self._run, key), help=self._keys(key))

    async def _run(self, key: Key) -> None:
        await self.app.run_action(key.action, self.app.screen_stack[0])

    def _keys(self, key: Key) -> str:
        """Those in force: of the configuration, or the usual ones."""
        wanted = self.app._keymap.get(key.id, key.keys)
        return " ".join(spell(name) for name in wanted.split(","))

    def _titles(self) -> list[tuple[Key, str]]:
        keys: tuple[Key, ...] = getattr(self.app.screen_stack[0], "KEYS", APP)
        wanted = [key for key in keys if key.id not in LEFT_OUT and not key.id[-1].isdigit()]
        return [(key, key.told or key.words) for key in wanted]
