"""How the flows are looked at: the order, the filter, the mark, what is paused and what is followed. Pure.

A ``ViewState`` never changes: each key makes a new one of it. So the thread that makes the views may read the present
one at any time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from tcptop_ops.diagnosis.findings.tell import Narrowed, findings
from tcptop_ops.model.flows import Finding, Flows, Mark
from tcptop_ops.tracking import baseline
from tcptop_ops.views.column import Column
from tcptop_ops.views.column_lookup import find
from tcptop_ops.views.column_sets import DEFAULT, DEFAULT_SORT, SINCE_MARK
from tcptop_ops.views.finding_places import FindingPlaces
from tcptop_ops.views.view import Spec, View, make, matching, worst

if TYPE_CHECKING:
    from tcptop_ops.model.filter import Filter


@dataclass(frozen=True)
class MarkSet:
    """A mark, and how the flows were looked at when it was set."""

    mark: Mark
    before: Spec


@dataclass(frozen=True)
class FindingShown:
    """The filter of a finding, and the filter that was in force before; None: there was none."""

    filter: Filter
    before: Filter | None
    key: str = ""  # ``Finding.key``


@dataclass(frozen=True)
class ViewState:
    """What is on the screen, and why.

    ``spec``: what to show, and in which order. ``newest``: the last tick; ``shown``: the view on the screen, which is
    an older one while the picture is paused or the terminal is slow. Both are None before the first tick. ``places``:
    the findings as they stand above the table. ``filter_before``: while the filter bar is open, the filter that Escape
    goes back to. ``watched``: the cookie of the connection that the source looks closer at; ``selected``: that of the
    cursor; 0: none.
    """

    spec: Spec
    newest: View | None = None
    shown: View | None = None
    is_paused: bool = False
    is_following: bool = False
    mark_set: MarkSet | None = None
    places: FindingPlaces = field(default_factory=FindingPlaces)
    filter_before: Filter | None = None
    finding_shown: FindingShown | None = None
    watched: int = 0
    selected: int = 0

    # What follows from it

    @property
    def mark(self) -> Mark | None:
        """The mark that ticks are compared with; None where none is set."""
        return None if self.mark_set is None else self.mark_set.mark

    @property
    def can_mark(self) -> bool:
        """Whether a mark can be set or taken away: not before the first tick, and not in a paused picture."""
        return self.newest is not None and not self.is_paused

    @property
    def is_mark_ahead(self) -> bool:
        """Whether what is shown is older than the mark. Only a recording goes back in time."""
        return self.mark is not None and self.shown is not None and _now_ns(self.shown) < self.mark.at_ns

    @property
    def behind_s(self) -> float | None:
        """How much older than the last tick a paused picture is, seconds; None: it is not paused."""
        if not self.is_paused or self.shown is None or self.newest is None:
            return None
        return (_now_ns(self.newest) - _now_ns(self.shown)) / 1e9

    @property
    def is_behind(self) -> bool:
        """Whether there is a newer view than the one shown, which should be shown."""
        return self.newest is not None and not self.is_paused and self.newest is not self.shown

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What was found in the flows that are shown, the gravest first; while one of these is shown: all of them."""
        if self.shown is None:
            return ()
        if self.finding_shown is None or not self.is_finding_shown:
            return self.shown.findings
        flows, before = self.shown.flows, self.finding_shown.before
        return flows.findings if before is None else findings(flows, Narrowed(matching(flows, before), before.text))

    @property
    def is_finding_shown(self) -> bool:
        """Whether the filter in force is that of a finding."""
        return self.finding_shown is not None and self.spec.filter is self.finding_shown.filter

    @property
    def finding_key(self) -> str:
        """The key of the finding whose rows are shown; "" if there is none."""
        return self.finding_shown.key if self.finding_shown is not None and self.is_finding_shown else ""

    @property
    def worst_row(self) -> int | None:
        """The row that the cursor follows; None: it follows none, or there are no rows."""
        return worst(self.shown) if self.is_following and self.shown is not None else None

    def cookie_at(self, row: int | None) -> int | None:
        """Return the cookie of a shown row, the identity (negative) of a group; None where there is no row."""
        found = [] if self.shown is None or row is None else self.shown.cookies(row, row + 1)
        return found[0] if found else None

    def to_save(self, delay_s: float, theme: str, names: bool) -> dict[str, Any]:
        """Return what the settings file shall keep, by its names there.

        The columns of a mark last only as long as the mark, and so does an order by one of them.
        """
        lasting = self.spec if self.mark_set is None else self.mark_set.before
        sorted_by = lasting if self.spec.sort.screen_only else self.spec
        return {
            "delay": delay_s,
            "sort": f"{sorted_by.sort.id}:{'desc' if sorted_by.falling else 'asc'}",
            "columns": None if lasting.columns == _default() else tuple(column.id for column in lasting.columns),
            "theme": theme,
            "names": names,
            "group": self.spec.group,
            "show_closed": self.spec.show_closed,
            "loopback": self.spec.show_loopback,
            "widths": dict(self.spec.widths),
        }

    # Ticks

    def received(self, view: View) -> ViewState:
        """Return the state with a newer tick, which is not shown yet."""
        return replace(self, newest=view)

    def caught_up(self) -> ViewState:
        """Return the state that shows the last tick.

        Its view is made again where it was made before the last key, and so for another spec, or another mark.
        """
        if self.newest is None:
            return self
        if self.newest.spec is self.spec:
            return replace(self, shown=self.newest)
        return replace(self, shown=make(replace(self.newest.flows, mark=self.mark), self.spec))

    def paused(self, kept: Flows) -> ViewState:
        """Return the state whose picture stays as it is.

        ``kept``: the flows that are shown, in arrays of their own, since a source uses its arrays again.
        """
        return replace(self, is_paused=True, shown=make(kept, self.spec))

    def resumed(self) -> ViewState:
        """Return the state that shows each tick again, beginning with the last."""
        return replace(self, is_paused=False).caught_up()

    # Order and rows

    def looking(self, spec: Spec) -> ViewState:
        """Return the state that shows the same flows in another way."""
        return replace(self, spec=spec, shown=None if self.shown is None else make(self.shown.flows, spec))

    def sorted_by(self, column: Column) -> ViewState:
        """Return the state sorted by this column, in its usual direction; as it is, where it is sorted so already."""
        if column is self.spec.sort:
            return self
        return self.looking(replace(self.spec, sort=column, falling=column.falling))

    def sorted_by_nth(self, n: int, columns: Sequence[Column]) -> ViewState:
        """Return the state sorted by the nth of these columns, from 1; as it is, where there are fewer."""
        return self.sorted_by(columns[n - 1]) if n <= len(columns) else self

    def sorted_beside(self, steps: int, columns: Sequence[Column]) -> ViewState:
        """Return the state sorted by a neighbour, among these columns, of the one that it is sorted by.

        Where that is not among them: by the first.
        """
        if self.spec.sort in columns:
            return self.sorted_by(columns[min(max(columns.index(self.spec.sort) + steps, 0), len(columns) - 1)])
        return self.sorted_by(columns[0]) if columns else self

    def sorted_by_title(self, column: Column) -> ViewState:
        """Return the state after a click on a column's title: sorted by it, or by it the other way round."""
        return self.reversed() if column is self.spec.sort else self.sorted_by(column)

    def reversed(self) -> ViewState:
        """Return the state sorted the other way round."""
        return self.looking(replace(self.spec, falling=not self.spec.falling))

    def closed_toggled(self) -> ViewState:
        """Return the state that shows closed connections, or hides them."""
        return self.looking(replace(self.spec, show_closed=not self.spec.show_closed))

    def loopback_toggled(self) -> ViewState:
        """Return the state that shows what stays on this host, or hides it."""
        return self.looking(replace(self.spec, show_loopback=not self.spec.show_loopback))

    def with_columns(
        self, chosen: tuple[Column, ...], widths: Mapping[str, int], on_screen: tuple[Column, ...]
    ) -> ViewState:
        """Return the state with these columns, and with widths (by column id) for those that have not their usual one.

        Where the columns on the screen were chosen again, the set goes on adapting to the width of the terminal.
        """
        columns = self.spec.columns if chosen == on_screen else chosen
        return self.looking(replace(self.spec, columns=columns, widths=widths))

    def grouped_by(self, key: str) -> ViewState:
        """Return the state grouped by a key of ``GROUP_KEYS``, or by "none"; every group is folded."""
        if key == self.spec.group:
            return self
        return self.looking(replace(self.spec, group=key, unfolded=frozenset()))

    def folded(self, identity: int, unfold: bool) -> ViewState:
        """Return the state that shows the connections of the group with this identity, or hides them."""
        unfolded = self.spec.unfolded | {identity} if unfold else self.spec.unfolded - {identity}
        return self.looking(replace(self.spec, unfolded=unfolded))

    # The cursor

    def selecting(self, row: int | None) -> ViewState:
        """Return the state with the cursor on this row. A group is no connection; no row leaves it as it was."""
        cookie = self.cookie_at(row)
        return self if cookie is None else replace(self, selected=max(cookie, 0))

    def watching(self, cookie: int) -> ViewState:
        """Return the state in which the source looks closer at this connection; 0: at none."""
        return replace(self, watched=cookie)

    def following(self, on: bool) -> ViewState:
        """Return the state whose cursor stays on the worst connection, or no longer does."""
        return replace(self, is_following=on)

    # The filter

    def filtered_by(self, filter: Filter | None) -> ViewState:
        """Return the state that shows the rows of this filter; None: all."""
        return self.looking(replace(self.spec, filter=filter))

    def filter_opened(self) -> ViewState:
        """Return the state that knows which filter to go back to."""
        return replace(self, filter_before=self.spec.filter)

    def filter_closed(self, keep: bool) -> ViewState:
        """Return the state with the filter that was written, or with the one from before."""
        return self.filtered_by(self.spec.filter if keep else self.filter_before)

    def finding_entered(self, finding: Finding) -> ViewState:
        """Return the state that shows the rows of this finding."""
        from tcptop_ops.filters import compiler  # its parser takes long to import: not before it is needed

        before = self._filter_of_findings
        wanted = compiler.compile(finding.filter)
        shown = FindingShown(wanted, before, finding.key)
        return replace(self, finding_shown=shown).filtered_by(wanted)

    @property
    def _filter_of_findings(self) -> Filter | None:
        """The filter that rows of findings must match: the user's own."""
        if self.finding_shown is not None and self.is_finding_shown:
            return self.finding_shown.before
        return self.spec.filter

    def placed(self) -> ViewState:
        """Return the state with the places of the findings that are told now.

        The filter of the one whose rows are shown follows it, as its rows come and go.
        """
        if self.shown is None:
            return self
        found = self.findings
        now, basis = self.shown.flows.snapshot.time, self._filter_of_findings
        state = replace(self, places=self.places.updated(found, now, basis, is_held=self.is_finding_shown))
        current = next((one for one in found if one.key == self.finding_key != ""), None)
        if current is None or self.spec.filter is None or current.filter == self.spec.filter.text:
            return state
        return state.finding_entered(current)

    def finding_left(self) -> ViewState:
        """Return the state with the filter from before the finding."""
        before = None if self.finding_shown is None else self.finding_shown.before
        return replace(self, finding_shown=None).filtered_by(before)

    # The mark

    def marked(self) -> ViewState:
        """Return the state that tells what has changed since the last tick. See ``can_mark``.

        The columns for that take the place of the default set, and of no other.
        """
        if self.newest is None:
            return self
        columns = tuple(map(find, SINCE_MARK)) if self.spec.columns == _default() else self.spec.columns
        mark_set = MarkSet(baseline.take(self.newest.flows), self.spec)
        return replace(self, mark_set=mark_set, spec=replace(self.spec, columns=columns))._newest_again()

    def unmarked(self) -> ViewState:
        """Return the state without the mark, with the columns from before it."""
        if self.mark_set is None:
            return self
        sort = find(DEFAULT_SORT) if self.spec.sort.screen_only else self.spec.sort
        spec = replace(self.spec, columns=self.mark_set.before.columns, sort=sort)
        return replace(self, mark_set=None, spec=spec)._newest_again()

    def _newest_again(self) -> ViewState:
        """Return the state that shows the last tick, told by the mark that is set now."""
        if self.newest is None:
            return self
        view = make(replace(self.newest.flows, mark=self.mark), self.spec)
        return replace(self, newest=view, shown=view)


def _default() -> tuple[Column, ...]:
    return tuple(map(find, DEFAULT))


def _now_ns(view: View) -> int:
    return view.flows.snapshot.now_ns
