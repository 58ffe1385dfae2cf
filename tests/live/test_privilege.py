"""What the running monitor may do, what its helper may, and what the helper does."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from importlib.machinery import PathFinder
from pathlib import Path

import pytest

from tcptop_ops.bpf import helper_process
from tests.live.started import ROOT, children, helper_of, started, status, threads
from tests.support.lab import Lab, Link
from tests.support.leftovers import wait_until

CALLER = {"SUDO_UID": "12345", "SUDO_GID": "12345"}
NOBODY = "65534"
HELPER_KB = 15_000
BPF_OF_HELPER = ["link iter", "map", "program", "program"]
"""The iterator of descriptors, and both programs: one to attach it again, one that sets flags, with its map."""

READS = {"BPF_MAP_LOOKUP_ELEM", "BPF_MAP_LOOKUP_BATCH", "BPF_MAP_UPDATE_ELEM", "BPF_MAP_DELETE_BATCH"}


@pytest.fixture
def link(lab: Lab) -> Link:
    return lab.link("near", "far")


def capabilities(pid: int, thread: int | None = None) -> dict[str, int]:
    return {name: int(value, 16) for name, value in status(pid, thread).items() if name.startswith("Cap")}


@pytest.mark.halved
@pytest.mark.parametrize(("environment", "uid"), [(CALLER, "12345"), ({}, NOBODY)], ids=["sudo", "root"])
@pytest.mark.parametrize("source", ["sockops", "sockdiag"])
@pytest.mark.parametrize("front", [(), ("--json", "-d", "0.3", "-f", "port = 1")], ids=["screen", "json"])
def test_the_monitor_may_do_nothing(
    cgroup: Path, environment: dict[str, str], uid: str, source: str, front: tuple[str, ...]
) -> None:
    place = ("--cgroup", str(cgroup)) if source == "sockops" else ()
    with started("--source", source, *place, *front, environment=environment) as monitor:
        monitor.wait_for('"tick":1,' if front else "s win")
        for thread in threads(monitor.pid):
            said = status(monitor.pid, thread)
            assert set(said["Uid"].split()) == {uid}
            assert "0" not in said["Gid"].split()
            assert said["Groups"].split() == []
            assert said["NoNewPrivs"] == "1"
            held = {name: value for name, value in capabilities(monitor.pid, thread).items() if name != "CapBnd"}
            assert held == dict.fromkeys(held, 0)
        assert os.stat(f"/proc/{monitor.pid}/mem").st_uid == 0, "not dumpable: its memory is nobody's business"
        assert children(monitor.pid) == [helper_of(monitor.pid)]
        check_helper(helper_of(monitor.pid), BPF_OF_HELPER if source == "sockops" else [])
        monitor.press("\x03" if front else "q")
        assert monitor.process.wait(20) == 0


def bpf_descriptors(pid: int) -> list[str]:
    """What each of them is, from /proc/PID/fdinfo."""
    found = []
    for file in Path(f"/proc/{pid}/fdinfo").iterdir():
        told = dict(line.split(":\t", 1) for line in file.read_text().splitlines() if ":\t" in line)
        if "link_type" in told:
            found.append(f"link {told['link_type']}")
        elif "map_id" in told:
            found.append("map")
        elif "prog_id" in told:
            found.append("program")
        elif "btf_id" in told:
            found.append("another")
    return sorted(found)


def check_helper(pid: int, bpf: list[str]) -> None:
    """``bpf``: see BPF_OF_HELPER; or none."""
    said = status(pid)
    ours = capabilities(os.getpid())["CapEff"]
    assert capabilities(pid)["CapEff"] == capabilities(pid)["CapPrm"] == helper_process.KEPT & ours
    assert capabilities(pid)["CapInh"] == 0
    assert said["NoNewPrivs"] == "1"
    wait_until(
        lambda: int(status(pid)["VmRSS"].split()[0]) < HELPER_KB, what="no more memory than it needs between two scans"
    )
    assert bpf_descriptors(pid) == bpf


def test_without_a_helper_there_is_no_other_process(lab: Lab, link: Link, cgroup: Path) -> None:
    """The namespaces of the start are seen all the same."""
    server = lab.server(link.b.ns, "serve-sink", address=link.b.ipv4, cgroup=cgroup)
    with started("--no-helper", "--cgroup", str(cgroup)) as monitor:
        monitor.wait_for_picture()
        assert children(monitor.pid) == []
        assert set(status(monitor.pid)["Uid"].split()) == {NOBODY}
        wait_until(lambda: f":{server.port}" in monitor.text(), 10, "the listener of another namespace")
        monitor.wait_for("namespaces that appear later")


def test_strace_sees_reads_and_iterators_alone(lab: Lab, cgroup: Path, tmp_path: Path) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    with started("--cgroup", str(cgroup)) as monitor:
        monitor.wait_for_picture()
        trace = tmp_path / "trace"
        argv = ["strace", "-f", "-e", "trace=bpf", "-o", str(trace), "-p", str(monitor.pid)]
        with subprocess.Popen(argv, stderr=subprocess.DEVNULL) as tracer:
            wait_until(lambda: trace.exists() and trace.read_text().count("BPF_ITER_CREATE") >= 3, 20, "three polls")
            tracer.send_signal(signal.SIGINT)
        commands = set(re.findall(r"bpf\((BPF_\w+)", trace.read_text()))
    assert "BPF_ITER_CREATE" in commands
    assert commands <= READS | {"BPF_ITER_CREATE"}


RECORDER = """
import json, os, sys

