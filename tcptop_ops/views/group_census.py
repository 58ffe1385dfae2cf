"""How many of a group's rows are in which state."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tcptop_ops.diagnosis.findings.bad_rows import BAD_SCORE
from tcptop_ops.diagnosis.rules import CAUSES
from tcptop_ops.model.enums import State
from tcptop_ops.views.column_readers import ColumnReader, Values
from tcptop_ops.views.group_keys import Words, process_words, remote_words
from tcptop_ops.views.groups import Groups
from tcptop_ops.views.word_arrays import hash_rows, order_of, run_starts

# Figures about one group


@dataclass(frozen=True)
class Census:
    """What is in a group: counts, and its bad connections.

    ``connections`` counts all rows, listeners and closed ones included. ``causes``: name and count of each cause of the
    bad rows, the most frequent first.
    """

    connections: int
    listeners: int
    closed: int
    bad: int
    causes: tuple[tuple[str, int], ...]
    processes: int  # distinct process names
    remotes: int  # distinct remote addresses
    worst: tuple[int, ...]  # indices of bad rows, the highest score first


def census(groups: Groups, group: int, most: int = 3) -> Census:
    """Count what is in a group. ``most``: maximum length of ``worst``."""
    flows, rows = groups.flows, np.sort(groups.rows(group))
    edge = len(flows.live)
    few = 4 * len(rows) < len(flows)
    which = (rows[rows < edge], rows[rows >= edge] - edge) if few else ()
    parts = [part.take(some) for part, some in zip((flows.live, flows.closed), which, strict=False)]

    def of_rows(read: ColumnReader) -> Values:
        if few:
            return np.concatenate([read(part, flows) for part in parts])
        return np.take(flows.column(read), rows, axis=0)

    scores, causes = of_rows(lambda part, _: part.rates["score"]), of_rows(lambda part, _: part.rates["cause"])
    bad = np.flatnonzero(scores >= BAD_SCORE)
    counts = np.bincount(causes[bad], minlength=len(CAUSES))
    frequent = [n for n in np.argsort(-counts, kind="stable").tolist() if counts[n]]
    cookies = of_rows(lambda part, _: part.sockets["cookie"])[bad]
    ranked = bad[np.lexsort((cookies, -np.rint(scores[bad])))][:most]
    return Census(
        len(rows),
        int(of_rows(lambda part, _: part.sockets["state"] == State.LISTEN).sum()),
        int((rows >= edge).sum()),
        len(bad),
        tuple((CAUSES[n].name, int(counts[n])) for n in frequent),
        _how_many(of_rows(process_words)),
        _how_many(of_rows(remote_words)),
        tuple(rows[ranked].tolist()),
    )


def _how_many(words: Words) -> int:
    """Return the number of distinct keys; keys of zeros alone mean "not known" and are not counted."""
    hashes = hash_rows(words[words.any(axis=1)])
    return len(run_starts(hashes[order_of(hashes)][:, None]))
