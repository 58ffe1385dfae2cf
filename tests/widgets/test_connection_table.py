"""The table: what a row says, where the cursor is, and what is painted."""

from __future__ import annotations

import string

import numpy as np
from rich.style import Style
from textual import events
from textual.app import App, ComposeResult
from textual.geometry import Region

from tcptop_ops.model.enums import State
from tcptop_ops.model.flows import Flows
from tcptop_ops.tracking.tracker import Tracker
from tcptop_ops.views.column_lookup import find
from tcptop_ops.views.column_sets import parse_list
from tcptop_ops.views.view import Spec, make
from tcptop_ops.widgets.table.cell_text import SHORT_ENDS, lines
from tcptop_ops.widgets.table.column_fit import fit
from tcptop_ops.widgets.table.connection_table import ConnectionTable
from tests.support.fakes import BOOT_NS, finals, flow, snapshot
from tests.support.screens import text_of
from tests.support.table_bench import (
    BY_NAME,
    BY_RETRANSMITS,
    Bench,
    named,
    order_of,
    retransmitting,
    shown,
    ticked,
    turn_wheel,
)

# What a row says


def cells(flows: Flows, names: str, width: int = 80, spec: Spec = BY_RETRANSMITS) -> list[list[str]]:
    columns = parse_list(names)
    view = make(flows, spec)
    return [list(line.cells) for line in lines(view, fit(columns, spec.sort, width), 0, 100, 0)]


def test_a_number_that_has_no_room_is_not_cut_into_another_number() -> None:
    before = [flow(1, rto_events=0)]
    for seen, shown_as in ((7, "  7"), (999, "999"), (1_200, "99+"), (12_000, "12k")):
        after = [flow(1, rto_events=seen)]
        assert cells(ticked(before, after), "rto") == [[shown_as]]


def test_a_long_ipv6_peer_is_cut_in_its_middle_and_keeps_its_port() -> None:
    peer = ("2001:db8:1111:2222:3333:4444:5555:6666", 65535)
    (row,) = cells(ticked([flow(1, peer=peer, family=10)]), "process,peer,srtt", 40)
    assert row[1].startswith("[2001")
    assert "~" in row[1]
    assert row[1].endswith("]:65535")
    (wide,) = cells(ticked([flow(1, peer=peer, family=10)]), "process,peer,srtt", 80)
    assert "~" not in wide[1]


def test_names_from_outside_are_harmless() -> None:
    (row,) = cells(ticked(named("x")), "process")
    assert row == ["x".ljust(16)]
    (row,) = cells(ticked([flow(1, name=b"\xff\x1b[31mred\n")]), "process")
    assert set(row[0]) <= set(string.printable[:95])


def test_a_closed_row_says_how_it_ended() -> None:
    gone = flow(2, state=State.CLOSE, states=1 << State.ESTABLISHED)
    end = BOOT_NS + 1_500_000_000
    flows = ticked([flow(1), flow(2)], [flow(1), flow(2)], [flow(1)], closed=finals([gone], end, error=110))
    rows = lines(make(flows, BY_RETRANSMITS), fit(BY_RETRANSMITS.columns, BY_RETRANSMITS.sort, 80), 0, 10, 0)
    state = BY_RETRANSMITS.columns.index(find("state"))
    told = [(row.mark, row.closed, row.cells[state]) for row in rows]
    assert told == [(" ", False, "ESTAB"), ("!", True, "tmout")]


def test_the_words_for_an_end_have_the_width_of_a_state() -> None:
    assert {len(word) for word in SHORT_ENDS.values()} <= {4, 5}


def test_new_rows_are_marked_for_two_ticks_but_not_those_of_the_start() -> None:
    rounds = [[flow(1)], [flow(1), flow(2)], [flow(1), flow(2)], [flow(1), flow(2)]]
    marks = []
    for n in range(1, 5):
        view = make(ticked(*rounds[:n]), BY_RETRANSMITS)
        marks.append([line.mark for line in lines(view, fit(BY_RETRANSMITS.columns, view.spec.sort, 80), 0, 9, 0)])
    assert marks == [[" "], [" ", "+"], [" ", "+"], [" ", " "]]


