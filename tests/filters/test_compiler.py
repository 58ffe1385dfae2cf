"""The filter language by hand, and where filters are used."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from tcptop_ops.filters import array_tests, compiler
from tcptop_ops.filters.compiler import NAMES, SIZES, both, compile, of_pids
from tcptop_ops.model.enums import STATE_NAMES
from tcptop_ops.tracking.tracker import Tracker
from tcptop_ops.views.column_lookup import COLUMNS_BY_NAME, find
from tcptop_ops.views.columns import COLUMNS
from tcptop_ops.views.view import Spec, make
from tests.support.fakes import flow, scrambled, snapshot
from tests.support.filter_fleet import FLEET, LIVE, cookies, mask, refused


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("srtt > 20ms and cookie < 9", [2, 4, 7, 8]),  # the others: 30 ms
        ("srtt = 20ms and cookie = 1", [1]),
        ("srtt_us >= 20000 and srtt < 20.001ms", [1]),
        ("srtt = 20001us", [2]),
        ("srtt <= 9us", [51]),
        ("srtt > 0 and srtt < .01ms", [51]),
        ("retr% > 2", [11]),
        ("retr% >= 1%", [11, 12]),
        ("retr >= 5", [11]),
        ("tx > 1MB/s", [11]),
        ("tx >= 500kB/s", [11, 12]),
        ("tx >= 4Mbit/s", [11, 12]),
        ("tx >= 4Mbps", [11, 12]),
        ("tx >= 500k", [11, 12]),
        ("bytes_acked = 2GiB", [11]),
        ("bytes_acked = 2147483648 or bytes_acked = 1MB", [11, 12]),
        ("bytes_received = 1.5k", [11]),
        ("age < 1.9s", [50, 51]),
        ("age < 5m and cookie = 10", []),  # not known of a listed one
        ("closed_s = 0.5s", [50, 51]),
        ("closed_s = 500ms", [50, 51]),
        ("closed_s = 0.5", [50, 51]),
        ("port = 22", [5, 7, 8]),
        ("port = 40001", [1, 8]),
        ("port < 100", [3, 5, 7, 8]),
        ("port != 443", [2, 3, 5, 6, 7, 8]),
        ("not port = 443", [2, 3, 5, 6, 7, 8]),
        ("rport != 443", [2, 3, 7, 8]),
        ("host = 2001:db8::/32", [4]),
        ("host=2001:db8:1::/48", [4]),
        ("host = ::/0", [4, 6, 7, 8]),
        ("host != 0.0.0.0/0", [4, 6, 7, 8]),
        ("host = ::ffff:10.2.0.0/112", [1]),
        ("raddr = 10.0.0.0/8 and cookie < 9", [1, 2]),
        ("raddr = 10.2.0.7", [1]),
        ("raddr = ::ffff:10.2.0.7", [1]),
        ("laddr = *", [5, 6]),
        ("laddr = 0.0.0.0", [5]),
        ("laddr = ::", [6]),
        ("raddr = fe80::1%2", [7]),
        ("raddr = fe80::/10", [7, 8]),
        ("raddr ~ '^10\\.2'", [1, 2]),
        ("host ~ '^fe80.*[12]$'", [7]),
        ("host ~ '%2$'", [7]),
        ("peer = 10.2.0.7:443", [1]),
        ("peer = [fe80::1]:22", [7, 8]),
        ("peer = '[fe80::1%3]:22'", [8]),
        ("peer = *:22", [5]),
        ("peer = *", [5, 6]),
        ("local = :22", [5]),
        ("peer = 10.2.0.0/16", [1]),
        ("peer ~ '33$'", [2]),
        ("state = syn-sent", [4]),
        ("state = SYN-S", [4]),
        ("state = listn or state = Close-Wait", [5, 6, 12]),
        ("state = established and cookie < 4", [1, 2, 3]),
        ("state ~ wait", [12]),
        ("state != estab and cookie < 50", [4, 5, 6, 12]),
        ("direction = IN", [10]),
        ("direction != out", [5, 6, 10]),
        ("origin = adopted or origin = listed", [9, 10]),
        ("timer = retransmit", [10]),
        ("end = closed", [50]),
        ("end = peer-closed", [51]),
        ("end != closed", [51]),
        ("process = nginx and cookie < 9", [1]),
        ("process = 'nginx: worker'", [2]),
        ('process = "nginx: worker"', [2]),
        ("process ~ '^nginx.' or process ~ ssh", [2, 5, 7, 8]),
        ("process ~ curl", []),
        ("process ~ '(?i)curl'", [4]),
        ("not process ~ .", [3, 26]),
        ("process = ''", []),
        ("user = www-data", [2]),
        ("cgroup ~ nginx", [20]),
        ("cgroup = /user.slice", [21]),
        ("cc = bbr", [2]),
        ("pid != 1000", []),
        ("pid = 0", []),
        ("not pid = 1000", [3]),
        ("uid = 33", [2]),
        ("inode = 9223372036854775809", [10]),
        ("inode > 0", [10]),
        ("inode != 5", [10]),
        ("netns = 4026531840", [10]),
        ("family = 6 and cookie < 9", [4, 6, 7, 8]),
        ("backlog >= 0", [5, 6]),
        ("COOKIE=1 OR cookie=2 aNd cookie=3", [1]),
        ("not cookie > 1 or cookie = 2 and not not cookie <= 2", [1, 2]),
        ("not (cookie > 1 or cookie = 2)", [1]),
        ("((cookie=1))or((cookie=2))", [1, 2]),
        ("\tcookie\n=\r\n7 ", [7]),
        ("sshd", [5]),
        ("SSH", [5, 7, 8]),
        ("'nginx: w'", [2]),
        (":22", [5, 7, 8]),
        (":443 and not nginx and cookie < 9", [4]),
        ("10.2.", [1]),
        ("10.2", [1, 2]),
        ("10.2.0.7", [1]),
        ("10.2.0.7:443", [1]),
        ("10.2.0.0/16", [1]),
        ("192.", [3]),
        ("fe80:", [7, 8]),
        ("fe8", [7, 8]),
        ("fe80::1%2", [7]),
        ("[fe80::1]:22", [7, 8]),
        ("[2001:db8", [4]),
        ("2001:db8::", [4]),
        ("2001:db8::2", []),
        ("*:22", [5]),
        ("syn-sent", [4]),
        ("syn-s", [4]),
        ("LISTEN", [5, 6]),
    ],
)
def test_by_hand(text: str, wanted: list[int]) -> None:
    assert cookies(text) == wanted


def test_examples_of_the_language() -> None:
    for text in ("srtt > 20ms", "tx > 1MB/s", "retr% > 2", "age < 5m", "host = 10.0.0.0/8", "nginx", ":443", "10.2."):
        assert compile(text).text == text
        assert len(mask(text)) == len(FLEET)


@pytest.mark.parametrize("text", [f"{name} = 1" for name in COLUMNS_BY_NAME if find(name).right and "_us" not in name])
def test_every_number_can_be_asked_for(text: str) -> None:
    error = refused(text)
    assert error is None or ("unit of time" in error.expected and refused(text + "s") is None)


def test_tables_speak_of_columns_that_there_are() -> None:
    empty = FLEET.live.take(np.zeros(0, np.intp))
    kinds = {column.id: column.read(empty, FLEET).dtype.kind for column in COLUMNS}
    assert {*SIZES, *NAMES, *compiler.ADDRESSES, *compiler.ENDPOINTS, *compiler.IDENTITIES} <= kinds.keys()
    for column in COLUMNS:
        wanted = "u" if column.id in compiler.IDENTITIES else "f" if column.right else "S"
        assert kinds[column.id] == wanted, column.id


@pytest.mark.parametrize("name", NAMES)
def test_every_name_that_a_column_may_hold_can_be_asked_for(name: str) -> None:
    for seed in range(20):
        flows = Tracker(closed_s=1e9).update(scrambled(20, seed))
        for value in {*flows.column(find(name).read).tolist()} - {b""}:
            assert any(mask(f"{name} = {value.decode()}", flows))


def test_what_a_source_cannot_tell_is_null() -> None:
    flows = Tracker().update(snapshot(0, LIVE, missing=frozenset({"process", "srtt_us", "inode", "cc"})))
    for text in ("process ~ .", "srtt >= 0", "srtt != 5ms", "inode > 0", "inode != 1", "cc != x", "nginx"):
        assert not any(mask(text, flows)), text
        assert all(mask(f"not {text}", flows)), text


def test_no_rows() -> None:
    flows = Tracker().update(snapshot(0, []))
    for text in ("nginx", "10.2.", "fe80:", "raddr ~ 1", "srtt > 1ms", "inode != 5", "state = listen"):
        assert mask(text, flows) == []


def test_hashes_that_meet_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    found = np.array([b"b", b"a" * 20, b"b", b"", b"c"])
    with monkeypatch.context() as patch:
        patch.setattr(array_tests, "pow", lambda *_: 0, raising=False)
        occurring, inverse = array_tests.distinct(found)
    assert occurring[inverse].tolist() == found.tolist()
    assert len(occurring) == 4
    assert len(array_tests.distinct(found)[0]) == 4


# --- where it is used


def test_a_view_has_only_what_matches() -> None:
    spec = Spec(sort=find("cookie"), falling=False, filter=compile("end = closed or ssh"))
    view = make(FLEET, spec)
    assert view.cookies() == [5, 7, 8, 50]
    assert [view.is_closed(i) for i in range(4)] == [False, False, False, True]
    assert make(FLEET, Spec(show_closed=False, filter=compile("end = closed"))).cookies() == []
    assert len(make(FLEET, Spec())) == len(FLEET)
    assert make(FLEET, spec).flows.totals == FLEET.totals


def test_processes() -> None:
    flows = Tracker().update(snapshot(0, [flow(1, pid=7), flow(2, pid=0), flow(3, pid=8), flow(4, pid=77)]))
    assert of_pids((7, 8)).text == "pid = 7 or pid = 8"
    assert of_pids((7, 8)).mask(flows.live, flows).tolist() == [True, False, True, False]
    assert len(of_pids(tuple(range(1, 5000))).mask(flows.live, flows)) == 4
    joined_filter = both(compile("cookie > 1 or nginx"), of_pids((7, 8)))
    assert joined_filter.text == "(cookie > 1 or nginx) and (pid = 7 or pid = 8)"
    assert compile(joined_filter.text).mask(flows.live, flows).tolist() == [True, False, True, False]
    assert joined_filter.mask(flows.live, flows).tolist() == [True, False, True, False]


def test_equal_texts_are_equal_filters() -> None:
    assert compile("nginx") == compile("nginx") != compile("sshd")
    assert hash(compile("nginx")) == hash(compile("nginx"))
    assert repr(compile("nginx")) == "Filter(text='nginx')"


def test_states_have_a_name_each() -> None:
    for state in STATE_NAMES.values():
        for spelling in (state, state.lower()):
            assert refused(f"state = {spelling}") is None


def test_a_long_value_is_cut() -> None:
    paths = {1: "/" + "a" * 600 + "z", 2: "/" + "a" * 400 + "z"}
    flows = Tracker().update(snapshot(0, [flow(1, cgroup_id=1), flow(2, cgroup_id=2)], cgroups=paths))
    assert mask("cgroup ~ z$", flows) == [False, True]
    assert mask("cgroup ~ .*a.*z", flows) == [False, True]
    assert mask(f"cgroup = {paths[2]}", flows) == [False, True]


def test_the_parser_is_imported_for_the_first_filter_only() -> None:
    told = "import sys, tcptop_ops.filters.compiler as f; before = 'lark' in sys.modules; f.compile('a'); "
    told += "print(before, 'lark' in sys.modules)"
    done = subprocess.run([sys.executable, "-W", "error", "-c", told], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
