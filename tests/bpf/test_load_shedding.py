"""When less is asked of each connection."""

from __future__ import annotations

from tcptop_ops.bpf.load_shedding import CALM_S, FROM_PER_S, UNTIL_PER_S, LoadShedding


def is_on(light: LoadShedding) -> bool:
    return light.on


def test_it_begins_at_once_and_ends_when_it_has_been_calm_for_a_while() -> None:
    light, now = LoadShedding(), 1000.0
    assert not light.look(FROM_PER_S, 1.0, now)
    assert not is_on(light)
    assert light.look(FROM_PER_S + 1, 1.0, now + 1)
    assert is_on(light)
    assert not light.look(UNTIL_PER_S + 1, 1.0, now + 2)
    assert not light.look(0, 1.0, now + 2 + CALM_S / 2)
    assert is_on(light)
    assert light.look(0, 1.0, now + 2 + CALM_S)
    assert not is_on(light)


def test_in_between_it_stays_as_it_is() -> None:
    light = LoadShedding()
    for second in range(60):
        assert not light.look(FROM_PER_S - 1, 1.0, float(second))
    light.look(2 * FROM_PER_S, 1.0, 60.0)
    for second in range(61, 120):
        assert not light.look(UNTIL_PER_S + 1, 1.0, float(second))
    assert is_on(light)


def test_the_rate_is_of_a_second_whatever_the_delay() -> None:
    light = LoadShedding()
    assert not light.look(3 * FROM_PER_S, 5.0, 1.0)
    assert light.look(FROM_PER_S, 0.5, 2.0)
    assert not LoadShedding().look(10**9, 0.0, 1.0), "the first poll has no time behind it"
