"""Names that attack a terminal, a table or a parser are shown harmlessly and in line.

And nothing that lies in the working directory, or stands in the environment, runs with the program.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from tcptop_ops import text
from tcptop_ops.__main__ import forget_working_directory
from tcptop_ops.app.application import TcptopApp
from tcptop_ops.filters.compiler import compile
from tcptop_ops.model.flows import Flows
from tcptop_ops.model.host_description import HostDescription
from tcptop_ops.outputs.json_lines import json_line
from tcptop_ops.outputs.text_table import WIDEST, table
from tcptop_ops.polling.poller import polled
from tcptop_ops.tracking.tracker import Tracker
from tcptop_ops.views.column_lookup import find
from tcptop_ops.views.column_sets import parse_list
from tcptop_ops.views.view import Spec, View, make
from tests.support import hostile
from tests.support.fakes import FakeSource, flow, snapshot
from tests.support.screens import next_tick, shown_tick

TOP = Path(__file__).parents[2]
NAMES = hostile.names(300)
OWN = {"cpu_pct": 0.5}
NAMED = "process,user,service,cgroup,cc,srtt"
"""Columns whose text others choose, and a number at the end of the line."""


def world(names: list[bytes], paths: list[bytes]) -> Any:
    """A connection for each name; users and cgroups have hostile names too."""
    flows = [
        flow(n, name=name, cc=name, uid=n, cgroup_id=n, peer=("fe80::1", 1), ifindex=n, family=10)
        for n, name in enumerate(names, 1)
    ]
    decoded = {n: os.fsdecode(name) for n, name in enumerate(names, 1)}
    cgroups = {n: "/" + os.fsdecode(path) + ".service" * (n % 2) for n, path in enumerate(paths, 1)}
    notes = tuple(os.fsdecode(name) for name in names[:3])
    return snapshot(0, flows, users=decoded, cgroups=cgroups, notes=notes, devices=decoded)


def flows_of(names: list[bytes]) -> Flows:
    return Tracker().update(world(names, names))


def view_of(flows: Flows, columns: str) -> View:
    return make(flows, Spec(columns=parse_list(columns), sort=find("cookie"), falling=False))


def is_harmless(shown: str) -> bool:
    return all(" " <= c <= "~" for c in shown) and cell_len(shown) == len(shown)


def test_the_names_are_what_they_should_be() -> None:
    assert len(set(NAMES)) == len(NAMES)
    assert all(0 < len(name) <= hostile.COMM and b"\0" not in name for name in NAMES)
    assert {b"\x1b[2J", "数据库".encode(), b"\xff\xfe"} <= set(NAMES)
    directories = hostile.directories(100)
    assert len(set(directories)) == 100
    assert not any(b"/" in name or b"\n" in name for name in directories)
    assert max(map(len, directories)) > hostile.COMM


def test_no_two_names_look_the_same() -> None:
    plain = [name for name in NAMES if b"\\" not in name]
    assert len({text.printable(name) for name in plain}) == len(plain)


@given(st.binary(max_size=40) | st.text(max_size=40).map(lambda t: t.encode("utf-8", "replace")))
@example(b"e\xcc\x81")
@example("👩\u200d💻".encode())
def test_any_name_is_as_wide_as_it_is_long(name: bytes) -> None:
    shown = text.printable(name)
    assert is_harmless(shown)
    assert text.printable(os.fsdecode(name)) == shown
    assert is_harmless(text.shorten(shown, 9))


@given(st.text() | st.text(st.characters(categories=["Cs", "Lu"])))
def test_what_json_gets_can_be_encoded(anything: str) -> None:
    stored = text.storable(anything)
    stored.encode()
    assert stored == anything or "\ufffd" in stored or any("\ud800" <= c <= "\udfff" for c in anything)


def test_the_table_stays_in_line() -> None:
    shown = table(view_of(flows_of(NAMES), NAMED), None)
    _, header, *rows, end = shown.splitlines()
    assert end == ""
    assert len(rows) == len(NAMES)
    assert all(map(is_harmless, [header, *rows]))
    assert {len(row) for row in rows} == {len(header)}
    assert {row[-6:] for row in rows} == {"  30ms"}


def test_peers_with_a_hostile_device() -> None:
    shown = table(view_of(flows_of(NAMES), "peer,srtt"), None).splitlines()
    assert all(map(is_harmless, shown))
    assert len({len(row) for row in shown[1:-1]}) == 1


def test_one_endless_name_does_not_make_every_line_endless() -> None:
    flows = Tracker().update(world([b"a", b"b"], [b"\x1b" * 4000, b"short"]))
    rows = table(view_of(flows, "cgroup,srtt"), None).splitlines()[1:-1]
    assert {len(row) for row in rows} == {WIDEST + len("  SRTT")}
    assert rows[1][WIDEST - 1] == "~"


def test_json_has_the_names_and_no_control_characters() -> None:
    flows = flows_of(NAMES)
    host = HostDescription("\x1b[2J\udcff数", "6\ud800")
    line = json_line(view_of(flows, NAMED), host, OWN)
    assert is_harmless(line.removesuffix("\n"))
    told = json.loads(line)
    json.dumps(told, ensure_ascii=False).encode()  # no half of a surrogate pair anywhere
    assert (told["host"], told["kernel"]) == ("\x1b[2J\ufffd数", "6\ufffd")
    for name, row in zip(NAMES, told["connections"], strict=True):
        assert row["process"] == name.decode("utf-8", "replace")
        assert row["user"] == name.decode("utf-8", "replace")


async def test_the_screen_stays_in_line() -> None:
    host = "\x1b[2J\u202e[red]数据库"
    for columns in (NAMED, "process,srtt", "peer,process,pid"):
        source = FakeSource([world(NAMES, NAMES)])
        spec = Spec(columns=parse_list(columns), sort=find("cookie"), falling=False)
        app = TcptopApp(polled(source, Tracker()), spec, delay_s=3600, host=host)
        async with app.run_test(size=(100, len(NAMES) + 20)) as pilot:
            await shown_tick(pilot, 0)
            await next_tick(pilot)
            await pilot.press("end")
            strips = app.screen._compositor.render_strips()
            assert {strip.cell_length for strip in strips} == {100}
            assert all(is_harmless(strip.text) for strip in strips)
            whole = "\n".join(strip.text for strip in strips)
            assert "\\x1b[2J\\u202e[red]\\u" in whole
            assert "[red]x[/red]" in whole


async def test_a_hostile_filter_on_the_screen() -> None:
    written = "process = '[red]\u202e数据库\u200b' or nginx"
    spec = Spec(filter=compile(written))
    app = TcptopApp(polled(FakeSource([world(NAMES, NAMES)]), Tracker()), spec, delay_s=3600, host="box")
    async with app.run_test(size=(80, 24)) as pilot:
        await shown_tick(pilot, 0)
        strips = app.screen._compositor.render_strips()
        assert {strip.cell_length for strip in strips} == {80}
        assert all(is_harmless(strip.text) for strip in strips)
        await pilot.press("slash")
        await pilot.press("end", "数", "x")
        strips = app.screen._compositor.render_strips()
        assert {strip.cell_length for strip in strips} == {80}
        assert all(cell_len(strip.text) == 80 and strip.text.isprintable() for strip in strips)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=15).filter(lambda b: b"\0" not in b), min_size=1, max_size=8))
def test_any_names(names: list[bytes]) -> None:
    view = view_of(flows_of(names), NAMED)
    rows = table(view, None).splitlines()[1:-1]
    assert all(map(is_harmless, rows))
    assert len({len(row) for row in rows}) == 1
    told = json.loads(json_line(view, HostDescription(os.fsdecode(names[0]), "6"), OWN))
    assert [row["process"] for row in told["connections"]] == [name.decode("utf-8", "replace") for name in names]


# --- nothing is run that lies about


TRAPS = ("json", "argparse", "socket", "csv", "numpy", "lark", "psutil", "textual", "rich")
"""Modules that the program imports, and that an interpreter has not imported before it."""


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """A directory full of modules that tell if one of them was imported."""
    made = tmp_path / "trap"
    made.mkdir()
    sprung = f"open({str(made / 'SPRUNG')!r}, 'a').write(__name__ + '\\n')\n"
    for name in TRAPS:
        (made / f"{name}.py").write_text(sprung)
    for name in ("sitecustomize", "usercustomize"):
        (made / f"{name}.py").write_text(sprung)
    package = made / "tcptop_ops"
    package.mkdir()
    (package / "__init__.py").write_text(sprung)
    (package / "cli").mkdir()
    (package / "cli" / "__init__.py").write_text(sprung)
    (package / "cli" / "main.py").write_text("def main():\n    return 77\n")
    (made / "startup").write_text(f"touch {str(made / 'SPRUNG')!r}\n")
    return made


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout that ``./run`` finds installed: scripts, and a .venv with what this interpreter has."""
    made = tmp_path / "check out"
    (made / ".ci").mkdir(parents=True)
    for name in ("run", ".ci/bootstrap.sh", "pyproject.toml"):
        (made / name).write_bytes((TOP / name).read_bytes())
    (made / "run").chmod(0o755)
    place = made / ".venv"
    venv.create(place, symlinks=True)
    lib = next(place.glob("lib/python*/site-packages"))
    (lib / "installed.pth").write_text(f"{TOP}\n{sysconfig.get_path('purelib')}\n{sysconfig.get_path('platlib')}\n")
    script = place / "bin" / "tcptop-ops"
    script.write_text(f"#!{sys.executable}\nimport sys\nfrom tcptop_ops.cli.main import main\nsys.exit(main())\n")
    script.chmod(0o755)
    (place / ".in-vain-run").touch()
    stamp = f'root="{made}"; . "$root/.ci/bootstrap.sh"; stamp >"$venv/.stamp-run"'
    subprocess.run(["bash", "-c", stamp], check=True)
    return made


