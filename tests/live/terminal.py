"""The real screen: the program under tmux, its picture read as text, or kept as an SVG."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.text import Text

from tests.support.leftovers import wait_until

ROOT = Path(__file__).parents[2]
PATIENCE_S = 30.0


class Terminal:
    """A tmux server of its own with one window, in which the monitor runs."""

    def __init__(self, name: str, width: int, height: int, *options: str) -> None:
        self._server = name
        self.width, self.height = width, height
        argv = [sys.executable, "-m", "tcptop_ops", *options]
        self._tmux(
            "-f",
            os.devnull,
            "new-session",
            "-d",
            "-x",
            str(width),
            "-y",
            str(height),
            "-c",
            str(ROOT),
            shlex.join(argv),
        )

    def _tmux(self, *words: str) -> str:
        argv = ["tmux", "-L", self._server, *words]
        return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=20).stdout

    def lines(self) -> list[str]:
        """What stands there now, a line each, as wide as the window."""
        shown = self._tmux("capture-pane", "-p", "-N").split("\n")[: self.height]
        return [line.ljust(self.width) for line in shown]

    def press(self, *keys: str) -> None:
        """Keys as tmux names them."""
        self._tmux("send-keys", *keys)

    def wait_for(self, holds: Callable[[list[str]], bool], what: str) -> list[str]:
        """The lines, as soon as this is true of them."""

        def shown() -> list[str]:
            lines = self.lines()
            return lines if holds(lines) else []

        try:
            return wait_until(shown, PATIENCE_S, what)
        except TimeoutError as error:
            raise TimeoutError("\n".join([str(error), *self.lines()])) from error

    def keep(self, path: Path, title: str) -> None:
        """The picture with its colours, as an SVG."""
        console = Console(width=self.width, record=True, file=open(os.devnull, "w"), force_terminal=True)  # noqa: SIM115
        with console.file:
            console.print(Text.from_ansi(self._tmux("capture-pane", "-p", "-e", "-N").rstrip("\n")), end="")
            path.write_text(console.export_svg(title=title))

    def close(self) -> None:
        """End the window and its server."""
        subprocess.run(["tmux", "-L", self._server, "kill-server"], capture_output=True, check=False, timeout=20)


@contextmanager
def terminal(name: str, *options: str, width: int = 80, height: int = 24) -> Iterator[Terminal]:
    """A terminal that is gone afterwards."""
    made = Terminal(name, width, height, *options)
    try:
        yield made
    finally:
        made.close()
