"""The pages of --explain."""

from __future__ import annotations

import pytest

from tcptop_ops.diagnosis.rules import CAUSES
from tcptop_ops.errors import Usage
from tcptop_ops.explain import pages
from tcptop_ops.explain.operators import OPERATORS
from tcptop_ops.views.column_lookup import COLUMNS_BY_NAME
from tcptop_ops.views.columns import COLUMNS


@pytest.mark.parametrize("width", [40, 80])
def test_every_word_has_a_page_that_fits(width: int) -> None:
    for word in pages.words():
        page = pages.page(word.name, width)
        title = page.split("\n")[0]
        assert title.startswith(word.name)
        assert page.endswith("\n")
        assert page.isascii()
        assert len(page.split("\n")) > 4
        if width == 80:
            assert max(len(line) for line in page.split("\n")) <= width


def test_columns_causes_and_operators_are_all_there() -> None:
    names = {word.name for word in pages.words()}
    assert names >= {c.id for c in COLUMNS} | {c.name for c in CAUSES} | {o.name for o in OPERATORS}
    assert len(names) == len(pages.words())


def test_aliases_titles_and_either_case() -> None:
    for name, column in COLUMNS_BY_NAME.items():
        if name != "idle":  # a cause too: its page names the column
            assert pages.page(name).startswith(column.id)
    assert "idle_s" in pages.page("idle")
    assert pages.page("MINRT").startswith("min_rtt_us")
    assert pages.page(" Rto-Stall ").startswith("rto-stall, a cause")
    assert pages.page("retrans").startswith("RETRANS_CB: operator 9")


def test_a_page_says_what_a_person_needs() -> None:
    cause = pages.page("accept-queue")
    assert "raise both the backlog of listen() and net.core.somaxconn" in " ".join(cause.split())
    column = pages.page("retr%")
    assert "a warning from 0.5, bad from 2" in column
    assert "tcpi_total_retrans" in column
    operator = pages.page("WRITE_HDR_OPT_CB")
    assert "Zero is right" in operator
    assert "callback flag WRITE_HDR_OPT" in operator


@pytest.mark.parametrize(("word", "near"), [("lossy", "loss"), ("stt", "srtt"), ("retrans_c", "RETRANS_CB")])
def test_another_word_is_told_what_is_near(word: str, near: str) -> None:
    with pytest.raises(Usage) as told:
        pages.page(word)
    assert told.value.hint == f"did you mean {near}?"


def test_a_word_that_is_near_nothing() -> None:
    with pytest.raises(Usage) as told:
        pages.page("zzzzzz")
    assert "rto-stall" in told.value.hint


def test_what_is_related_exists() -> None:
    for cause in CAUSES:
        assert pages.page(cause.name)
        assert all(pages.page(word) for word in cause.related)
    assert set(pages.MORE) | set(pages.KERNEL_FIELDS) <= {column.id for column in COLUMNS}
