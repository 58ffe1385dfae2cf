"""Which frames are key frames."""

from __future__ import annotations

from tcptop_ops.recording.key_frames import KEY_EVERY, KeyFramePolicy


def keys(policy: KeyFramePolicy, sizes: list[int]) -> list[int]:
    """The places of the key frames among frames of these sizes."""
    found = []
    for at, size in enumerate(sizes):
        is_key = policy.is_due
        policy.add(size, is_key)
        if is_key:
            found.append(at)
    return found


def test_the_first_and_then_each_so_many() -> None:
    assert keys(KeyFramePolicy(), [10**9] * (2 * KEY_EVERY + 1)) == [0, KEY_EVERY, 2 * KEY_EVERY]


def test_within_a_size_as_soon_as_there_is_much_between_two() -> None:
    assert keys(KeyFramePolicy(100), [60, 30, 20, 1, 150, 1]) == [0, 3, 5]


def test_a_new_sequence_begins_with_one() -> None:
    policy = KeyFramePolicy()
    keys(policy, [1, 1, 1])
    policy.restart()
    assert keys(policy, [1, 1]) == [0]
    assert not policy.is_due


def test_a_frame_that_was_not_written_does_not_count() -> None:
    policy = KeyFramePolicy()
    assert policy.is_due
    assert policy.is_due
