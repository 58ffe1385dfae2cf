"""The doctor on the real kernel, and the program where something that it likes to have is missing.

What is missing is hidden in a mount namespace of the program's own, so that nothing else on the machine misses it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tcptop_ops.bpf import cgroup as cgroups
from tcptop_ops.bpf import helper, kernel_calls
from tests.live.conftest import BCC_PYTHON
from tests.support import leftovers
from tests.support.lab import Lab, Link, Traffic

PROGRAM = [sys.executable, "-W", "error", "-m", "tcptop_ops"]
DOCTOR = [*PROGRAM, "--doctor", "--json"]
ONCE = [*PROGRAM, "--json", "--once", "-d", "0.1"]
SETTER = Path(__file__).with_name("setter.py")
NOBODY = 65534

WITHOUT_CGROUPS = "".join(f"umount --lazy '{point}'\n" for point in leftovers.mounts("cgroup2"))
WITHOUT_BTF = "mount -t tmpfs none /sys/kernel/btf\n"
AS_NOBODY = f"""
import os, sys
import tcptop_ops.app.application, tcptop_ops.doctor.probe, tcptop_ops.cli.main
import tcptop_ops.outputs.json_lines, tcptop_ops.polling.poller
os.setgroups([])
os.setresgid(*[{NOBODY}] * 3)
os.setresuid(*[{NOBODY}] * 3)
sys.exit(tcptop_ops.cli.main.main(sys.argv[1:]))
"""
"""It imports first: root's Python may lie where nobody may look."""


def without(what: str, *argv: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a mount namespace of its own, where a script has hidden something before."""
    return ended(["unshare", "--mount", "sh", "-ec", f'{what}\nexec "$@"', "sh", *argv])


def ended(argv: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, text=True, capture_output=True, timeout=60, check=False)


def diagnosed(done: subprocess.CompletedProcess[str], works: bool) -> dict[str, dict[str, str]]:
    """The checks by name."""
    assert done.stderr == ""
    assert done.returncode == (0 if works else 3), done.stdout
    told = json.loads(done.stdout)
    assert (told["schema"], told["works"]) == ("tcptop-ops/doctor/1", works)
    for check in told["checks"]:
        assert check.keys() == {"name", "status", "found", "remedy"}
        assert bool(check["remedy"]) is (check["status"] != "ok")
    found = {check["name"]: check for check in told["checks"]}
    assert (found["sock_ops"]["status"] == "ok") is works
    return found


def first_tick(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert (done.returncode, done.stderr) == (0, "")
    tick: dict[str, Any] = json.loads(done.stdout)
    return tick


def assert_insists(done: subprocess.CompletedProcess[str], message: str, hint: str) -> None:
    """One line says what is missing, one what to do; and that was all."""
    what, remedy = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (3, "")
    assert what.startswith("tcptop-ops: ")
    assert message in what
    assert remedy.startswith("hint: ")
    assert hint in remedy


def attached(directory: str) -> list[int]:
    """Ids of the sock_ops programs that are attached to a cgroup."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return kernel_calls.programs_at(fd)[0]
    finally:
        os.close(fd)


@pytest.fixture
def link(lab: Lab) -> Link:
    return lab.link("near", "far", offload=False)


@pytest.fixture
def pair(lab: Lab, link: Link, cgroup: Path) -> tuple[Traffic, Traffic]:
    """Server and client of a connection in the watched cgroup."""
    server = lab.server(link.b.ns, cgroup=cgroup)
    client = lab.client(link.a.ns, "connect-only", address=link.b.ipv4, port=server.port, cgroup=cgroup)
    client.expect("done")
    server.expect("accepted")
    return server, client


@pytest.fixture
def bcc_hidden() -> str:
    code = "import bcc; print(bcc.__path__[0])"
    path = subprocess.run([BCC_PYTHON, "-I", "-c", code], text=True, capture_output=True, check=True).stdout
    return f"mount -t tmpfs none '{path.strip()}'\n"


@pytest.fixture
def tree_options() -> Iterator[None]:
    """Nothing here may change how the tree of the whole host is mounted (nsdelegate and the like)."""
    before = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if " - cgroup2 " in line]
    yield
    after = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if " - cgroup2 " in line]
    assert after == before


@pytest.mark.usefixtures("pair")
def test_as_root() -> None:
    found = diagnosed(ended(DOCTOR), works=True)
    assert {found[name]["status"] for name in ("python", "bcc", "privilege", "kernel", "user")} == {"ok"}
    assert found["bcc"]["found"].endswith(f"of {BCC_PYTHON}")
    assert "uid 0" in found["privilege"]["found"]
    assert "CapEff 0000000000000000" in found["user"]["found"]
    assert "uid 0" not in found["user"]["found"]
    assert os.uname().release in found["kernel"]["found"]
    assert int(found["namespaces"]["found"].split()[0]) >= 3
    listed = int(found["sockets"]["found"].split()[0])
    assert listed >= 3, "two ends of a connection, and a listener"
    assert "in use by /proc/net/sockstat" in found["sockets"]["found"]


