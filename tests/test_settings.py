"""The configuration: what a file says, how it is changed, and with whose rights it is read and written."""

from __future__ import annotations

import os
import pwd
import stat
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from textual.keys import _character_to_key

from tcptop_ops import keynames, settings_file
from tcptop_ops.arguments import Arguments, read, resolve
from tcptop_ops.cli import spec_of
from tcptop_ops.columns import DEFAULT, OUTPUT, find, parse_list
from tcptop_ops.errors import Failed, TcptopError, Usage
from tcptop_ops.keymap import KEYS
from tcptop_ops.privilege import User
from tcptop_ops.settings import Settings
from tcptop_ops.settings_text import commented_defaults, edited, parse
from tcptop_ops.view import Spec
from tcptop_ops.widgets import themes
from tcptop_ops.widgets.flow_table import FlowTable
from tcptop_ops.widgets.row import Row
from tests.screens import text_of
from tests.support.running_app import app_of, header, running

OTHER_ID = 12345
"""A user that this host need not know."""

EVERYTHING = """
delay = 2
window = 60
closed = 0
sort = "retr"
columns = ["process", "peer", "srtt"]
group = "remote-net"
names = true
mouse = false
theme = "light"
show_closed = false
loopback = false
widths = { peer = 30, srtt = 7 }

[thresholds]
srtt = [20_000, 1e5]
score = [10, 50]

[keys]
quit = "Q, f12"
sort.menu = "!"
"filter.clear" = "slash"
filter = "\\\\"
"""


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
        assert keynames.canonical(character) == _character_to_key(character)
    assert keynames.canonical("é") == "é"
    assert keynames.listed("q, f10 ,Q,q") == ("q", "f10", "Q")
    assert keynames.canonical("ctrl+r") == "ctrl+r"
    assert keynames.canonical("shift+down") == "shift+down"
    assert keynames.canonical("ctrl+\\") == "ctrl+backslash"


@pytest.mark.parametrize("key", ["", "\t", "\0", "qq", "F5", "ctrl+", "ctrl+ctrl+a", "hyper+a", "ctrl-a", "\x1b[A"])
def test_what_is_no_key(key: str) -> None:
    with pytest.raises(Usage):
        keynames.listed(key)


def test_every_key_of_the_table_has_a_name_and_one_use() -> None:
    names = [name for key in KEYS for name in key.keys.split(",")]
    assert len(set(names)) == len(names)
    for key in KEYS:
        assert ",".join(keynames.listed(key.keys)) == key.keys


