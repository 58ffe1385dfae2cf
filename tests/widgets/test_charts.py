"""Sparklines and graphs."""

from __future__ import annotations

import math

import pytest

from tcptop_ops import text
from tcptop_ops.widgets.base.charts import ASCII, BLOCKS, ChartCharacters, graph, pencil, rows, spark, time_axis
from tcptop_ops.widgets.base.line_widget import Spans, width_of

NAN = math.nan


def lines(spans: list[Spans]) -> list[str]:
    return ["".join(span.text for span in line) for line in spans]


def test_a_sparkline_fills_to_its_greatest() -> None:
    assert spark([0, 1, 4, 8], 4, BLOCKS) == "▁▁▄█"
    assert spark([NAN, 0, 8], 5, BLOCKS) == "   ▁█"
    assert spark([1, 2, 3, 4], 2, ASCII) == "=#"
    assert spark([], 3, BLOCKS) == "   "
    assert spark([NAN, NAN], 2, BLOCKS) == "  "


def test_an_area_is_as_high_as_asked_and_the_smallest_value_is_seen() -> None:
    assert rows([0, 8, 16, NAN], 4, 2, BLOCKS) == ["  █ ", " ██ "]
    assert rows([0.001, 16], 2, 2, BLOCKS) == [" █", "▁█"]
    assert rows([1], 3, 2, ASCII) == ["  #", "  #"]


@pytest.mark.parametrize("drawn", [BLOCKS, ASCII])
@pytest.mark.parametrize("values", [[], [NAN], [0.0, 0.0], [1.0] * 500, [1e18, NAN, 3]])
def test_a_graph_has_exactly_its_size(drawn: ChartCharacters, values: list[float]) -> None:
    found = graph("srtt", values, text.si, (40, 6), drawn)
    assert len(found) == 6
    assert {width_of(line) for line in found} == {40}


def test_a_graph_has_a_scale_and_says_the_newest_and_the_greatest() -> None:
    found = lines(graph("cwnd", [5, 20, 10], text.si, (30, 4), ASCII))
    assert found[0] == "cwnd" + "now 10  most 20".rjust(26)
    assert found[1].startswith("    20|")
    assert found[1].endswith(" #" + " ")
    assert found[3] == "     0|" + "-" * 23
    assert lines(graph("cwnd", [20, NAN], text.si, (30, 4), ASCII))[0].endswith("now -  most 20")


def test_the_time_axis_stands_under_the_first_value() -> None:
    (line,) = lines([time_axis([float(s) for s in range(12, -1, -1)], 40)])
    assert len(line) == 40
    assert line.rstrip().endswith("now")
    assert line.index("-12s") == 40 - 13
    assert lines([time_axis([1.0, 0.0], 40)]) == ["now".rjust(40)]
    assert time_axis([], 40) == ()


def test_blocks_only_where_the_terminal_shows_them() -> None:
    assert pencil("utf-8") is BLOCKS
    assert pencil("UTF8") is BLOCKS
    assert pencil("ANSI_X3.4-1968") is ASCII
    assert pencil(None) is ASCII