def test_bad_rows_are_marked_and_zeros_are_dim() -> None:
    view = retransmitting({1: 100, 2: 4, 3: 0})
    rows = lines(view, fit(BY_RETRANSMITS.columns, view.spec.sort, 80), 0, 9, 0)
    retr = BY_RETRANSMITS.columns.index(find("retrans_win"))
    assert [row.mark for row in rows] == ["!", "!", " "]
    assert [row.levels[:2] for row in rows] == [(2, 2), (2, 2), (-1, -1)]
    assert [row.levels[retr] for row in rows] == [2, 1, -1]


# On the screen


async def test_the_lines_at_eighty_columns() -> None:
    app = Bench(BY_RETRANSMITS)
    async with app.run_test(size=(80, 6)) as pilot:
        assert text_of(app)[1].rstrip() == "  starting ..."
        await shown(pilot, retransmitting({1: 25, 2: 0}))
        assert text_of(app) == [
            "  SCR CAUSE          PROCESS   PEER (LISTN: local)   STATE  SRTT RETRv RETR% RTO",
            ">! 90 loss           p1        10.0.0.2:443          ESTAB  30ms    25     -   0",
            "    0 idle           p2        10.0.0.2:443          ESTAB  30ms     0     -   0",
            " " * 80,
            " " * 80,
            " " * 80,
        ]


async def test_nothing_to_show_is_said() -> None:
    app = Bench(BY_RETRANSMITS)
    async with app.run_test(size=(80, 6)) as pilot:
        table = await shown(pilot, make(ticked([]), BY_RETRANSMITS))
        assert text_of(app)[1].rstrip() == "  no TCP sockets"
        assert table.cursor is None
        await pilot.press("j", "end", "home", "pagedown")
        await pilot.click(table, offset=(5, 3))
        assert table.cursor is None


async def test_only_a_changed_row_is_refreshed_and_painted() -> None:
    app = Bench(BY_RETRANSMITS)
    async with app.run_test(size=(80, 20)) as pilot:
        counts = {i: 100 - 5 * i for i in range(1, 11)}
        table = await shown(pilot, retransmitting(counts))
        table.forget()
        await shown(pilot, retransmitting(counts))
        assert (table.regions, table.painted) == ([], [])
        await shown(pilot, retransmitting(counts | {4: 81}))
        assert table.regions == [Region(65, 4, 5, 1)]  # its one figure
        assert table.painted == [4]


async def test_a_change_outside_the_window_paints_nothing() -> None:
    app = Bench(BY_RETRANSMITS)
    async with app.run_test(size=(80, 6)) as pilot:
        counts = {i: 100 - 5 * i for i in range(1, 11)}
        table = await shown(pilot, retransmitting(counts))
        table.forget()
        await shown(pilot, retransmitting(counts | {9: 54}))
        assert (table.regions, table.painted) == ([], [])


async def test_rows_that_change_places_are_painted_and_no_others() -> None:
    app = Bench(BY_RETRANSMITS)
    async with app.run_test(size=(80, 20)) as pilot:
        counts = {i: 100 - 5 * i for i in range(1, 11)}
        table = await shown(pilot, retransmitting(counts))
        table.forget()
        await shown(pilot, retransmitting(counts | {4: 74}))
        assert sorted(table.painted) == [4, 5]


async def test_a_moved_cursor_paints_two_rows() -> None:
    app = Bench(BY_RETRANSMITS)
    async with app.run_test(size=(80, 20)) as pilot:
        table = await shown(pilot, retransmitting({i: 100 - 5 * i for i in range(1, 11)}))
        table.forget()
        await pilot.press("down")
        assert sorted(table.painted) == [1, 2]