# The file


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of whoever runs this, and no sudo."""
    for name in ("SUDO_UID", "DOAS_UID", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    entry = (str(os.geteuid()), "x", os.geteuid(), os.getegid(), "", str(tmp_path), "")
    monkeypatch.setattr(pwd, "getpwuid", lambda _: pwd.struct_passwd(entry))
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def placed(home: Path, text: str | bytes = "") -> Path:
    path = home / ".config/tcptop-ops/config.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_where_it_is(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings_file.where() == home / ".config/tcptop-ops/config.toml"
    monkeypatch.setattr(os, "geteuid", lambda: OTHER_ID)
    monkeypatch.setenv("XDG_CONFIG_HOME", "/x")
    assert settings_file.where() == Path("/x/tcptop-ops/config.toml")
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")  # to be ignored, says the XDG specification
    monkeypatch.setenv("HOME", "/y")
    assert settings_file.where() == Path("/y/.config/tcptop-ops/config.toml")
    monkeypatch.delenv("HOME")
    assert settings_file.where() == home / ".config/tcptop-ops/config.toml"


def test_roots_environment_has_no_say(monkeypatch: pytest.MonkeyPatch) -> None:
    homes = {0: "/root", OTHER_ID: "/home/other"}
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: pwd.struct_passwd(("", "", uid, 7, "", homes[uid], "")))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("XDG_CONFIG_HOME", "/tmp/evil")
    monkeypatch.setenv("HOME", "/tmp/evil")
    monkeypatch.setenv("SUDO_UID", str(OTHER_ID))
    assert settings_file.where() == Path("/home/other/.config/tcptop-ops/config.toml")
    assert settings_file.owner() == User(OTHER_ID, 7, "")
    for caller in ("0", "-1", "x", ""):
        monkeypatch.setenv("SUDO_UID", caller)
        assert settings_file.where() == Path("/root/.config/tcptop-ops/config.toml")


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(_: int) -> None:
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for name in ("HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert settings_file.where() is None
    assert settings_file.load(None) == Settings()
    with pytest.raises(Failed, match="no home"):
        settings_file.save(None, Settings())


def test_no_file_is_the_defaults(home: Path) -> None:
    path = settings_file.where()
    assert settings_file.load(path) == Settings()
    assert settings_file.load(path).path == path
    (home / ".config").write_text("a file where a directory belongs")
    assert settings_file.load(path) == Settings()


def test_a_file_is_read(home: Path) -> None:
    assert settings_file.load(placed(home, EVERYTHING)) == parse(EVERYTHING)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.mkdir(), "config.toml is not a regular file"),
        (os.mkfifo, "config.toml is not a regular file"),
        (lambda path: path.symlink_to("/dev/zero"), "config.toml is not a regular file"),
        (lambda path: path.symlink_to(path), "config.toml can't be read: Too many levels of symbolic links"),
        (lambda path: path.write_bytes(b"#" * (64 << 10) + b"#"), "config.toml is too large: more than 64 KiB"),
        (lambda path: path.write_bytes(b"# a\n# b\n# \xff"), "config.toml line 3: not UTF-8"),
        (lambda path: path.write_text("\n\nnope"), "config.toml line 3: not TOML"),
    ],
    ids=["directory", "FIFO", "device", "loop", "large", "Latin-1", "TOML"],
)
def test_what_can_not_be_read(home: Path, make: Any, message: str) -> None:
    path = placed(home)
    path.unlink()
    make(path)
    for attempt in (lambda: settings_file.load(path), lambda: settings_file.save(path, Settings(delay=2))):
        with pytest.raises(TcptopError) as error:
            attempt()
        assert message in error.value.message
        assert error.value.hint


def test_a_file_of_the_greatest_size(home: Path) -> None:
    assert settings_file.load(placed(home, b"#" * (64 << 10))) == Settings()


def test_it_is_made_for_its_user_alone(home: Path) -> None:
    path = settings_file.where()
    assert path is not None
    before = os.umask(0)
    try:
        settings_file.save(path, Settings(delay=2.0))
    finally:
        os.umask(before)
    assert path.read_text() == "delay = 2.0\n"
    assert (mode(path), mode(path.parent), mode(path.parent.parent)) == (0o600, 0o700, 0o700)
    assert settings_file.load(path) == Settings(delay=2.0)
    assert os.listdir(path.parent) == ["config.toml"]


def test_it_is_replaced_at_once(home: Path) -> None:
    """Who reads it meanwhile has the old one, whole."""
    path = placed(home, "delay = 3\n")
    with open(path) as reader:
        settings_file.save(path, Settings(delay=2.0))
        assert reader.read() == "delay = 3\n"
    assert path.read_text() == "delay = 2.0\n"


def test_a_link_stays_one(home: Path) -> None:
    path = placed(home)
    path.unlink()
    target = home / "dotfiles/tcptop.toml"
    target.parent.mkdir()
    target.write_text("# kept\n")
    path.symlink_to("../../dotfiles/tcptop.toml")
    settings_file.save(path, Settings(theme="dark"))
    assert path.is_symlink()
    assert target.read_text() == '# kept\ntheme = "dark"\n'


def test_nothing_is_written_where_nothing_differs(home: Path) -> None:
    path = placed(home, "delay = 2\n")
    before = path.stat()
    settings_file.save(path, Settings(delay=2.0))
    assert path.stat() == before
    (home / "empty").mkdir()
    settings_file.save(home / "empty/config.toml", Settings())
    assert os.listdir(home / "empty") == []


def test_what_others_wrote_meanwhile_stays(home: Path) -> None:
    path = placed(home, "delay = 2\n")
    settings_file.update(path, {"theme": "dark"})
    assert parse(path.read_text()) == Settings(delay=2.0, theme="dark")


@pytest.mark.parametrize("refused", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_one(home: Path, monkeypatch: pytest.MonkeyPatch, refused: str) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    path = placed(home, "delay = 3\n")
    monkeypatch.setattr(os, refused, full)
    with pytest.raises(Failed, match=r"can't be saved to .*: No space left on device"):
        settings_file.save(path, Settings())
    assert path.read_text() == "delay = 3\n"
    assert os.listdir(path.parent) == ["config.toml"]


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user: needs root")


@needs_root
def test_it_is_read_with_the_rights_of_its_user(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What root alone may read is not read through somebody's link; afterwards root is root again."""
    for directory in (home, *home.parents):
        if directory.stat().st_uid == 0 and not mode(directory) & 1:
            directory.chmod(mode(directory) | 0o011)
    secret = home / "secret"
    secret.write_text("a secret")
    secret.chmod(0o600)
    path = placed(home)
    path.unlink()
    path.symlink_to(secret)
    path.parent.chmod(0o755)
    path.parent.parent.chmod(0o755)
    with pytest.raises(Usage, match="line 1: not TOML"):
        settings_file.load(path)
    monkeypatch.setattr(settings_file, "owner", lambda: User(OTHER_ID, OTHER_ID, "other"))
    before = (os.getresuid(), os.getresgid(), os.getgroups())
    with pytest.raises(Usage) as error:
        settings_file.load(path)
    assert error.value.message == "config.toml can't be read: Permission denied"
    assert (os.getresuid(), os.getresgid(), os.getgroups()) == before
    with pytest.raises(Failed, match="not saved by root"):
        settings_file.save(path, Settings(delay=2.0))
    assert secret.read_text() == "a secret"


