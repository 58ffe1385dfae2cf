"""Findings in the order in which a screen shows them: each keeps its place for as long as it lasts. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tcptop_ops.model.flows import Finding

OVER_S = 10.0
"""How long a finding that is no longer told keeps its place, seconds: it may come back."""

SORTED_AGAIN_S = 20.0
"""How long the gravest must be another one until the order follows, seconds."""

MOST = 9
"""Most findings that have a place: each can be chosen by a digit."""


@dataclass(frozen=True)
class Place:
    """A finding on the screen. ``over_since``: when it was no longer told, CLOCK_REALTIME in seconds; None: it is."""

    finding: Finding
    over_since: float | None = None

    @property
    def is_over(self) -> bool:
        """Whether it is no longer told."""
        return self.over_since is not None


@dataclass(frozen=True)
class FindingPlaces:
    """Findings, at most MOST, by their place on the screen. A new one is put before the first that is less grave.

    ``basis``: the filter that they were told for. ``at``: the time of the tick, CLOCK_REALTIME in seconds;
    ``unsorted_since``: since when the gravest is not in the first place.
    """

    told: tuple[Place, ...] = ()
    basis: object = None
    at: float = 0.0
    unsorted_since: float | None = None

    def updated(self, findings: Sequence[Finding], now: float, basis: object, is_held: bool = False) -> FindingPlaces:
        """Return the places of the next tick. ``findings``: the gravest first, each with a key of its own.

        ``is_held``: the order stays, whatever is the gravest. With another ``basis``, and in a recording that went
        back, all are placed anew.
        """
        if basis is not self.basis or now < self.at:
            return FindingPlaces(tuple(map(Place, findings[:MOST])), basis, now)
        order = [one.key for one in findings]
        told = self._kept(findings, now)
        known = {place.finding.key for place in told}
        for rank, one in enumerate(findings):
            if one.key not in known:
                graver = {found.key for found in findings[:rank]}
                behind = (n for n, place in enumerate(told) if not place.is_over and place.finding.key not in graver)
                told.insert(next(behind, len(told)), Place(one))
        unsorted_since = None
        if not is_held and [place.finding.key for place in told if not place.is_over] != order:
            unsorted_since = now if self.unsorted_since is None else self.unsorted_since
            if now - unsorted_since >= SORTED_AGAIN_S:
                told = [*map(Place, findings), *(place for place in told if place.is_over)]
                unsorted_since = None
        return FindingPlaces(tuple(told[:MOST]), basis, now, unsorted_since)

    def _kept(self, findings: Sequence[Finding], now: float) -> list[Place]:
        """Return those that have a place already, as they are told now or as they were told last.

        Where a new one comes as another goes, with the same blame, it takes that place: the incident is told otherwise.
        """
        by_key = {one.key: one for one in findings}
        known = {place.finding.key for place in self.told}
        new = [one for one in findings if one.key not in known]
        kept = []
        for place in self.told:
            if (one := by_key.get(place.finding.key)) is not None:
                kept.append(Place(one))
            elif not place.is_over and (heir := next((one for one in new if one.blame == place.finding.blame), None)):
                new.remove(heir)
                kept.append(Place(heir))
            else:
                since = now if place.over_since is None else place.over_since
                if now - since < OVER_S:
                    kept.append(Place(place.finding, since))
        return kept


def numbered(places: Sequence[Place], room: int) -> list[tuple[int, Place]]:
    """Return the places that ``room`` lines have room for, each with its number from 1.

    What is over gives way to what is told.
    """
    found = list(enumerate(places, 1))
    while len(found) > room:
        over = [at for at, (_, place) in enumerate(found) if place.is_over]
        del found[over[-1] if over else -1]
    return found