async def test_of_ten_thousand_rows_only_the_visible_ones_are_made() -> None:
    app = Bench(BY_RETRANSMITS)
    async with app.run_test(size=(80, 20)) as pilot:
        flows = [flow(i, name=b"p%d" % i) for i in range(1, 10_001)]
        table = await shown(pilot, make(ticked(flows), BY_RETRANSMITS))
        assert len(table._lines) == 19
        await pilot.press("end")
        assert table.cursor == 9_999
        assert order_of(table)[-1] == "p10000"
        assert len(table._lines) == 19


async def test_the_cursor_stays_on_its_connection() -> None:
    app = Bench(BY_RETRANSMITS)
    async with app.run_test(size=(80, 10)) as pilot:
        table = await shown(pilot, retransmitting({1: 30, 2: 20, 3: 10}))
        await pilot.press("down")
        assert table.cursor == 1
        await shown(pilot, retransmitting({1: 30, 2: 40, 3: 50}))
        assert (order_of(table), table.cursor) == (["p3", "p2", "p1"], 1)
        await shown(pilot, retransmitting({1: 30, 2: 60, 3: 50}))
        assert (order_of(table), table.cursor) == (["p2", "p3", "p1"], 0)
        assert text_of(app)[1].startswith(">! 90 loss           p2 ")


async def test_the_cursor_is_on_the_worst_row_until_it_is_moved_and_after_home() -> None:
    app = Bench(BY_RETRANSMITS)
    async with app.run_test(size=(80, 10)) as pilot:
        table = await shown(pilot, retransmitting({1: 30, 2: 20}))
        await shown(pilot, retransmitting({1: 30, 2: 40}))
        assert table.cursor == 0
        await pilot.press("j", "home")
        await shown(pilot, retransmitting({1: 50, 2: 40}))
        assert table.cursor == 0
        assert text_of(app)[1].startswith(">! 90 loss           p1 ")


async def test_the_cursor_stays_near_when_its_connection_is_gone() -> None:
    app = Bench(BY_RETRANSMITS)
    async with app.run_test(size=(80, 10)) as pilot:
        table = await shown(pilot, retransmitting({1: 30, 2: 20, 3: 10}))
        await pilot.press("end")
        await shown(pilot, retransmitting({1: 30, 2: 20}))
        assert table.cursor == 1
        await shown(pilot, retransmitting({1: 10, 2: 20}))
        assert table.cursor == 0


async def test_the_window_follows_the_cursor_unless_it_was_scrolled_away() -> None:
    app = Bench(BY_RETRANSMITS)
    async with app.run_test(size=(80, 10)) as pilot:
        counts = {i: 200 - i for i in range(1, 101)}
        table = await shown(pilot, retransmitting(counts))
        await pilot.press("down")
        await shown(pilot, retransmitting(counts | {2: 1}))
        assert order_of(table)[-1] == "p2"
        assert text_of(app)[9].startswith(">")
        await turn_wheel(pilot, events.MouseScrollUp, 40)
        await shown(pilot, retransmitting(counts | {2: 0}))
        assert order_of(table)[0] == "p1"
        await pilot.press("up")
        assert table.cursor == 98
        assert "p100" in order_of(table)


async def test_pages_and_ends() -> None:
    app = Bench(BY_RETRANSMITS)
    async with app.run_test(size=(80, 11)) as pilot:
        table = await shown(pilot, retransmitting({i: 200 - i for i in range(1, 51)}))
        for key, row in (
            ("pagedown", 9),
            ("pagedown", 18),
            ("pageup", 9),
            ("k", 8),
            ("end", 49),
            ("home", 0),
            ("up", 0),
        ):
            await pilot.press(key)
            assert table.cursor == row
        assert app.moves == 7


async def test_a_click_selects_a_row_and_tells_of_a_header() -> None:
    app = Bench(BY_RETRANSMITS)
    async with app.run_test(size=(80, 10)) as pilot:
        table = await shown(pilot, retransmitting({1: 30, 2: 20, 3: 10}))
        await pilot.click(table, offset=(30, 3))
        assert table.cursor == 2
        await pilot.click(table, offset=(30, 8))
        assert table.cursor == 2
        for x in (2, 22, 40, 79):
            await pilot.click(table, offset=(x, 0))
        assert [column.id for column in app.clicked] == ["score", "process", "peer", "rto_win"]


