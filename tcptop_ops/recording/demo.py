"""Where the recording is that comes with the package; ``tests/make_demo.py`` makes it."""

from __future__ import annotations

from pathlib import Path

PATH = Path(__file__).with_name("demo.tcptop")
