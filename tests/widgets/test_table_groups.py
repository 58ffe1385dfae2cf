"""The table of groups: what a group's row says, folding, and what is painted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tcptop_ops.model.enums import State
from tcptop_ops.tracking.tracker import Tracker
from tcptop_ops.views.column import Column
from tcptop_ops.views.column_lookup import find
from tcptop_ops.views.column_sets import parse_list
from tcptop_ops.views.columns import COLUMNS, GROUP
from tcptop_ops.views.view import Spec, View, make
from tcptop_ops.widgets.table.cell_text import lines
from tcptop_ops.widgets.table.column_fit import fit, total_width
from tests.support.fakes import BOOT_NS, finals, flow, snapshot
from tests.support.screens import text_of
from tests.support.table_bench import BY_RETRANSMITS, Bench, named, shown, ticked

GROUPED = Spec(sort=find("retrans_win"), group="process")


def in_groups(counts: dict[int, int], spec: Spec = GROUPED, **fields: Any) -> View:
    """Even cookies belong to even, odd ones to odd; so many retransmits by cookie."""
    flows = [flow(c, name=(b"odd" if c % 2 else b"even"), pid=100 + c, **fields) for c in counts]
    after = [one | {"retrans_segs": counts[one["cookie"]]} for one in flows]
    return make(ticked(flows, after), spec)


def opened(view: View, *positions: int) -> View:
    identities = [view.cookies()[position] for position in positions]
    return make(view.flows, replace(view.spec, unfolded=frozenset(identities)))


def heads(view: View, width: int = 100) -> list[str]:
    """The cells of the first column, blanks at their ends left out."""
    layout = fit(view.spec.columns, view.spec.sort, width, None, True)
    return [line.cells[0].rstrip() for line in lines(view, layout, 0, 99, 0)]


@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: column.id)
def test_groups_never_need_scrolling_either(column: Column) -> None:
    for width in range(40, 301):
        layout = fit(GROUPED.columns, column, width, None, True)
        assert total_width(layout) <= width
        assert layout[0].column is GROUP
        assert "process" not in [placed.column.id for placed in layout] or column.id == "process"
        assert column.id == "connections" or column in [placed.column for placed in layout]


def test_a_group_tells_its_name_and_how_many_it_has_and_a_connection_who_has_it() -> None:
    view = in_groups({1: 50, 2: 9, 3: 1, 5: 0})
    assert heads(view) == ["[+] odd                3", "[+] even               1"]
    assert heads(opened(view, 0)) == [
        "[-] odd                3",
        "    pid 101",
        "    pid 103",
        "    pid 105",
        "[+] even               1",
    ]
    states = make(view.flows, replace(view.spec, group="state"))
    assert heads(opened(states, 0)) == ["[-] ESTAB              4", "    odd", "    even", "    odd", "    odd"]


def test_where_no_column_tells_the_peer_the_first_does() -> None:
    view = opened(in_groups({1: 50}), 0)
    assert heads(view, 60) == ["[-] odd               1", "    10.0.0.2:443"]


def test_long_names_of_groups_are_cut_where_they_do_not_differ() -> None:
    flows = ticked([flow(1, name=b"a" * 32, peer=("2001:db8:1111:2222:3333:4444:5555:6666", 443))])
    assert heads(make(flows, Spec(group="process")), 60) == ["[+] aaaaaaaaaaaaaaa~ 1"]
    cut = heads(make(flows, Spec(group="remote")), 60)[0]
    assert cut.startswith("[+] 2001:~")
    assert cut.endswith("5555:6666 1")


def test_sums_are_not_judged_and_differences_are_dashes() -> None:
    columns = parse_list("retr,retr%,state,pid,process,peer")
    view = opened(in_groups({1: 15, 3: 15}, data_segs_out=10), 0)
    layout = fit(columns, find("retr"), 100, None, True)
    of_group, of_one, _ = lines(view, layout, 0, 9, 0)
    assert [cell.strip() for cell in of_group.cells[1:]] == ["30", "-", "ESTAB", "-", "odd", "10.0.0.2:443"]
    assert [cell.strip() for cell in of_one.cells[1:]] == ["15", "-", "ESTAB", "101", "odd", "10.0.0.2:443"]
    assert (of_group.levels[1], of_one.levels[1]) == (0, 1)


def test_your_session_is_marked_in_its_group() -> None:
    view = opened(in_groups({1: 2, 2: 1}, replace(GROUPED, group="state")), 0)
    assert heads(make(replace(view.flows, session=2), view.spec)) == [
        "[-] ESTAB              2",
        "    odd",
        "    even *you",
    ]


def test_a_group_is_never_new_and_closed_when_all_of_it_is() -> None:
    tracker = Tracker()
    tracker.update(snapshot(0, []))
    closed = finals([flow(9, name=b"gone")], BOOT_NS + int(1e9), from_state=State.ESTABLISHED)
    flows = tracker.update(snapshot(1, named("here"), closed))
    view = make(flows, Spec(group="process", sort=find("process"), falling=False))
    layout = fit(view.spec.columns, view.spec.sort, 100, None, True)
    assert [(line.mark, line.closed) for line in lines(view, layout, 0, 9, 0)] == [("x", True), (" ", False)]
    assert [line.mark for line in lines(opened(view, 1), layout, 0, 9, 0)] == ["x", " ", "+"]


async def test_the_header_says_by_what_it_is_grouped_and_a_click_sorts_by_the_count() -> None:
    app = Bench(GROUPED)
    async with app.run_test(size=(80, 10)) as pilot:
        table = await shown(pilot, in_groups({1: 50, 2: 9}))
        assert text_of(app)[0].startswith("  BY PROCESS        CONNS SCR CAUSE")
        await pilot.click(table, offset=(5, 0))
        await pilot.click(table, offset=(25, 0))
        assert [column.id for column in app.clicked] == ["connections", "score"]
        assert GROUP not in table.columns
        await shown(pilot, in_groups({1: 50, 2: 9}, replace(GROUPED, sort=find("connections"))))
        assert text_of(app)[0].startswith("  BY PROCESS       CONNSv SCR CAUSE")


async def test_the_cursor_stays_on_its_group() -> None:
    app = Bench(GROUPED)
    async with app.run_test(size=(80, 10)) as pilot:
        table = await shown(pilot, in_groups({1: 50, 2: 9}))
        await pilot.press("down")
        assert text_of(app)[2].startswith(">![+] even")
        await shown(pilot, in_groups({1: 50, 2: 90}))
        assert table.cursor == 0
        assert text_of(app)[1].startswith(">![+] even")


async def test_the_cursor_goes_with_its_connection_into_a_group_and_out_again() -> None:
    app = Bench(GROUPED)
    async with app.run_test(size=(80, 10)) as pilot:
        table = await shown(pilot, make(in_groups({1: 50, 2: 9, 3: 20}).flows, BY_RETRANSMITS))
        await pilot.press("down")
        await shown(pilot, in_groups({1: 50, 2: 9, 3: 20}))
        assert text_of(app)[1].startswith(">![+] odd")
        await shown(pilot, opened(in_groups({1: 50, 2: 9, 3: 20}), 0))
        assert text_of(app)[3].startswith(">!    pid 103")
        assert table.cursor == 2


async def test_left_and_right_fold_and_unfold_unless_the_columns_are_too_wide() -> None:
    app = Bench(GROUPED)
    async with app.run_test(size=(80, 10)) as pilot:
        view = in_groups({1: 50, 2: 9, 3: 20})
        table = await shown(pilot, view)
        await pilot.press("left", "right")
        assert app.folded == [(view.cookies()[0], True)]
        await shown(pilot, opened(view, 0))
        await pilot.press("right", "down", "down", "right", "left")
        assert table.cursor == 0
        await pilot.press("left")
        assert app.folded == [(view.cookies()[0], True), (view.cookies()[0], False)]
        await shown(pilot, make(view.flows, replace(GROUPED, columns=parse_list("all"))))
        await pilot.press("right")
        assert len(app.folded) == 2
        assert table.scroll_x > 0


async def test_a_changed_group_alone_is_painted() -> None:
    app = Bench(GROUPED)
    async with app.run_test(size=(80, 10)) as pilot:
        table = await shown(pilot, in_groups({1: 50, 2: 9, 3: 20}))
        table.forget()
        await shown(pilot, in_groups({1: 50, 2: 9, 3: 20}))
        assert table.painted == []
        await shown(pilot, in_groups({1: 50, 2: 8, 3: 20}))
        assert set(table.painted) == {2}
