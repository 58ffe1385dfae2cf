"""Where values are in an array of distinct ones."""

from __future__ import annotations

import numpy as np
import pytest

from tcptop_ops.model.arrays import places_of


@pytest.mark.parametrize("among", [0, 1, 63, 64, 3000])
@pytest.mark.parametrize("wanted", [0, 1, 63, 64, 5000])
@pytest.mark.parametrize("most", [2**13, 2**64 - 1])
def test_as_a_dictionary_tells(among: int, wanted: int, most: int) -> None:
    random = np.random.default_rng(among * 7 + wanted)
    keys = random.permutation(np.unique(random.integers(0, most, 2 * among, np.uint64)))[:among]
    asked = np.concatenate([random.integers(0, most, wanted, np.uint64), keys[: wanted // 2]])
    places = {key: at for at, key in enumerate(keys.tolist())}
    assert places_of(asked, keys).tolist() == [places.get(value, -1) for value in asked.tolist()]