log = open(sys.argv.pop(1), "w", buffering=1)


class Recorder:
    def find_spec(self, name, path=None, target=None):
        if os.geteuid():
            log.write(json.dumps([name, path and list(path)]) + "\\n")


sys.meta_path.insert(0, Recorder())
from tcptop_ops.cli.main import main

status = main()
assert os.geteuid()
try:
    import not_there
except ImportError:
    sys.exit(status)
"""
EVERY_KEY = [
    *("?", "\x1b", "s", "j", "\x1b", "s", "j", "\r"),
    *("/", "srtt > 1ms and nginx or pid > 1", "\r", "\\", "/", "process ~ (", "\x1b", "/", "\x1b[A", "\x1b"),
    *("x", "<", ">", "r", "1", "2", "j", "k", "p", "\\", "a", "\\", "f", "f", " ", "x", " ", "c", "c", "+", "-"),
    *("\r", "j", "?", "\x1b", "\x1b", "o", "j", "\r", "\x1b", "\x1b", "\x10", "\x1b"),
]
SEEN = ("Help", "Sort by", "srtt > 1ms and nginx", "SYN", "RWND_INIT")
"""Each on a screen of its own, the table's apart."""


@pytest.fixture
def hidden(tmp_path: Path) -> Path:
    """A driver beside a copy of the package, where root alone may look; it records what is imported without root."""
    place = tmp_path / "hidden"
    shutil.copytree(ROOT / "tcptop_ops", place / "tcptop_ops", ignore=shutil.ignore_patterns("__pycache__"))
    (place / "driver.py").write_text(RECORDER)
    place.chmod(0o700)
    return place


def found_later(log: Path) -> list[str]:
    """Modules that were looked for without root, and are there. The last record proves that it was kept."""
    records = [json.loads(line) for line in log.read_text().splitlines()]
    assert records.pop() == ["not_there", None]
    return [name for name, path in records if PathFinder.find_spec(name, path) is not None]


def test_the_screen_needs_nothing_that_it_cannot_read(
    lab: Lab, link: Link, cgroup: Path, hidden: Path, tmp_path: Path
) -> None:
    server = lab.server(link.b.ns, "serve-sink", address=link.b.ipv4, cgroup=cgroup)
    client = lab.client(link.a.ns, "connect-only", address=link.b.ipv4, port=server.port, cgroup=cgroup)
    client.expect("connected")
    log = tmp_path / "log"
    program = (str(hidden / "driver.py"), str(log))
    with started("--cgroup", str(cgroup), "-d", "1", program=program) as monitor:
        monitor.wait_for_picture()
        monitor.wait_for(f":{server.port}")
        monitor.press_each(EVERY_KEY)
        client.tell("close")
        for size in ((60, 12), (30, 8), (200, 50)):
            monitor.resize(*size)
            monitor.press_each("jk")
        monitor.press("q")
        assert monitor.process.wait(20) == 0, bytes(monitor.written)[-2000:]
        assert [words for words in SEEN if words not in monitor.text()] == []
        assert "Traceback" not in monitor.text()
    assert found_later(log) == []


@pytest.mark.parametrize("front", ["--json", "--batch"])
def test_nor_do_the_outputs(cgroup: Path, hidden: Path, tmp_path: Path, front: str) -> None:
    log = tmp_path / "log"
    words = [str(hidden / "driver.py"), str(log), "--cgroup", str(cgroup), "-d", "0.1", "-n", "2", front]
    argv = [sys.executable, *words, "-f", "srtt > 1ms or nginx or process ~ x"]
    done = subprocess.run(argv, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert found_later(log) == []