def test_the_table() -> None:
    done = ended([*PROGRAM, "--doctor"])
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("sockops works here")
    assert done.stdout.isascii()
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_it_leaves_nothing(cgroup: Path) -> None:
    found = diagnosed(ended([*DOCTOR, "--cgroup", str(cgroup)]), works=True)
    assert f"--cgroup {cgroup}" in found["cgroup"]["found"]
    assert found["sockets"]["found"].startswith("0 listed by sockops; not compared")
    assert attached(str(cgroup)) == []


def test_as_nobody() -> None:
    def as_nobody(*argv: str) -> subprocess.CompletedProcess[str]:
        return ended([sys.executable, "-c", AS_NOBODY, *argv])

    found = diagnosed(as_nobody("--doctor", "--json"), works=False)
    assert found["privilege"]["status"] == "missing"
    assert f"uid {NOBODY}, CapEff 0000000000000000" in found["privilege"]["found"]
    assert "sudo" in found["privilege"]["remedy"]
    assert found["bcc"]["status"] == "ok"
    assert (found["neighbours"]["status"], found["namespaces"]["status"]) == ("warn", "warn")
    assert found["sockets"]["status"] == "ok"
    tick = first_tick(as_nobody(*ONCE[len(PROGRAM) :]))
    assert tick["source"] == "sockdiag"
    assert tick["notes"][0].startswith("polled only: attaching a sock_ops program needs root (run it with sudo")
    assert_insists(as_nobody(*ONCE[len(PROGRAM) :], "--source", "sockops"), "needs root", "run it with sudo")


def test_without_bcc(bcc_hidden: str, pair: tuple[Traffic, Traffic]) -> None:
    found = diagnosed(without(bcc_hidden, *DOCTOR), works=False)
    assert found["bcc"]["status"] == found["sock_ops"]["status"] == "missing"
    for name in ("bcc", "sock_ops"):
        assert "python3-bpfcc" in found[name]["remedy"]
    assert "sockdiag" in found["sockets"]["found"]
    tick = first_tick(without(bcc_hidden, *ONCE))
    assert tick["source"] == "sockdiag"
    assert "has no bcc" in tick["notes"][0]
    assert "python3-bpfcc" in tick["notes"][0]
    assert {each.port for each in pair} <= {row["lport"] for row in tick["connections"]}
    assert_insists(without(bcc_hidden, *ONCE, "--source", "sockops"), "has no bcc", "python3-bpfcc")


def test_without_btf(cgroup: Path, pair: tuple[Traffic, Traffic]) -> None:
    found = diagnosed(without(WITHOUT_BTF, *DOCTOR), works=True)
    assert found["btf"]["status"] == found["features"]["status"] == "warn"
    assert "CONFIG_DEBUG_INFO_BTF" in found["btf"]["remedy"]
    assert "without: state and owners by one pass over descriptors (5.11), adoption" in found["features"]["found"]
    tick = first_tick(without(WITHOUT_BTF, *ONCE, "--cgroup", str(cgroup)))
    assert tick["source"] == "sockops"
    rows = {row["lport"]: row for row in tick["connections"] if row["state"] == "ESTAB"}
    assert rows.keys() == {each.port for each in pair}
    assert [rows[each.port]["pid"] for each in pair] == [each.pid for each in pair]


@pytest.mark.usefixtures("tree_options")
def test_without_cgroups(cgroup: Path, pair: tuple[Traffic, Traffic]) -> None:
    found = diagnosed(without(WITHOUT_CGROUPS, *DOCTOR), works=True)
    assert (found["cgroup"]["status"], found["cgroup"]["found"].split(":")[0]) == ("ok", "not mounted")
    assert found["sockets"]["status"] == "ok"
    name = "/" + str(cgroup.relative_to(leftovers.cgroup2_mount() or "/"))
    tick = first_tick(without(WITHOUT_CGROUPS, *ONCE, "--cgroup", name))
    assert tick["source"] == "sockops"
    rows = {row["lport"]: row for row in tick["connections"] if row["state"] == "ESTAB"}
    assert rows.keys() == {each.port for each in pair}
    assert {row["cgroup"] for row in rows.values()} == {name}
    assert attached(str(cgroup)) == []
    wrong = without(WITHOUT_CGROUPS, *ONCE, "--cgroup", "/no/such")
    assert wrong.returncode == 2
    assert "/proc/PID/cgroup" in wrong.stderr


@pytest.mark.usefixtures("tree_options")
def test_without_cgroups_nor_bpf(cgroup: Path, pair: tuple[Traffic, Traffic]) -> None:
    """sock_diag tells the cgroup of a socket by number: the tree gives it a name."""
    tick = first_tick(without(WITHOUT_CGROUPS, *ONCE, "--source", "sockdiag"))
    [row] = [row for row in tick["connections"] if row["lport"] == pair[1].port]
    assert row["cgroup"] == "/" + str(cgroup.relative_to(leftovers.cgroup2_mount() or "/"))


