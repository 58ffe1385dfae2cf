"""The man page and the completions: what is checked in is what is made, and shells and groff take it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tcptop_ops.cli import manual
from tcptop_ops.cli.arguments import parser
from tcptop_ops.config.keymap import KEYS
from tcptop_ops.views.column_lookup import COLUMNS_BY_NAME
from tcptop_ops.views.columns import COLUMNS

DOCS = Path(__file__).parents[2] / "docs" / "man"
OPTIONS = [option for section in manual.sections(parser()) for option in section.options]
NAMES = [name for option in OPTIONS for name in option.names]
LIMIT_S = 60


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"no {name} here")
    return found


@pytest.mark.parametrize("kind", manual.MAKERS)
def test_what_is_checked_in_is_what_is_made(kind: str) -> None:
    made = manual.MAKERS[kind](parser())
    name = manual.FILE_NAMES[kind]
    assert (DOCS / name).read_text() == made, f"python -m tcptop_ops.cli.manual {kind} > docs/man/{name}"
    assert made.isascii()


def test_the_command_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert manual.main(["bash"]) == 0
    assert capsys.readouterr().out == manual.bash(parser())
    assert manual.main(["csh"]) == 2
    assert "man|bash|zsh|fish" in capsys.readouterr().err


def test_each_option_of_help_is_in_each() -> None:
    table = parser().format_help()
    assert all(name in table for name in NAMES)
    page, zsh, fish = manual.man(parser()), manual.zsh(parser()), manual.fish(parser())
    for name in NAMES:
        assert f"\\fB{name}\\fR".replace("-", "\\-") in page
        assert f"{name}[" in zsh or f"{name}=[" in zsh or f"{name}+[" in zsh
        assert f"-l {name[2:]} " in fish if name.startswith("--") else f"-s {name[1:]} " in fish


def test_the_page_has_every_column_and_key() -> None:
    page = manual.man(parser())
    for column in COLUMNS:
        assert f"\\fB{column.id}\\fR" in page
    told = manual.keys_by_words()
    assert sum(len(keys) for keys in told.values()) == sum(len(key.keys.split(",")) for key in KEYS)
    assert "/" in told["Write a filter"]


def test_roff_takes_a_line_literally() -> None:
    assert manual._plain(".x") == "\\&.x"
    assert manual._plain("a\\b -c") == "a\\eb \\-c"


def test_groff_has_nothing_to_say() -> None:
    ran = subprocess.run(
        [tool("groff"), "-ww", "-man", "-Tascii", "-z", DOCS / "tcptop-ops.1"],
        capture_output=True,
        text=True,
        check=True,
        timeout=LIMIT_S,
    )
    assert ran.stderr == ""


DRIVER = r"""
source "$1"
shift
compopt() { printf 'compopt %s\n' "$*"; }
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_tcptop_ops
printf '%s\n' "${COMPREPLY[@]}"
"""


def bash_offers(*words: str) -> list[str]:
    """What a real bash offers for the last of these, which are broken as readline breaks them."""
    ran = subprocess.run(
        [tool("bash"), "--norc", "-c", DRIVER, "bash", DOCS / manual.FILE_NAMES["bash"], "tcptop-ops", *words],
        capture_output=True,
        text=True,
        check=True,
        timeout=LIMIT_S,
    )
    assert ran.stderr == ""
    return [line for line in ran.stdout.splitlines() if line]


def test_bash_offers_every_option() -> None:
    assert bash_offers("-") == NAMES
    assert bash_offers("--rec") == [name for name in NAMES if name.startswith("--rec")]


def test_bash_offers_choices() -> None:
    assert bash_offers("--source", "") == ["auto", "sockops", "sockdiag"]
    assert bash_offers("--source", "=", "sockd") == ["sockdiag"]
    assert bash_offers("--json", "-g", "remote") == ["remote", "remote-net"]


def test_bash_offers_columns_one_after_the_other() -> None:
    assert bash_offers("-c", "cw") == ["compopt -o nospace", "cwnd"]
    assert "pid,cwnd" in bash_offers("--columns", "pid,c")
    assert "pid,cwnd" in bash_offers("--columns", "=", "pid,cw")
    assert "+pid,-cwnd" in bash_offers("-c", "+pid,-cw")
    assert set(COLUMNS_BY_NAME) | {"all"} < set(bash_offers("-c", ""))


def test_bash_offers_both_ways_to_sort() -> None:
    assert "srtt" in bash_offers("-s", "srt")
    assert bash_offers("-s", "srtt", ":") == ["asc", "desc"]
    assert bash_offers("--sort", "=", "retr%", ":", "d") == ["desc"]


def test_bash_leaves_files_to_readline() -> None:
    assert bash_offers("--replay", "my") == ["compopt -o default"]
    assert bash_offers("--cgroup", "/sys") == ["compopt -o dirnames"]
    assert bash_offers("--json", ">", "o") == ["compopt -o default"]
    assert bash_offers("--filter", "x") == []


def fish_offers(line: str) -> list[str]:
    script = f"source '{DOCS / manual.FILE_NAMES['fish']}'; complete -C '{line}'"
    command = [tool("fish"), "--no-config", "-c", script]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=LIMIT_S)
    assert ran.stderr == ""
    return [found.split("\t")[0] for found in ran.stdout.splitlines()]


def test_fish_offers_options_choices_columns_and_sort_keys() -> None:
    assert set(fish_offers("tcptop-ops --")) == {name for name in NAMES if name.startswith("--")}
    assert fish_offers("tcptop-ops --source sockd") == ["sockdiag"]
    assert "pid,cwnd" in fish_offers("tcptop-ops -c pid,cw")
    assert "srtt:asc" in fish_offers("tcptop-ops --sort srtt:")
    assert "rto-stall" in fish_offers("tcptop-ops --explain rto-")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_finds_no_fault(shell: str) -> None:
    command: list[str | Path] = [tool(shell), "-n", DOCS / manual.FILE_NAMES[shell]]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT_S)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_every_kind_of_value_is_known_to_every_shell() -> None:
    tables: list[Callable[[manual.Option], str]] = [manual._bash_action, manual._fish_action]
    for option in OPTIONS:
        if option.value:
            assert all(table(option) for table in tables), option.names
            assert option.kind in (*manual.ZSH_ACTIONS, "choices")
