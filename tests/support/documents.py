"""The pages of the documentation, and the commands that they tell a user to type."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

COMMAND = re.compile(r"(?:\$ )?(?:sudo )?(?:\./run|tcptop-ops) +(?=[-'\"])(.*)", re.DOTALL)
TYPED = re.compile(r"""(?:[^'"|>&;#]|'[^']*'|"[^"]*")*""")
"""What belongs to the command itself: up to a pipe, a redirection, the next command or a comment."""

FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
INDENTED = re.compile(r"^ {4}(.*)$", re.MULTILINE)
INLINE = re.compile(r"`([^`\n]+)`")


def commands(text: str) -> list[str]:
    """Return the arguments of each command of this program in a page. What is told beside one is left out."""
    blocks = [line for _, body in FENCED.findall(text) for line in body.split("\n")]
    prose = FENCED.sub("", text)
    found = [COMMAND.match(line.strip()) for line in blocks + INDENTED.findall(prose) + INLINE.findall(prose)]
    typed = [TYPED.match(match[1]) for match in found if match]
    return [re.split(r"\s{2,}", match[0])[0].strip() for match in typed if match]