def test_nobody_without_cgroups() -> None:
    done = without(WITHOUT_CGROUPS, sys.executable, "-c", AS_NOBODY, "--doctor", "--json")
    found = diagnosed(done, works=False)
    assert found["cgroup"]["status"] == "missing"
    assert "run it as root" in found["cgroup"]["remedy"]


def test_in_ip_netns_exec(lab: Lab) -> None:
    """Which mounts another /sys, without cgroups."""
    found = diagnosed(ended(["ip", "netns", "exec", lab.namespace("one"), *DOCTOR]), works=True)
    assert found["cgroup"]["status"] == "ok"
    assert "mounted privately" in found["cgroup"]["found"]


def in_container(lab: Lab, cgroup: Path, what: str, *argv: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a cgroup and in a cgroup namespace that begins there."""
    script = ["sh", "-ec", f'{what}\nexec "$@"', "sh", *argv]
    process = lab.popen(None, ["unshare", "--cgroup", "--mount", *script], cgroup=cgroup, stderr=subprocess.PIPE)
    out, err = process.communicate(timeout=60)
    return subprocess.CompletedProcess(argv, process.returncode, out, err)


MOUNTED = WITHOUT_CGROUPS + f"mount -t cgroup2 none '{leftovers.cgroup2_mount()}'\n"


@pytest.mark.usefixtures("pair", "tree_options")
@pytest.mark.parametrize("what", [MOUNTED, WITHOUT_CGROUPS], ids=["mounted", "not mounted"])
def test_in_a_container(lab: Lab, what: str) -> None:
    container = lab.cgroup("container")
    found = diagnosed(in_container(lab, container, what, *DOCTOR), works=True)
    assert found["cgroup"]["status"] == "warn"
    assert "only the sockets of this container" in found["cgroup"]["found"]
    assert ("mounted privately" in found["cgroup"]["found"]) is (what is WITHOUT_CGROUPS)
    assert "outside the container" in found["cgroup"]["remedy"]
    assert attached(str(container)) == []
    tick = first_tick(in_container(lab, container, what, *ONCE))
    assert tick["source"] == "sockops"


def test_a_container_that_sees_the_hosts_tree(lab: Lab) -> None:
    """Its mounts are older than its cgroup namespace: /proc/self/mountinfo has ``/..`` for the root."""
    found = diagnosed(in_container(lab, lab.cgroup("container"), "true", *DOCTOR), works=True)
    assert found["cgroup"]["status"] == "ok"
    assert found["cgroup"]["found"].endswith(str(cgroups.root()))


def test_another_program_beside_and_above_a_container(lab: Lab, cgroup: Path) -> None:
    inner = cgroup / "inner"
    inner.mkdir()
    other = Traffic(lab.popen(None, [BCC_PYTHON, "-I", str(SETTER), str(cgroup), "0"]))
    other.expect("ready")
    [number] = attached(str(cgroup))
    beside = diagnosed(ended([*DOCTOR, "--cgroup", str(inner)]), works=True)["neighbours"]
    where = str(cgroup.relative_to(leftovers.cgroup2_mount() or "/"))
    assert beside["status"] == "warn"
    assert f"other (id {number}) at /{where}, multi" in beside["found"]
    above = diagnosed(in_container(lab, inner, MOUNTED, *DOCTOR), works=True)["neighbours"]
    assert above["status"] == "warn"
    assert f"other (id {number}) above this container" in above["found"]


EXCLUSIVE = """
import os, sys
from bcc import BPF
program = BPF(text="int alone(struct bpf_sock_ops *ctx) { return 1; }").load_func(b"alone", BPF.SOCK_OPS)
BPF.attach_func(program, os.open(sys.argv[1], os.O_RDONLY), 3, 0)
print("ready", flush=True)
"""
"""Attached the old way, without BPF_F_ALLOW_MULTI: it stays until its cgroup is removed."""


def test_a_program_that_keeps_us_out(lab: Lab, cgroup: Path) -> None:
    inner = cgroup / "inner"
    inner.mkdir()
    headers = Path(helper.__file__).with_name("include")
    argv = ["env", f"BCC_KERNEL_SOURCE={headers}", BCC_PYTHON, "-I", "-c", EXCLUSIVE, str(cgroup)]
    Traffic(lab.popen(None, argv)).expect("ready")
    found = diagnosed(ended([*DOCTOR, "--cgroup", str(inner)]), works=False)
    assert found["neighbours"]["status"] == found["sock_ops"]["status"] == "missing"
    assert "alone (id " in found["neighbours"]["found"]
    assert "for itself" in found["neighbours"]["found"]
    assert "BPF_F_ALLOW_MULTI" in found["neighbours"]["remedy"]
    insists = ended([*ONCE, "--source", "sockops", "--cgroup", str(inner)])
    assert_insists(insists, "the sock_ops program alone (id", "--source sockdiag")
