"""The screens as whole pictures, those that the README shows: compared to the last character."""

from __future__ import annotations

import pytest

from screenshots.make import HERE, PICTURES, draw


@pytest.mark.parametrize("name", PICTURES)
async def test_a_picture(name: str) -> None:
    size, keys = PICTURES[name]
    drawn = await draw(size, keys, name == "light")
    assert drawn == (HERE / f"{name}.svg").read_text(), "python -m screenshots.make draws it anew: look at it"


def test_no_picture_is_left_over() -> None:
    assert {path.stem for path in HERE.glob("*.svg")} == set(PICTURES)
