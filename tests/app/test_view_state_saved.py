"""What of a ViewState is saved as settings."""

from __future__ import annotations

from typing import Any

from tcptop_ops.app.view_state import ViewState
from tcptop_ops.views.column_lookup import find
from tcptop_ops.views.column_sets import DEFAULT_SORT, parse_list
from tests.support.view_states import at


def saved(state: ViewState) -> dict[str, Any]:
    return state.to_save(2.0, "dark", True)


def test_what_is_saved_has_the_names_and_the_order_of_the_settings() -> None:
    assert saved(at(sort=find("srtt_us"), falling=False, widths={"process": 20})) == {
        "delay": 2.0,
        "sort": "srtt_us:asc",
        "columns": None,
        "theme": "dark",
        "names": True,
        "group": "none",
        "show_closed": True,
        "loopback": True,
        "widths": {"process": 20},
    }
    assert list(saved(at())) == [
        *("delay", "sort", "columns", "theme", "names", "group", "show_closed", "loopback", "widths")
    ]


def test_what_was_changed_by_keys_is_saved() -> None:
    state = at().closed_toggled().loopback_toggled().grouped_by("process").reversed()
    state = state.with_columns(parse_list("process,srtt"), {}, ())
    told = saved(state)
    assert told["columns"] == ("process", "srtt_us")
    assert (told["group"], told["show_closed"], told["loopback"]) == ("process", False, False)
    assert told["sort"] == f"{DEFAULT_SORT}:asc"


def test_what_lasts_as_long_as_a_mark_is_not_saved() -> None:
    marked = at(sort=find("srtt_us")).marked()
    assert saved(marked)["columns"] is None
    assert saved(marked.sorted_by(find("mark_retrans")))["sort"] == "srtt_us:desc"
    assert saved(marked.sorted_by(find("cwnd")))["sort"].startswith("cwnd:")
