"""Define the table of keys: bindings, help, command palette and the settings file are generated from it."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class KeyAction:
    """An action and its keys. ``id``: its name in the settings file; ``keys``: Textual's names, separated by commas.

    ``words``: a short label, shown in the key bar if ``bar`` is set; entries with the same label share a line of the
    help. ``told``: a longer label for palette and help, "" if there is none. ``priority``: the key works before any
    widget's.
    """

    id: str
    keys: str
    action: str
    words: str
    bar: bool = False
    priority: bool = False
    told: str = ""


NTH = "Sort by the nth column"
NEXT = "Sort by the next column, left or right"
DELAY = "Longer or shorter delay"

APP: tuple[KeyAction, ...] = (
    KeyAction("quit", "q,f10", "app.quit", "Quit", bar=True),
    KeyAction("interrupt", "ctrl+c", "app.quit", "Quit", priority=True),
    KeyAction("filter", "slash", "filter", "Filter", bar=True, told="Write a filter"),
    KeyAction("filter.clear", "backslash", "clear_filter", "Clear the filter"),
    KeyAction("filter.process", "p", "only_process", "Only this process"),
    KeyAction("filter.remote", "a", "only_remote", "Only this remote address"),
    KeyAction("sort.menu", "s,f6", "sort_menu", "Sort", bar=True, told="Sort by any column"),
    KeyAction("sort.left", "less_than_sign", "move_sort(-1)", NEXT),
    KeyAction("sort.right", "greater_than_sign", "move_sort(1)", NEXT),
    *(KeyAction(f"sort.{n}", f"{n}", f"sort_nth({n})", NTH) for n in range(1, 10)),
    KeyAction("sort.retransmits", "x", "sort_retransmits", "Retrans", bar=True, told="Sort by retransmits"),
    KeyAction(
        "finding", "f", "finding", "Finding", bar=True, told="Rows of a finding; of several by their digit, as f 2"
    ),
    KeyAction("finding.leave", "escape", "finding_left", "All rows again, after a finding"),
    KeyAction("detail", "enter", "app.detail", "Detail", bar=True, told="All about this connection"),
    KeyAction("other_end", "b", "app.other_end", "Other end", told="Go to the other end, or the listener it waits for"),
    KeyAction("pause", "space", "pause", "Pause", bar=True, told="Keep the picture; the world goes on"),
    KeyAction(
        "group", "g,f5", "group_menu", "Group", bar=True, told="Group by process, remote, port, service or state"
    ),
    KeyAction(
        "operators", "o", "app.operators", "Operators", bar=True, told="What the kernel calls: the fifteen operators"
    ),
    KeyAction("host", "H", "app.host", "The host", told="The host: memory, tables, queues, drops, and limits"),
    KeyAction("sort.reverse", "r", "reverse", "Reverse", bar=True, told="Sort the other way round"),
    KeyAction("closed", "c", "closed", "Closed", bar=True, told="Show or hide closed connections"),
    KeyAction("columns", "C,f2", "columns", "Choose columns"),
    KeyAction("loopback", "L", "loopback", "Show or hide loopback"),
    KeyAction("names", "n", "app.names", "Names or numbers"),
    KeyAction("follow", "F", "follow", "Follow the worst"),
    KeyAction("mark", "m", "mark", "Mark: what has changed since"),
    KeyAction(
        "elsewhere", "y", "app.elsewhere", "Filters for other tools", told="What shows it in ss, in tcpdump, and here"
    ),
    KeyAction(
        "close", "K,f9", "app.close_connection", "Close the connection", told="Close the connection (--allow-close)"
    ),
    KeyAction("self", "i", "app.own_cost", "What this program itself costs"),
    KeyAction("theme", "T", "app.theme", "Next theme"),
    KeyAction("save", "w", "app.save", "Save settings"),
    KeyAction("flight", "R", "app.save_flight", "Save the last minutes", told="Save the last minutes as a recording"),
    KeyAction("delay.longer", "plus", "app.delay(1)", DELAY),
    KeyAction("delay.shorter", "minus", "app.delay(-1)", DELAY),
    KeyAction("help", "question_mark,f1", "app.help", "Help", bar=True, told="Keys, filters, marks, columns"),
)
"""Every key of the main screen and of the application behind it, once; help and bindings are made from it."""


_MOVE = "Down and up"
_PAGE = "A page down and up"
_SIDE = "Sideways, or fold and unfold a group"

TABLE: tuple[KeyAction, ...] = (
    KeyAction("table.down", "down,j", "move(1)", _MOVE),
    KeyAction("table.up", "up,k", "move(-1)", _MOVE),
    KeyAction("table.page_down", "pagedown", "page(1)", _PAGE),
    KeyAction("table.page_up", "pageup", "page(-1)", _PAGE),
    KeyAction("table.first", "home", "first", "The first row, whichever comes there"),
    KeyAction("table.last", "end", "last", "The last row"),
    KeyAction("table.right", "right", "sideways(8)", _SIDE),
    KeyAction("table.left", "left", "sideways(-8)", _SIDE),
)
"""Every key that moves in the table of connections or folds a group, once."""


_TICK = "A tick back and on"
_SKIP = "Ten seconds back and on"
_LEAP = "A tenth of the recording back and on"
_ENDS = "The start and the end of the recording"

REPLAY: tuple[KeyAction, ...] = (
    KeyAction("replay.worst", "W", "worst", "Worst", bar=True, told="The worst moment; again: the next one"),
    KeyAction("replay.back", "comma", "step(-1)", _TICK),
    KeyAction("replay.on", "full_stop", "step(1)", _TICK),
    KeyAction("replay.earlier", "left_square_bracket", "skip(-10)", _SKIP),
    KeyAction("replay.later", "right_square_bracket", "skip(10)", _SKIP),
    KeyAction("replay.far_earlier", "left_curly_bracket", "leap(-1)", _LEAP),
    KeyAction("replay.far_later", "right_curly_bracket", "leap(1)", _LEAP),
    KeyAction("replay.start", "0", "to_start", _ENDS),
    KeyAction("replay.end", "dollar_sign", "to_end", _ENDS),
)
"""Keys that exist only while a recording is played."""

_SPEED = "Faster or slower"
MEANT = {
    "pause": ("Play", "Play, or stop"),
    "delay.longer": (_SPEED, ""),
    "delay.shorter": (_SPEED, ""),
}
"""Labels (``words``, ``told``) of app keys that differ while a recording is played, by id."""

REPLAY_APP: tuple[KeyAction, ...] = tuple(
    replace(key, words=MEANT[key.id][0], told=MEANT[key.id][1]) if key.id in MEANT else key for key in APP
)
"""The keys of the main screen while a recording is played."""


KEYS = APP + TABLE + REPLAY
"""Every key that the settings file may change."""
