"""What goes to the terminal: only what changed, and never faster than it is taken."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO

import pytest
from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from textual._compositor import ChopsUpdate
from textual.strip import Strip

from tcptop_ops.widgets.base.line_widget import Span, differing, merged
from tcptop_ops.widgets.base.terminal_driver import FULL, Cropped, TerminalWriter, cropped
from tests.support.leftovers import wait_until

RED = Style(color="red")


@dataclass
class Line:
    """A pipe that nobody reads until ``take``, and what its writer told."""

    read: int
    file: IO[str]
    told: list[str] = field(default_factory=list)

    def writer(self) -> TerminalWriter:
        return TerminalWriter(self.file, lambda: self.told.append("full"), lambda: self.told.append("drained"))

    def take(self, count: int) -> bytes:
        found = b""
        while len(found) < count:
            found += os.read(self.read, count - len(found))
        return found


@pytest.fixture
def line() -> Iterator[Line]:
    read, write = os.pipe()
    with open(write, "w") as file:
        yield Line(read, file)
    os.close(read)


def test_what_is_written_arrives_in_order(line: Line) -> None:
    writer = line.writer()
    writer.start()
    for number in range(100):
        writer.write(f"{number:04}é")
    assert line.take(600).decode() == "".join(f"{number:04}é" for number in range(100))
    writer.stop()
    assert (writer.written, writer.waiting) == (600, 0)


def test_writing_never_waits_and_tells_once_when_it_is_full_and_when_no_longer(line: Line) -> None:
    writer = line.writer()
    writer.start()
    size = 50 * FULL
    for _ in range(50):
        writer.write("x" * FULL)
    assert line.told == ["full"]
    line.take(size)
    wait_until(lambda: line.told == ["full", "drained"], what="being drained")
    writer.write("y" * (FULL + 1))
    wait_until(lambda: line.told == ["full", "drained"] * 2, what="being drained again")
    writer.stop()


def test_it_ends_though_nobody_reads(line: Line) -> None:
    writer = line.writer()
    writer.start()
    writer.write("x" * (1 << 20))
    writer.stop()
    assert writer.waiting > 0
    line.take(1 << 20)  # the thread must not outlive the test
    writer.join(30)
    assert not writer.is_alive()


def test_it_ends_when_the_terminal_has_gone() -> None:
    read, write = os.pipe()
    os.close(read)
    with open(write, "w") as file:
        writer = TerminalWriter(file, lambda: None, lambda: None)
        writer.start()
        writer.write("x")
        writer.join(30)
        assert not writer.is_alive()
        writer.stop()


def test_the_same_thread_is_never_waited_for_twice(line: Line) -> None:
    writer = line.writer()
    writer.start()
    writer.stop()
    writer.stop()
    assert threading.active_count() >= 1
    assert not writer.is_alive()


# What changed


def rendered(spans: list[tuple[int, int, int]], cut: int = 10) -> str:
    """Of a line of two widgets: cells 0 to ``cut`` and the rest, in which these spans changed."""
    left, right = Strip([Segment("0123456789"[:cut])]), Strip([Segment("abcdefghij", RED)])
    update = Cropped([{0: left, cut: right}] * 3, spans, [[cut, cut + 10]] * 3)
    return update.render_segments(Console(color_system="standard", force_terminal=True))


def test_only_the_cells_of_a_span_are_written() -> None:
    assert rendered([(1, 3, 5)]) == "\x1b[2;4H34"


def test_a_span_over_two_widgets() -> None:
    assert rendered([(0, 8, 12)]) == "\x1b[1;9H89\x1b[1;11H\x1b[31mab\x1b[0m"


def test_two_spans_in_a_line() -> None:
    assert rendered([(2, 0, 1), (2, 19, 20)]) == "\x1b[3;1H0\x1b[3;20H\x1b[31mj\x1b[0m"


def test_what_is_no_part_of_the_screen_stays_as_it_is() -> None:
    assert cropped(None) is None
    assert cropped("text") == "text"
    assert isinstance(cropped(ChopsUpdate([], [(0, 0, 1)], [])), Cropped)


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        ("same", "same", []),
        ("one 1", "one 2", [(4, 5)]),
        ("short", "shorter", [(5, 7)]),
        ("shorter", "short", [(5, 7)]),
        ("a" + " " * 20 + "b", "c" + " " * 20 + "d", [(0, 1), (21, 22)]),
        ("a   b", "c   d", [(0, 5)]),  # what is between is cheaper than another position
        ("", "", []),
        ("blank   ", "blank", []),
    ],
)
def test_where_lines_differ(before: str, after: str, found: list[tuple[int, int]]) -> None:
    assert differing((Span(before),), (Span(after),)) == found


def test_another_look_is_a_difference() -> None:
    assert differing((Span("ab"), Span("c")), (Span("ab"), Span("c", "bad"))) == [(2, 3)]
    assert differing((Span("a", action="quit"),), (Span("a"),)) == [(0, 1)]


def test_ranges_that_nearly_touch_are_one() -> None:
    assert merged([(0, 2), (2, 4), (10, 11), (40, 41)]) == [(0, 11), (40, 41)]
    assert merged([]) == []