@needs_root
@pytest.mark.parametrize("call", ["setgroups", "setegid", "seteuid"])
def test_root_that_can_not_become_its_user_reads_nothing(
    home: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def refused(_: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    path = placed(home, "delay = 2\n")
    monkeypatch.setattr(settings_file, "owner", lambda: User(OTHER_ID, OTHER_ID, "other"))
    monkeypatch.setattr(os, call, refused)
    with pytest.raises(Usage, match="can't be read as its owner: Operation not permitted"):
        settings_file.load(path)
    path.unlink()
    assert settings_file.load(path) == Settings()
    monkeypatch.undo()
    assert os.getegid() == os.getgid()


# The command line, and what reaches the screen


def resolved(said: Settings, *argv: str) -> Arguments:
    return resolve(read(list(argv)), said)


def test_the_command_line_beats_the_file() -> None:
    said = parse(EVERYTHING)
    found = resolved(said)
    assert (found.delay_s, found.window_s, found.closed_s) == (2, 60, 0)
    assert (found.sort, found.falling, found.mouse) == (find("retr"), True, False)
    assert found.columns == parse_list("process,peer,srtt")
    assert found.settings == said
    line = "-d 3 -w 30 --closed 4 -s srtt:asc -c peer --mouse --theme dark"
    found = resolved(said, *line.split())
    assert (found.delay_s, found.window_s, found.closed_s) == (3, 30, 4)
    assert (found.sort, found.falling, found.mouse) == (find("srtt"), False, True)
    assert found.columns == parse_list("peer")
    assert found.settings == replace(said, theme="dark")


def test_columns_of_the_command_line_change_those_of_the_file() -> None:
    said = Settings(columns=("process", "peer"))
    assert resolved(said, "-c", "+cwnd,-peer").columns == parse_list("process,cwnd")
    assert resolved(Settings()).columns is None


def test_outputs_leave_out_nothing_unasked() -> None:
    said = Settings(show_closed=False, loopback=False, widths={"peer": 9}, thresholds={"srtt_us": (1, 2)})
    shown, put_out = spec_of(resolved(said)), spec_of(resolved(said, "--json"))
    assert (shown.show_closed, shown.show_loopback) == (False, False)
    assert (shown.widths, shown.thresholds) == (said.widths, said.thresholds)
    assert (put_out.show_closed, put_out.show_loopback) == (True, True)


def test_thresholds_of_columns() -> None:
    srtt, score = find("srtt"), find("score")
    assert [srtt.level(value, (10, 20)) for value in (float("nan"), 0.0, 9, 10, 20)] == [-1, -1, 0, 1, 2]
    assert [score.level(20, severity) for severity in (None, (1, 2), (30, 40))] == [1, 2, 0]
    assert find("process").level(b"x", (1, 2)) == 0


@pytest.mark.parametrize(
    ("thresholds", "bad"),
    [
        ({}, [True, False, False]),
        ({"score": (1, 5)}, [True, True, False]),
        ({"retrans_win": (90, 99), "retrans_pct": (90, 99)}, [False, False, False]),
        ({"srtt_us": (100_000, 200_000)}, [True, False, True]),
    ],
)
async def test_thresholds_reach_the_table_and_the_story(
    thresholds: dict[str, tuple[float, float]], bad: list[bool]
) -> None:
    app = app_of(spec=Spec(thresholds=thresholds))
    async with running(app):
        assert [line[1] == "!" for line in text_of(app)[4:7]] == bad
        assert app.shown is not None
        levels = [Row.of(app.shown, position).level("srtt") for position in range(3)]
        assert levels == ([0, 0, 2] if "srtt_us" in thresholds else [0, 0, 0])


async def test_keys_of_the_file() -> None:
    said = Settings(keys={"pause": "P", "sort.retransmits": "r", "sort.reverse": "x", "table.down": "ctrl+n"})
    app = app_of(settings=said)
    async with running(app) as pilot:
        await pilot.press("x")
        assert "RETR^" in header(app)
        await pilot.press("s", "escape", "2", "r")
        assert "RETRv" in header(app)
        await pilot.press("j")
        assert app.query_one(FlowTable).cursor == 0
        await pilot.press("ctrl+n")
        assert app.query_one(FlowTable).cursor == 1
        assert text_of(app)[23].startswith("q Quit  / Filter  s Sort  r Retrans  f Finding  Enter Detail  P Pause")
        await pilot.press("question_mark")
        await pilot.press(*"j" * 16)
        assert any(" ^N Up k " in line and "Down and up" in line for line in text_of(app))


async def test_the_theme_of_the_file() -> None:
    for said, theme in ((Settings(theme="light"), "light"), (Settings(), themes.usual(os.environ))):
        async with running(app_of(settings=said)) as pilot:
            assert pilot.app.theme == theme


async def test_saving_keeps_what_was_changed_by_keys(home: Path) -> None:
    """And nothing else: what only the command line said is not for the next start."""
    path = placed(home, "# mine\nwindow = 30\nsort = 'score'\n")
    said = replace(settings_file.load(path), theme="light")
    app = app_of(settings=said, spec=Spec(sort=find("srtt_us")))
    async with running(app) as pilot:
        await pilot.press("w")
        assert path.read_text() == "# mine\nwindow = 30\nsort = 'score'\n"
        await pilot.press("x", "c", "L", "minus", "w")
        assert "saved in" in " ".join(text_of(app))
        made = path.read_text()
        assert parse(made) == Settings(
            delay=300.0, window=30.0, sort="retrans_win:desc", show_closed=False, loopback=False
        )
        assert made.startswith("# mine\nwindow = 30\n")
        path.unlink()
        await pilot.press("T", "C", "space", "plus", "enter", "w")
        found = parse(path.read_text())
        assert found.theme == pilot.app.theme
        assert found.widths == {"score": 4}
        assert found.columns is not None
        assert "score" not in found.columns


async def test_columns_of_a_mark_are_not_saved(home: Path) -> None:
    path = placed(home)
    app = app_of(settings=replace(Settings(), path=path), spec=Spec())
    async with running(app) as pilot:
        await pilot.press("m", "c", "w")
        assert parse(path.read_text()) == Settings(show_closed=False)


async def test_what_can_not_be_saved_is_told(home: Path) -> None:
    path = placed(home, "nope")
    for said, words in ((Settings(), "no home"), (replace(Settings(), path=path), "line 1: not TOML")):
        app = app_of(settings=said)
        async with running(app, (160, 50)) as pilot:
            await pilot.press("c", "w")
            assert words in " ".join(text_of(app))
    assert path.read_text() == "nope"
