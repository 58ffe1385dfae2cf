"""Settings as text: what a file says, how it is changed, and the names of keys."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from textual.keys import _character_to_key

from tcptop_ops.config import key_names
from tcptop_ops.config.keymap import KEYS
from tcptop_ops.config.settings import Settings
from tcptop_ops.config.toml_text import commented_defaults, edited, parse
from tcptop_ops.errors import Usage
from tcptop_ops.views.column_sets import DEFAULT, OUTPUT
from tests.support.settings_files import EVERYTHING


def test_everything_that_a_file_may_say() -> None:
    assert parse(EVERYTHING) == Settings(
        delay=2.0,
        window=60.0,
        closed=0.0,
        sort="retrans_win:desc",
        columns=("process", "peer", "srtt_us"),
        group="remote-net",
        names=True,
        mouse=False,
        theme="light",
        show_closed=False,
        loopback=False,
        widths={"peer": 30, "srtt_us": 7},
        thresholds={"srtt_us": (20_000, 100_000)},
        keys={"quit": "Q,f12", "sort.menu": "exclamation_mark", "filter.clear": "slash", "filter": "backslash"},
    )


def test_no_text_is_the_defaults() -> None:
    assert parse("") == parse("# nothing\n\n[keys]\n[widths]\n") == Settings()


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ('"all"', tuple(column.id for column in OUTPUT)),
        ('"+cwnd,-rto"', (*(name for name in DEFAULT if name != "rto_win"), "cwnd")),
        ('["+cwnd", "-rto"]', (*(name for name in DEFAULT if name != "rto_win"), "cwnd")),
        (str(list(DEFAULT)), None),
    ],
)
def test_columns_in_other_words(text: str, columns: tuple[str, ...] | None) -> None:
    assert parse(f"columns = {text}").columns == columns


WRONG = [
    ("colums = 1", 1, "no setting 'colums'", "did you mean columns?"),
    ("\n# x\n\ncallbacks = 'all'", 4, "no setting 'callbacks'", "--print-config"),
    ("delay = 0", 1, "delay: 0 is not between 0.1 and 3600 seconds", "1"),
    ("delay = nan", 1, "delay: nan is not between 0.1 and 3600 seconds", "1"),
    ("delay = '1'", 1, "delay: '1' is not a number of seconds", "1"),
    ("delay = true", 1, "delay: true is not a number of seconds", "1"),
    ("closed = -1", 1, "closed: -1 is not between 0 and 3600 seconds", "5"),
    (f"window = {'9' * 400}", 1, f"window: {'9' * 40}~ is not between 1 and 86400 seconds", "20"),
    ("sort = 'srt'", 1, "sort: no column 'srt'", "did you mean srtt?"),
    ("sort = 'srtt:up'", 1, "sort: no order 'up'", "asc or desc"),
    ("sort = 1", 1, "sort: 1 is not a column's name", "retr:desc"),
    ("a = 1\ncolumns = [\n 'peer',\n 1]", 1, "no setting 'a'", ""),
    ("\ncolumns = [\n 'peer',\n 1]", 2, "columns: ['peer', 1] is not a list of columns", "process"),
    ("columns = []", 1, "columns: no columns given", "process"),
    ("columns = 'peer,-rto'", 1, "columns: a list of columns is either names, or +name and -name", "+cwnd"),
    ("group = 'proces'", 1, "group: 'proces' is none of: none, process, ", "did you mean process?"),
    ("theme = 1", 1, "theme: 1 is none of: auto, dark", "dark"),
    ("mouse = 'no'", 1, "mouse: 'no' is not true or false", "without quotes"),
    ("widths = 3", 1, "widths is not a table", "[widths]"),
    ("[[keys]]\nquit = 'x'", 1, "keys is not a table", "[keys]"),
    ("delay = 1\n[widths]\npeer = 30\npear = 30", 4, "pear: no column 'pear'", "did you mean peer?"),
    ("[widths]\npeer = 2", 2, "peer: 2 is not from 3 to 60 characters", "22"),
    ("[widths]\npeer = true", 2, "peer: true is not from 3 to 60 characters", "22"),
    ("[widths]\nsrtt = 9\n\nsrtt_us = 9", 4, "srtt_us: srtt_us was told before", "enough"),
    ("[thresholds]\nsrtt = [2, 1]", 2, "srtt: [2, 1] does not ascend", "a warning, and bad"),
    ("[thresholds]\nsrtt = [1, nan]", 2, "srtt: [1, nan] does not ascend", "a warning, and bad"),
    ("[thresholds]\nsrtt = [1, '2ms']", 2, "srtt: [1, '2ms'] is not two numbers", "a warning, and bad"),
    ("[thresholds]\nprocess = [1, 2]", 2, "process: its values are not numbers", "srtt"),
    ("[thresholds]\ncookie = [1, 2]", 2, "cookie: its values are not numbers", "srtt"),
    ("[keys]\nqiut = 'x'", 2, "qiut: no key is called 'qiut'", "did you mean quit?"),
    ("[keys]\nquit = 1", 2, "quit: 1 is not a key, or several", "q,f10"),
    ("[keys]\nquit = 'pagdown'", 2, "quit: no key 'pagdown'", "did you mean pagedown?"),
    ("[keys]\nquit = 'Q,'", 2, "quit: a key is missing", "comma"),
    ("[keys]\nquit = 's'", 2, "quit: the key s is that of sort.menu too", "give sort.menu another one"),
    ("[keys]\nquit = 'Q'\n\nsort.menu = 'Q'", 4, "sort.menu: the key Q is that of quit too", "give quit another one"),
    ("keys.quit = 'j'", 1, "quit: the key j is that of table.down too", "give table.down another one"),
    ("delay = 1\nmouse = tru", 2, "not TOML: ", "--no-config"),
    ("delay = ", 1, "not TOML: unexpected character: the end", "--no-config"),
    ("[keys]\nquit = 'Q'\n# x\nquit = 'Q'", 4, 'not TOML: key "quit" already exists', "--no-config"),
    ('delay = 1\n\n"dela\\u0079" = 1', 3, 'not TOML: key "delay" already exists', "--no-config"),
    ("theme = '''\ndark'''\n[widths]\n[widths]\n\n\n", 4, 'not TOML: key "widths" already exists', "--no-config"),
    ("a = " + "[" * 5000, 1, "not TOML: ", "--no-config"),
    ("x" * 5000 + " = 1", 1, "no setting 'xxx", "--print-config"),
]


@pytest.mark.parametrize(("text", "line", "message", "hint"), WRONG, ids=lambda value: str(value)[:40])
def test_what_is_wrong_is_told_with_its_line(text: str, line: int, message: str, hint: str) -> None:
    with pytest.raises(Usage) as error:
        parse(text)
    assert error.value.message.startswith(f"config.toml line {line}: {message}")
    assert hint in error.value.hint
    assert error.value.hint
    assert len(error.value.message) < 250
    assert error.value.exit_code == 2


def test_the_line_is_not_misled_by_what_looks_like_a_line() -> None:
    text = 'sort = """\\\n  srtt"""\ncolumns = [ # ]\n  "peer", # columns = 1\n  "srtt"]\n'
    with pytest.raises(Usage, match=r"^config\.toml line 7: mouse"):
        parse(text + "'keys'.quit = '#'\r\nmouse = 1\n")


# The printed defaults


def test_the_printed_defaults_change_nothing() -> None:
    text = commented_defaults()
    assert parse(text) == Settings()
    assert edited(text, Settings()) == text


def test_the_printed_defaults_tell_everything() -> None:
    lines = commented_defaults().splitlines()
    for name in (
        "delay",
        "sort",
        "columns",
        "theme",
        "mouse",
        "show_closed",
        "loopback",
        "group",
        "names",
    ):
        [at] = [n for n, line in enumerate(lines) if line.startswith(f"{name} = ") and lines[n - 1].startswith("# ")]
        assert lines[at - 1].endswith(".")
    for key in KEYS:
        assert any(line.startswith((f"{key.id} = ", f'"{key.id}" = ')) for line in lines)
    assert all(len(line) <= 120 for line in lines)


def test_a_value_of_the_printed_defaults_that_is_changed_counts() -> None:
    text = commented_defaults()
    assert parse(text.replace("delay = 1.0", "delay = 7")) == Settings(delay=7.0)
    assert parse(text.replace("score = [10, 50]", "score = [20, 60]")).thresholds == {"score": (20, 60)}
    assert parse(text.replace('"q,f10"', '"Q"')).keys == {"quit": "Q"}


# Changing the text


def test_only_what_differs_is_changed() -> None:
    text = "# mine\ndelay = 2 # slow\n\nsort = 'retr' # as of old\n[widths] # wide\npeer = 30 # IPv6\nlocal=9\n\n"
    text += "[keys]\n# far\nquit = 'Q'\n"
    wanted = replace(parse(text), delay=5.0, theme="dark", widths={"peer": 40}, loopback=False)
    made = edited(text, wanted)
    assert parse(made) == wanted
    for kept in (
        "# mine\n",
        " # slow\n",
        "sort = 'retr' # as of old\n",
        "[widths] # wide\n",
        "peer = 40 # IPv6\n",
        "# far\n",
    ):
        assert kept in made
    assert "local" not in made
    assert (
        made.index("delay") < made.index("sort") < made.index("theme") < made.index("[widths]") < made.index("[keys]")
    )
    for untouched in ("window", "mouse", "columns", "thresholds"):
        assert untouched not in made


@pytest.mark.parametrize(
    ("text", "changed", "made"),
    [
        ("", {}, ""),
        ("columns = 'all' # all", {}, "columns = 'all' # all"),
        ("", {"columns": ("process", "peer")}, 'columns = ["process", "peer"]\n'),
        ("", {"thresholds": {"srtt_us": (1, 2.5)}}, "[thresholds]\nsrtt_us = [1, 2.5]\n"),
        ("[thresholds]\nsrtt = [1, 2]\n", {"thresholds": {"srtt_us": (1, 3)}}, "[thresholds]\nsrtt = [1, 3]\n"),
        ("[thresholds]\nscore = [10, 50]\n", {"thresholds": {"score": (1, 3)}}, "[thresholds]\nscore = [1, 3]\n"),
        ("keys.sort.menu = 'S' # x\n", {"keys": {"sort.menu": "Z"}}, 'keys.sort.menu = "Z" # x\n'),
        ("delay = 3\n", {"delay": 1.0}, "delay = 1.0\n"),
        ("mouse = false\n\n[keys]\n", {"mouse": True, "delay": 2.0}, "mouse = true\n\ndelay = 2.0\n[keys]\n"),
    ],
)
def test_how_it_is_changed(text: str, changed: dict[str, Any], made: str) -> None:
    found = edited(text, replace(parse(text), **changed))
    assert found.replace("\n\n", "\n") == made.replace("\n\n", "\n")


def test_the_printed_defaults_can_be_changed() -> None:
    wanted = Settings(columns=("peer",), keys={"quit": "Q", "table.down": "down"}, widths={"peer": 9}, names=True)
    text = commented_defaults()
    made = edited(text, wanted)
    assert parse(made) == wanted
    told = [line for line in text.splitlines() if line.startswith("#")]
    assert not Counter(told) - Counter(made.splitlines())


# Keys


def test_keys_are_named_as_textual_does() -> None:
    for character in map(chr, range(33, 127)):
        assert key_names.canonical(character) == _character_to_key(character)
    assert key_names.canonical("é") == "é"
    assert key_names.listed("q, f10 ,Q,q") == ("q", "f10", "Q")
    assert key_names.canonical("ctrl+r") == "ctrl+r"
    assert key_names.canonical("shift+down") == "shift+down"
    assert key_names.canonical("ctrl+\\") == "ctrl+backslash"


@pytest.mark.parametrize("key", ["", "\t", "\0", "qq", "F5", "ctrl+", "ctrl+ctrl+a", "hyper+a", "ctrl-a", "\x1b[A"])
def test_what_is_no_key(key: str) -> None:
    with pytest.raises(Usage):
        key_names.listed(key)


def test_every_key_of_the_table_has_a_name_and_one_use() -> None:
    names = [name for key in KEYS for name in key.keys.split(",")]
    assert len(set(names)) == len(names)
    for key in KEYS:
        assert ",".join(key_names.listed(key.keys)) == key.keys
