"""The resolver: who is asked, how often and by whom, how long an answer counts, and what hangs.

Never over a network.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

from tcptop_ops.dns.resolver import DEADLINE_S, FAILED_KEPT_S, KEPT_S, Resolver, System
from tests.support.leftovers import wait_until
from tests.support.lookups import HOSTS, PATIENCE_S, Asked, Clock, asked_for, key


def test_what_is_known_is_not_asked_for_again() -> None:
    look_up = Asked()
    resolver = Resolver(look_up)
    told = threading.Event()
    resolver.on_change(told.set)
    found = asked_for(resolver, key("10.2.0.1"), 443, key("10.9.9.9"), 40000)
    assert found == {key("10.2.0.1"): "alpha.example.com", 443: "https"}
    assert told.is_set()
    told.clear()
    asked_for(resolver, key("10.2.0.1"), 443, key("10.9.9.9"), 40000)
    assert sorted(map(str, look_up.keys)) == sorted(map(str, {key("10.2.0.1"), 443, key("10.9.9.9"), 40000}))
    assert not told.is_set()
    resolver.close()


def test_names_expire_and_failures_sooner_and_ports_never() -> None:
    look_up, clock = Asked(), Clock()
    resolver = Resolver(look_up, clock=clock)
    host, nobody = key("10.2.0.1"), key("10.9.9.9")
    asked_for(resolver, host, nobody, 443, 40000)
    clock.now += FAILED_KEPT_S - 1
    asked_for(resolver, host, nobody, 443, 40000)
    assert len(look_up.keys) == 4
    clock.now += 1
    asked_for(resolver, host, nobody, 443, 40000)
    assert look_up.keys[4:] == [nobody]
    clock.now += KEPT_S
    look_up.known[host] = "moved.example.com"
    found = asked_for(resolver, host, nobody, 443, 40000)
    assert sorted(look_up.keys[5:], key=str) == sorted([host, nobody], key=str)
    assert found[host] == "moved.example.com"
    clock.now += KEPT_S
    del look_up.known[host]
    assert host not in asked_for(resolver, host)
    resolver.close()


def test_an_answer_that_comes_too_late_is_none() -> None:
    look_up, clock = Asked(), Clock()
    look_up.go_on.clear()
    resolver = Resolver(look_up, clock=clock)
    late, more = key("10.2.0.1"), key("10.2.0.2")
    resolver.want([late])
    wait_until(lambda: look_up.keys, PATIENCE_S)
    clock.now += DEADLINE_S + 0.1
    look_up.go_on.set()
    assert resolver.wait(PATIENCE_S)
    assert resolver.book == {}
    assert asked_for(resolver, late, more) == {more: "beta.example.com"}
    assert look_up.keys.count(late) == 1, "it is a failure, kept as others are"
    resolver.close()


def test_what_is_no_longer_wanted_is_not_begun() -> None:
    look_up = Asked()
    look_up.go_on.clear()
    resolver = Resolver(look_up, threads=1)
    resolver.want([1])
    wait_until(lambda: look_up.keys == [1], PATIENCE_S)
    resolver.want(range(2, 1000))
    resolver.want([1, 443])
    look_up.go_on.set()
    assert resolver.wait(PATIENCE_S)
    assert look_up.keys == [1, 443], "nor is asked twice what is being asked"
    resolver.close()


def test_many_are_asked_for_by_few_threads_and_not_all_are_kept() -> None:
    look_up = Asked({port: f"p{port}x" for port in range(1, 1001)})
    resolver = Resolver(look_up, threads=3, most_wanted=100, most_known=50)
    before = threading.active_count()
    found = asked_for(resolver, *range(1, 1001))
    assert sorted(look_up.keys) == list(range(1, 101))
    assert threading.active_count() <= before + 3
    assert len(found) == 50
    wanted_still = next(iter(found))
    resolver.want([wanted_still])
    found = asked_for(resolver, wanted_still, *range(901, 950))
    assert wanted_still in found, "what is looked at stays"
    assert len(found) == 50
    resolver.close()


def test_a_hostile_name_is_told_as_it_may_be_shown() -> None:
    look_up = Asked({key("10.2.0.1"): "\x1b]0;owned\x07", key("10.2.0.2"): "10.0.0.1", 443: "x\udcffy"})
    resolver = Resolver(look_up)
    assert asked_for(resolver, *look_up.known) == {key("10.2.0.1"): "\\x1b]0;owned\\x07", 443: "x\\xffy"}
    resolver.close()


def test_nobody_waits_for_a_name_server_that_does_not_answer() -> None:
    """Wanting and closing come back at once, and nothing is told after the end, however late the answer is."""
    before = set(threading.enumerate())  # other tests may have left threads of a resolver that is idle
    look_up = Asked()
    look_up.go_on.clear()
    resolver = Resolver(look_up)
    told: list[int] = []
    resolver.on_change(lambda: told.append(1))
    resolver.want(HOSTS)
    wait_until(lambda: len(look_up.keys) == 4, PATIENCE_S)
    resolver.want(HOSTS)
    assert not resolver.wait(0)
    resolver.close()
    look_up.go_on.set()
    wait_until(lambda: before >= {t for t in threading.enumerate() if t.name.startswith("names-")}, PATIENCE_S)
    assert not told
    assert len(look_up.keys) == 4
    resolver.want([22])
    assert resolver.book.get(22) is None


def test_the_process_ends_while_a_look_up_hangs() -> None:
    """In a system call, as the real one would."""
    program = """
import socket, threading
from tcptop_ops.dns.resolver import Resolver
near, far = socket.socketpair()
asked = threading.Event()
def hang(key):
    asked.set()
    return near.recv(1).decode()
resolver = Resolver(hang)
resolver.want([443])
asked.wait()
resolver.close()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_hosts_own_files_are_read() -> None:
    """/etc/hosts and /etc/services, which no network is needed for; where they lack these, nothing is found."""
    system = System()

    for port in (22, 443, 65535):
        assert found(system, port) == found(socket.getservbyport, port)
    for address in ("127.0.0.1", "::1"):
        there = found(socket.gethostbyaddr, address)
        assert found(system, key(address)) == (None if there is None else there[0])


def found(ask: Callable[[Any], Any], wanted: Any) -> Any:
    """None where nothing is."""
    try:
        return ask(wanted)
    except OSError:
        return None