ASKED = ("--source", "sockdiag", "--once", "--json", "-d", "0.1", "-f", "srtt > 20ms or nginx")


def is_sprung(trap: Path) -> bool:
    return (trap / "SPRUNG").exists()


def told(argv: list[str], trap: Path, **environment: str) -> Any:
    """The one object that it says, from within the trap."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [*argv, *ASKED], cwd=trap, env=plain | environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_trap_works(trap: Path) -> None:
    subprocess.run([sys.executable, "-c", "import psutil"], cwd=trap, check=True)
    assert is_sprung(trap)


def test_the_script_of_the_checkout_runs_nothing_of_the_directory_or_the_environment(
    trap: Path, checkout: Path
) -> None:
    inside = {name: str(trap) for name in ("PYTHONPATH", "PYTHONUSERBASE", "PYTHONPLATLIBDIR")}
    inside |= {"PYTHONSTARTUP": str(trap / "json.py"), "BASH_ENV": str(trap / "startup"), "PYTHONINSPECT": "1"}
    inside |= {"BASH_FUNC_readlink%%": f'() {{ touch {str(trap / "SPRUNG")!r}; command readlink "$@"; }}'}
    inside |= {"CDPATH": str(trap), "PYTHONHOME": str(trap)}
    assert told([str(checkout / "run")], trap, **inside)["schema"] == "tcptop-ops/1"
    assert not is_sprung(trap)


def test_the_console_script_runs_nothing_of_the_directory(trap: Path, checkout: Path) -> None:
    python, script = checkout / ".venv/bin/python", checkout / ".venv/bin/tcptop-ops"
    assert told([str(python), str(script)], trap)["schema"] == "tcptop-ops/1"
    assert not is_sprung(trap)


def test_the_module_runs_nothing_of_the_directory(trap: Path, checkout: Path) -> None:
    """But for a package of the same name, which would be run in its place."""
    shutil.rmtree(trap / "tcptop_ops")
    assert told([str(checkout / ".venv/bin/python"), "-m", "tcptop_ops"], trap)["schema"] == "tcptop-ops/1"
    assert not is_sprung(trap)


def test_the_module_keeps_the_directory_that_the_package_is_in(monkeypatch: pytest.MonkeyPatch) -> None:
    for first, kept in ((str(TOP), True), ("/", False), ("", False)):
        monkeypatch.setattr(sys, "path", [first, "rest"])
        forget_working_directory()
        assert sys.path == ([first, "rest"] if kept else ["rest"])
