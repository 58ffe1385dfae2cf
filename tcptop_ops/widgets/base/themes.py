"""Define the themes: dark and light, both suited to colour vision deficiency, and the terminal's own 16 colours."""

from __future__ import annotations

from collections.abc import Mapping

from textual.theme import BUILTIN_THEMES, Theme

DARK = Theme(
    name="dark",
    dark=True,
    primary="#56b4e9",
    secondary="#8fa3b3",
    accent="#56b4e9",
    foreground="#d7dce0",
    background="#101418",
    surface="#1a2026",
    panel="#222a31",
    success="#56b4e9",
    warning="#f0d060",
    error="#ff8a5c",
    variables={
        "block-cursor-background": "#273d51",
        "block-cursor-foreground": "#ffffff",
        "block-cursor-text-style": "none",
        "block-cursor-blurred-background": "#273d51",
        "text-muted": "#97a3ad",
        "text-disabled": "#66727c",
        "text-warning": "#f0d060",
        "text-error": "#ff8a5c",
        "text-primary": "#56b4e9",
    },
)

LIGHT = Theme(
    name="light",
    dark=False,
    primary="#005a9c",
    secondary="#4a5560",
    accent="#005a9c",
    foreground="#1c2126",
    background="#fafafa",
    surface="#f0f2f4",
    panel="#e3e7ea",
    success="#005a9c",
    warning="#7a5600",
    error="#a3005c",
    variables={
        "block-cursor-background": "#c4dcf0",
        "block-cursor-foreground": "#000000",
        "block-cursor-text-style": "none",
        "block-cursor-blurred-background": "#c4dcf0",
        "text-muted": "#4f5a64",
        "text-disabled": "#7d8790",
        "text-warning": "#7a5600",
        "text-error": "#a3005c",
        "text-primary": "#005a9c",
    },
)

TERMINAL = Theme(
    name="terminal",
    ansi=True,
    primary="ansi_blue",
    secondary="ansi_cyan",
    accent="ansi_cyan",
    foreground="ansi_default",
    background="ansi_default",
    surface="ansi_default",
    panel="ansi_default",
    boost="ansi_default",
    success="ansi_green",
    warning="ansi_yellow",
    error="ansi_red",
    variables=BUILTIN_THEMES["ansi-dark"].variables
    | {
        "block-cursor-background": "ansi_default",
        "block-cursor-foreground": "ansi_default",
        "block-cursor-text-style": "reverse",
        "block-cursor-blurred-text-style": "reverse",
        "text-muted": "ansi_default",
        "text-disabled": "ansi_default",
        "text-warning": "ansi_yellow",
        "text-error": "ansi_red",
        "text-primary": "ansi_cyan",
    },
)

THEMES = (DARK, LIGHT, TERMINAL)

FEW_COLOURS = ("linux", "vt100", "vt220", "ansi", "xterm", "screen", "dumb")
"""Values of TERM that stand for at most 16 colours."""


def usual(environment: Mapping[str, str]) -> str:
    """Return the theme for a terminal: by NO_COLOR, TERM and COLORTERM (few colours), COLORFGBG (background)."""
    few = environment.get("TERM", "") in FEW_COLOURS and not environment.get("COLORTERM")
    if few or environment.get("NO_COLOR"):
        return TERMINAL.name
    background = environment.get("COLORFGBG", "").rpartition(";")[2]
    return LIGHT.name if background in {"7", "15"} else DARK.name


def after(name: str) -> str:
    """Return the name of the theme that follows this one, cyclically."""
    names = [theme.name for theme in THEMES]
    return names[(names.index(name) + 1) % len(names)]