async def test_wide_lists_scroll_sideways_and_keep_the_gutter() -> None:
    app = Bench(Spec(columns=parse_list("all")))
    async with app.run_test(size=(60, 5)) as pilot:
        flows = ticked(named("one"))
        table = await shown(pilot, make(flows, Spec(columns=parse_list("all"))))
        assert text_of(app)[0].startswith("    COOKIE")
        await pilot.press("right", "right")
        assert "COOKIE" not in text_of(app)[0]
        assert text_of(app)[1].startswith("> ")
        await pilot.click(table, offset=(15, 0))
        first = text_of(app)[0]
        assert app.clicked[0].title.split()[0] in first
        await pilot.press("left", "left", "left")
        assert text_of(app)[0].startswith("    COOKIE")


async def test_a_resize_keeps_the_cursor_and_finds_other_columns() -> None:
    app = Bench(BY_RETRANSMITS)
    async with app.run_test(size=(80, 30)) as pilot:
        table = await shown(pilot, retransmitting({i: 200 - i for i in range(1, 51)}))
        for _ in range(20):
            await pilot.press("down")
        await pilot.resize_terminal(120, 8)
        assert table.cursor == 20
        assert "p21" in order_of(table)
        assert "CWND" in text_of(app)[0]


async def test_other_colours_are_painted() -> None:
    app = Bench(BY_RETRANSMITS)
    async with app.run_test(size=(80, 10)) as pilot:
        table = await shown(pilot, retransmitting({1: 30, 2: 0}))
        before = table.render_line(2)
        app.theme = "textual-light"
        await pilot.pause()
        assert table.render_line(2) != before
        assert table.render_line(2).text == before.text


async def test_styles_bad_numbers_alone_are_coloured_and_segments_are_few() -> None:
    app = Bench(BY_RETRANSMITS)
    async with app.run_test(size=(80, 10)) as pilot:
        table = await shown(pilot, retransmitting({1: 30, 2: 1}))
        await pilot.press("end")
        bad, calm = list(table.render_line(1)), list(table.render_line(2))
        styles = {segment.text.strip(): segment.style or Style() for segment in bad}
        assert styles["30"].color == styles["! 90 loss"].color
        assert styles["30"].color not in {s.style.color for s in calm if s.style}
        assert len(bad) <= 8
        assert len(calm) <= 5


async def test_rows_of_equal_rank_do_not_change_places() -> None:
    app = Bench(BY_RETRANSMITS)
    rng = np.random.default_rng(1)
    async with app.run_test(size=(80, 30)) as pilot:
        for _ in range(3):
            counts = {int(c): 0 for c in rng.permutation(np.arange(1, 21))}
            table = await shown(pilot, retransmitting(counts))
            assert order_of(table) == [f"p{c}" for c in range(1, 21)]


async def test_another_sort_is_marked_in_the_header() -> None:
    app = Bench(BY_RETRANSMITS)
    async with app.run_test(size=(80, 6)) as pilot:
        flows = ticked(named("zsh", "awk"))
        table = await shown(pilot, make(flows, BY_NAME))
        assert "PROCESS^" in text_of(app)[0]
        assert "RETR RETR%" in text_of(app)[0]
        assert order_of(table) == ["awk", "zsh"]


class Unresized(ConnectionTable):
    """Has its place on the screen, and was not told so yet."""

    def on_resize(self, event: events.Resize) -> None:  # type: ignore[override]
        """Kept from the table."""
        event.prevent_default()


class Hasty(App[None]):
    def compose(self) -> ComposeResult:
        yield Unresized(Spec())


async def test_a_view_may_come_before_the_first_resize() -> None:
    async with Hasty().run_test(size=(80, 10)) as pilot:
        table = pilot.app.query_one(Unresized)
        table.show(make(Tracker().update(snapshot(0, [flow(1), flow(2)])), Spec()))
        await pilot.pause()
        assert len(table.columns) > 4
        assert text_of(pilot.app)[1].startswith(">")
