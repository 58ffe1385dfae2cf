"""The fifteen operators: their pages, and their arguments in words."""

from __future__ import annotations

import pytest

from tcptop_ops.explain.operators import OPERATORS, decoded, find, is_partial
from tcptop_ops.model.enums import State


def of(name: str) -> str:
    found = find(name)
    assert found is not None
    return found.name


def test_there_are_fifteen_each_with_a_page() -> None:
    assert [one.number for one in OPERATORS] == list(range(1, 16))
    for one in OPERATORS:
        assert all((one.short, one.when, one.arguments, one.path, one.tells))
        assert "()" in one.path


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("RETRANS_CB", "RETRANS_CB"),
        ("retrans", "RETRANS_CB"),
        ("connect", "TCP_CONNECT_CB"),
        ("BPF_SOCK_OPS_RTO_CB", "RTO_CB"),
        ("Needs_Ecn", "NEEDS_ECN"),
    ],
)
def test_it_is_found_however_it_is_written(written: str, name: str) -> None:
    assert of(written) == name


def test_what_is_none_is_not_found() -> None:
    assert find("loss") is None


@pytest.mark.parametrize(
    ("name", "args", "words"),
    [
        ("RTO_CB", (1, 204, 0), "timeout 2 in a row, after 204 jiffies"),
        ("RTO_CB", (6, 60000, 1), "timeout 7 in a row, after 60000 jiffies, gave up"),
        ("RETRANS_CB", (77, 1, 0), "1 segment"),
        ("RETRANS_CB", (77, 3, 11), "3 segments, not sent: error 11"),
        ("STATE_CB", (State.ESTABLISHED, State.CLOSE_WAIT, 0), "ESTAB -> CLOSE-WAIT"),
        ("STATE_CB", (99, 7, 0), "99 -> UNCONN"),
        ("RTT_CB", (30_000, 40_000 << 3, 0), "sample 30ms, srtt 40ms"),
        ("RTT_CB", (0, 0, 0), ""),
        ("TIMEOUT_INIT", (1, 2, 3), ""),
    ],
)
def test_arguments_in_words(name: str, args: tuple[int, int, int], words: str) -> None:
    found = find(name)
    assert found is not None
    assert decoded(found, args) == words


def test_counts_of_packets_are_partial_where_the_flag_retires() -> None:
    partial = {one.name for one in OPERATORS if is_partial(one, "all")}
    assert partial == {"RTT_CB", "PARSE_HDR_OPT_CB", "HDR_OPT_LEN_CB", "WRITE_HDR_OPT_CB"}
    assert not any(is_partial(one, "every") for one in OPERATORS)
