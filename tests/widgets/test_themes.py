"""The looks: legible on their backgrounds, and warnings told from faults by people who see fewer colours too."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
from textual.color import Color
from textual.theme import Theme

from tcptop_ops.config.settings import THEMES as NAMES
from tcptop_ops.widgets.base.themes import DARK, LIGHT, TERMINAL, THEMES, after, usual
from tests.bench.terminal import Terminal

SEEN_BY = {
    "all cones": np.eye(3),
    "no long ones": np.array([[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]]),
    "no middle ones": np.array([[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]]),
    "no short ones": np.array([[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]]),
}
"""Linear RGB as it looks with one kind of cones missing: Machado, Oliveira and Fernandes (2009), severity 1.0."""

TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
WHITE = TO_XYZ @ np.ones(3)


def linear(colour: str) -> np.ndarray:
    """IEC 61966-2-1."""
    channels = np.array(Color.parse(colour).rgb) / 255
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    """WCAG 2."""
    low, high = sorted(float(TO_XYZ[1] @ linear(colour)) for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


def lab(colour: str, eyes: np.ndarray) -> np.ndarray:
    """CIE L*a*b*."""
    x, y, z = TO_XYZ @ np.clip(eyes @ linear(colour), 0, 1) / WHITE
    f = [v ** (1 / 3) if v > 0.008856 else 7.787 * v + 16 / 116 for v in (x, y, z)]
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("theme", [DARK, LIGHT], ids=lambda theme: theme.name)
@pytest.mark.parametrize("where", ["background", "surface", "panel", "cursor"])
def test_text_can_be_read(theme: Theme, where: str) -> None:
    below = theme.variables["block-cursor-background"] if where == "cursor" else getattr(theme, where)
    for role, least in (("text-muted", 3.5), ("text-warning", 4.5), ("text-error", 4.5), ("text-disabled", 2.0)):
        assert contrast(theme.variables[role], below) >= least, role
    assert theme.foreground is not None
    assert contrast(theme.foreground, below) >= 7


@pytest.mark.parametrize("theme", [DARK, LIGHT], ids=lambda theme: theme.name)
@pytest.mark.parametrize("eyes", SEEN_BY)
def test_what_is_bad_looks_like_nothing_else(theme: Theme, eyes: str) -> None:
    looks = [theme.foreground, theme.variables["text-warning"], theme.variables["text-error"]]
    for one, other in itertools.combinations([lab(str(look), SEEN_BY[eyes]) for look in looks], 2):
        assert np.linalg.norm(one - other) > 15


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ({"TERM": "xterm-256color"}, "dark"),
        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, "terminal"),
        ({"TERM": "linux"}, "terminal"),
        ({"TERM": "xterm"}, "terminal"),
        ({"TERM": "xterm", "COLORTERM": "truecolor"}, "dark"),
        ({"TERM": "xterm-256color", "COLORFGBG": "0;15"}, "light"),
        ({"TERM": "xterm-256color", "COLORFGBG": "15;0"}, "dark"),
        ({"TERM": "rxvt-unicode-256color", "COLORFGBG": "0;default;15"}, "light"),
        ({}, "dark"),
    ],
)
def test_the_usual_theme(environment: dict[str, str], name: str) -> None:
    assert usual(environment) == name


def test_the_themes_are_those_that_can_be_asked_for() -> None:
    assert ("auto", *(theme.name for theme in THEMES)) == NAMES
    assert after(TERMINAL.name) == DARK.name
    assert TERMINAL.ansi


@pytest.mark.parametrize(("said", "coloured"), [("1", False), ("", True)])
def test_no_color(said: str, coloured: bool) -> None:
    terminal = Terminal("50", "1", "0.1", NO_COLOR=said)
    try:
        seen = terminal.until(b"nginx")
        terminal.press("T")  # not by a key either
        seen += terminal.until(b"NO_COLOR is set" if said else b"theme: ")
    finally:
        terminal.close()
    colours = re.findall(rb"\x1b\[(?:[0-9;]*;)?(?:3[0-8]|4[0-8])(?:;[0-9;]*)?m", seen)
    assert bool(colours) is coloured
