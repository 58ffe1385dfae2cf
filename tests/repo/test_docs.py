"""What the pages tell a user to type is what the program takes; what they point to is there."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tcptop_ops.cli.arguments import parser, read, resolve
from tcptop_ops.errors import Usage
from tcptop_ops.explain import pages as explain
from tcptop_ops.filters.grammar import FilterError
from tests.support.documents import FENCED, PAGES, ROOT, commands

LINK = re.compile(r"\]\(([^)\s]+)\)")
OPTION = re.compile(r"--[a-z][a-z-]*")


def problem(typed: str) -> str:
    """Why the program would refuse this; empty if it would not."""
    try:
        given = read(shlex.split(typed))
        resolve(given)
        if given.explain not in (None, "NAME", "WORD"):
            explain.page(given.explain)
    except (Usage, FilterError, ValueError) as error:
        return f"{typed}: {error}"
    return ""


def slugs(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", FENCED.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def broken(page: Path, text: str) -> list[str]:
    """The links of a page that lead nowhere in the checkout."""
    found = []
    for link in LINK.findall(FENCED.sub("", text)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in slugs(target.read_text())):
            found.append(link)
    return found


def options() -> set[str]:
    """The long options of --help; of those that have a negation, the plain one."""
    every = {name for action in parser()._actions for name in action.option_strings if name.startswith("--")}
    return {name for name in every if not (name.startswith("--no-") and f"--{name[5:]}" in every)}


def test_there_are_examples() -> None:
    assert len([typed for page in PAGES for typed in commands(page.read_text())]) > 50


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_is_understood(page: Path) -> None:
    assert [wrong for typed in commands(page.read_text()) if (wrong := problem(typed))] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    assert broken(page, page.read_text()) == []


def test_every_option_is_told() -> None:
    pages = [*PAGES, *(ROOT / "docs").glob("man/*")]
    told = {name for page in pages for name in OPTION.findall(page.read_text().replace("\\-", "-"))}
    assert options() - told - {"--help", "--version"} == set()


def test_queries_are_where_they_are_run() -> None:
    """test_recording.py runs those of this page."""
    assert {page.name for page in PAGES if "```sql" in page.read_text()} == {"recordings.md"}


@pytest.mark.parametrize(
    "wrong",
    [
        "`tcptop-ops --filtre 'srtt > 20ms'`",
        "    sudo ./run --filter 'srtt >'",
        "```\ntcptop-ops -c process,nothing       a table\n```",
        "```sh\ntcptop-ops --json --fail-if 'rto > yes' | jq .\n```",
        "`./run --explain lossy`",
    ],
)
def test_a_wrong_example_is_found(wrong: str) -> None:
    (typed,) = commands(wrong)
    assert problem(typed)


def test_a_wrong_link_is_found() -> None:
    page = ROOT / "docs" / "made-up.md"
    text = "# One\n[a](#one) [b](#two) [c](nothing.md) [d](diagnosis.md#findings) [e](diagnosis.md#nothing)"
    page_text = text.replace("(#one)", "(diagnosis.md)").replace("(#two)", "(diagnosis.md#two)")
    assert broken(page, page_text) == ["diagnosis.md#two", "nothing.md", "diagnosis.md#nothing"]


@pytest.fixture(scope="module")
def printed() -> str:
    """A line of real --json, of this host, polled."""
    command = [sys.executable, "-m", "tcptop_ops", "--no-config", "--source", "sockdiag", "--json", "--once"]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, timeout=60).stdout


def programs() -> list[str]:
    """What the page about scripts gives to jq."""
    return re.findall(r"\bjq (?:-\w+ )?'([^']*)'", (ROOT / "docs" / "scripts.md").read_text())


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed")
@pytest.mark.parametrize("program", programs())
def test_jq_takes_it(printed: str, program: str) -> None:
    done = subprocess.run(["jq", program], input=printed, capture_output=True, text=True, timeout=30, check=False)
    empty = '"connections":[]' in printed.replace(" ", "") and "connections[0]" in program
    assert done.returncode == 0 or empty, done.stderr
