"""A compiled filter: its text and the test that it is over arrays of rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from tcptop_ops.model.arrays import Mask
from tcptop_ops.model.flows import Flows, Rows

Test = Callable[[Rows, Flows], Mask]


@dataclass(frozen=True)
class Filter:
    """A compiled filter. ``text`` is its source; two filters with the same text are equal."""

    text: str
    _test: Test = field(compare=False, repr=False)

    def mask(self, rows: Rows, flows: Flows) -> Mask:
        """Return whether each row matches, as ``NDArray[np.bool_]``, one element per row."""
        return self._test(rows, flows) if len(rows) else np.zeros(0, np.bool_)
