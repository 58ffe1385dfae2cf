"""The recording that ships with the package (made by ``tests/make_demo.py``): where it is."""

from __future__ import annotations

from pathlib import Path

PATH = Path(__file__).with_name("demo.tcptop")
