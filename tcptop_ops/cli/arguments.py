"""The command line, as plain data."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, NoReturn

from tcptop_ops.bpf.attach import Options
from tcptop_ops.config.settings import GROUPS, THEMES, Settings, between
from tcptop_ops.errors import Usage
from tcptop_ops.recording.demo import PATH as DEMO

if TYPE_CHECKING:
    from tcptop_ops.model.filter import Filter
    from tcptop_ops.views.column import Column

SOURCES = ("auto", "sockops", "sockdiag")
CALLBACKS = ("all", "every", "events")


@dataclass(frozen=True)
class Arguments:
    """What was asked for. ``columns`` None: the default set, as wide as the screen.

    ``settings``: those of the file, overridden by the command line where that can say them too.
    """

    source: str
    delay_s: float
    window_s: float
    closed_s: float
    sort: Column
    falling: bool
    columns: tuple[Column, ...] | None
    group: str
    mouse: bool
    output: str  # screen, batch, json, csv, or none
    iterations: int | None
    filter: Filter | None
    no_helper: bool
    allow_close: bool
    settings: Settings
    record: str | None = None
    record_for_s: float | None = None
    record_size: int | None = None
    record_if: Filter | None = None
    replay: str | None = None
    speed: float = 1.0  # 0: without waiting
    demo: bool = False  # ``replay`` is the package's own, played again and again
    fail_if: Filter | None = None
    metrics: tuple[str, int] | None = None  # address and port


class _HelpAsked(Exception):
    """``--help`` was met: with its text, which is the caller's to write."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class _Parser(argparse.ArgumentParser):
    def print_help(self, file: Any = None) -> NoReturn:
        """Raise it: argparse would write into a buffer, whose flush at the exit may fail where nobody can tell."""
        raise _HelpAsked(self.format_help())

    def format_help(self) -> str:
        from tcptop_ops.views.columns import COLUMNS

        self.epilog = "columns: " + " ".join(c.id + (f"({c.alias})" if c.alias else "") for c in COLUMNS)
        return super().format_help()

    def error(self, message: str) -> NoReturn:
        raise Usage(message, "tcptop-ops --help lists the options")


def _seconds(name: str) -> Any:
    def convert(text: str) -> float:
        try:
            return between(name, float(text))
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds") from None
        except Usage as error:
            raise argparse.ArgumentTypeError(error.message) from None

    return convert


def _positive(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
    if not 1 <= value <= 2**31:
        raise argparse.ArgumentTypeError(f"{text} is not positive, or too large")
    return value


def _speed(text: str) -> float:
    if text == "max":
        return 0.0
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no speed: a number, or max") from None
    if not 0.01 <= value <= 1000:
        raise argparse.ArgumentTypeError(f"{text} is not between 0.01 and 1000")
    return value


LOOPBACK = "127.0.0.1"


def _listening(text: str) -> tuple[str, int]:
    """Return address and port of ``--metrics``: a port alone is one of the loopback address."""
    address, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdecimal() and int(port) < 1 << 16):
        raise argparse.ArgumentTypeError(f"{text!r} has no port, such as 9464 or 127.0.0.1:9464")
    if address in ("", "localhost"):
        return LOOPBACK, int(port)
    bare = address[1:-1] if address[0] == "[" and address[-1] == "]" else address
    try:
        family = ip_address(bare).version
    except ValueError:
        raise argparse.ArgumentTypeError(f"{address!r} is no address of this host, such as 127.0.0.1") from None
    if (family == 6) == (bare == address):
        raise argparse.ArgumentTypeError(f"{text!r}: an IPv6 address is written in brackets, such as [::1]:9464")
    return bare, int(port)


def _pids(text: str) -> tuple[int, ...]:
    return tuple(_positive(part.strip()) for part in text.split(","))


def parser() -> argparse.ArgumentParser:
    """Return the options, as --help shows them."""
    top = _Parser(
        prog="tcptop-ops",
        description="A top for TCP: which flows are bad, whose they are, and why.",
        allow_abbrev=False,
    )
    what = top.add_argument_group("what to watch")
    what.add_argument(
        "-f", "--filter", metavar="EXPR", help="show only matching connections, such as: srtt > 20ms and not :443"
    )
    what.add_argument("-p", "--pid", type=_pids, metavar="PID[,PID]", help="show only those of these processes")
    what.add_argument("--cgroup", metavar="PATH", help="attach to this cgroup only: one service, one container")
    what.add_argument(
        "--source", choices=SOURCES, default="auto", help="where figures come from (default: %(default)s)"
    )
    what.add_argument(
        "--callbacks",
        choices=CALLBACKS,
        help="all: seven flags at a connection's birth; every: seven throughout; events: RTO, RETRANS, STATE",
    )
    what.add_argument("--map-size", type=_positive, metavar="N", help="rows in the kernel's map")
    what.add_argument("--no-adopt", action="store_true", help="leave sockets alone that were open before the start")
    what.add_argument(
        "--no-helper",
        action="store_true",
        help="no privileged helper after the start: no new namespaces, no tidying after SIGKILL",
    )
    how = top.add_argument_group("how to show it")
    how.add_argument(
        "-d",
        "--delay",
        type=_seconds("delay"),
        metavar="SECONDS",
        help="between refreshes (default: 1)",
    )
    how.add_argument(
        "-w",
        "--window",
        type=_seconds("window"),
        metavar="SECONDS",
        help='what is "recent" (default: 20)',
    )
    how.add_argument("-s", "--sort", metavar="COLUMN[:asc|:desc]", help="(default: score)")
    how.add_argument(
        "-c", "--columns", metavar="LIST", help='ids or aliases; "all"; "+id,-id": the default set changed'
    )
    how.add_argument(
        "-g",
        "--group",
        choices=GROUPS,
        metavar="KEY",
        help=f"put connections together: {', '.join(GROUPS)} (default: none; --json never does)",
    )
    how.add_argument(
        "--closed",
        type=_seconds("closed"),
        metavar="SECONDS",
        help="how long a closed connection stays listed (default: 5)",
    )
    how.add_argument(
        "--names", action=argparse.BooleanOptionalAction, help="names of hosts and services, or their numbers (default)"
    )
    how.add_argument(
        "--theme", choices=THEMES, metavar="NAME", help=f"the colours: {', '.join(THEMES)} (default: auto)"
    )
    how.add_argument(
        "--mouse", action=argparse.BooleanOptionalAction, help="the mouse is the program's, or left to the terminal"
    )
    how.add_argument("--allow-close", action="store_true", help="let the key K close connections, after a question")
    without = top.add_argument_group("without a screen")
    without.add_argument("-b", "--batch", action="store_true", help="a plain text table a tick")
    without.add_argument("--json", action="store_true", help="a JSON object a tick, one a line")
    without.add_argument("--csv", action="store_true", help="a header, then a line a connection a tick (RFC 4180)")
    without.add_argument(
        "-n", "--iterations", type=_positive, metavar="N", help="stop after N ticks, with the screen too"
    )
    without.add_argument("--once", action="store_true", help="the same as -n 1")
    without.add_argument(
        "--fail-if",
        metavar="EXPR",
        help="exit 4 after the first tick in which a connection matches: a check for scripts",
    )
    without.add_argument(
        "--metrics",
        type=_listening,
        metavar="[ADDR:]PORT",
        help="serve OpenMetrics, with or without a screen; to this host alone, unless an address is given",
    )
    recordings = top.add_argument_group("recordings")
    recordings.add_argument(
        "--record", metavar="FILE", help="write every tick to FILE (SQLite), with or without a screen"
    )
    recordings.add_argument("--record-for", metavar="DURATION", help="stop recording after this long: 90s, 10m, 2h")
    recordings.add_argument(
        "--record-size", metavar="BYTES", help="the file stays below this, the oldest ticks go: 50M (least: 1M)"
    )
    recordings.add_argument(
        "--record-if",
        metavar="EXPR",
        help="start to record when a connection matches, such as: rto > 3; without --record: save the minutes before",
    )
    recordings.add_argument("--replay", metavar="FILE", help="play a recording in place of a kernel")
    recordings.add_argument("--demo", action="store_true", help="play the recording that comes with the program")
    recordings.add_argument(
        "--speed", type=_speed, metavar="X", help="how many times as fast; max: without waiting (default: 1)"
    )
    about = top.add_argument_group("about")
    about.add_argument(
        "--doctor",
        action="store_true",
        help="what this host supports, what is missing, what to do about it; with --json too",
    )
    about.add_argument("--print-config", action="store_true", help="the settings file with its defaults, explained")
    about.add_argument(
        "--no-config",
        action="store_true",
        help="leave the settings file unread (as TCPTOP_NO_CONFIG=1 in the environment)",
    )
    about.add_argument("--explain", metavar="WORD", help="a page about a column, a cause or an operator")
    about.add_argument("--version", action="store_true", help="show the version and exit")
    return top


def _joined(argv: list[str]) -> list[str]:
    """Join ``-c -rto`` to ``-c=-rto``: argparse would take what is to be left out for an option."""
    joined: list[str] = []
    for word in argv:
        if joined and joined[-1] in ("-c", "--columns") and word[:1] == "-" and _is_column(word[1:].split(",")[0]):
            joined[-1] = f"--columns={word}"
        else:
            joined.append(word)
    return joined


def _is_column(name: str) -> bool:
    from tcptop_ops.views.column_lookup import COLUMNS_BY_NAME

    return name in COLUMNS_BY_NAME


def parse(argv: list[str]) -> Arguments | None:
    """Return the arguments; None when help or the version was asked for. Raises Usage."""
    given = read(argv)
    return None if given.help or given.version else resolve(given)


def read(argv: list[str]) -> argparse.Namespace:
    """Return the command line as it is written: columns are not looked up yet. Raises Usage.

    ``help``: the text to write, where that is asked for, and nothing else then counts.
    """
    try:
        given = parser().parse_args(_joined(argv), argparse.Namespace(help=""))
    except _HelpAsked as asked:
        return argparse.Namespace(help=asked.text)
    outputs = [f"--{name}" for name in ("batch", "json", "csv") if getattr(given, name)]
    if len(outputs) > 1:
        raise Usage(f"{outputs[0]} and {outputs[1]} exclude each other", "give one of them")
    if given.once and given.iterations not in (None, 1):
        raise Usage("--once and -n exclude each other", "--once is -n 1")
    _require_sense(given)
    return given


def _require_sense(given: argparse.Namespace) -> None:
    """Raise Usage for options about recordings that exclude each other, or need another one."""
    for name in ("record_for", "record_size"):
        if getattr(given, name) is not None and given.record is None:
            raise Usage(f"--{name.replace('_', '-')} needs --record", "--record FILE says where to")
    if given.record_if is not None and given.record is None and _output(given) != "screen":
        raise Usage("--record-if needs --record, or the screen", "--record FILE says where to")
    if given.speed is not None and given.replay is None and not given.demo:
        raise Usage("--speed needs --replay", "--replay FILE says what")
    if given.demo and given.replay is not None:
        raise Usage("--demo and --replay exclude each other", "give one of them")
    if given.demo or given.replay is not None:
        played = "--demo" if given.demo else "--replay"
        for name in ("record", "record_if", "cgroup", "allow_close", "metrics"):
            if getattr(given, name):
                raise Usage(f"--{name.replace('_', '-')} and {played} exclude each other", "a recording has no kernel")


def kernel_options(given: argparse.Namespace) -> Options:
    """Return what the kernel's side is asked for: known before the rest is looked up."""
    return Options(
        given.cgroup,
        given.callbacks,
        given.map_size,
        not given.no_adopt,
        not given.no_helper,
        given.allow_close,
    )


def resolve(given: argparse.Namespace, settings: Settings | None = None) -> Arguments:
    """Return what ``read`` did as arguments, with columns and filters looked up.

    What was not given is as the settings have it; without settings, as their defaults.

    Raises Usage. Imports numpy, which takes as long as all else here.
    """
    from tcptop_ops.views.column_lookup import find
    from tcptop_ops.views.column_sets import DEFAULT, parse_list, parse_sort

    settings = settings or Settings()
    given = _filled(given, settings)
    sort, falling = parse_sort(given.sort)
    usual = None if settings.columns is None else tuple(find(name) for name in settings.columns)
    return Arguments(
        source=given.source,
        delay_s=given.delay,
        window_s=given.window,
        closed_s=given.closed,
        sort=sort,
        falling=falling,
        columns=usual if given.columns is None else parse_list(given.columns, settings.columns or DEFAULT),
        group=_group(given, settings),
        mouse=given.mouse,
        output=_output(given),
        iterations=1 if given.once else given.iterations,
        filter=_filter(given.filter, given.pid),
        no_helper=given.no_helper,
        allow_close=given.allow_close,
        settings=replace(settings, theme=given.theme, names=given.names),
        record=given.record,
        record_for_s=_duration(given.record_for),
        record_size=_size(given.record_size),
        record_if=_filter(given.record_if, None),
        replay=str(DEMO) if given.demo else given.replay,
        demo=given.demo,
        speed=1.0 if given.speed is None else given.speed,
        fail_if=_filter(given.fail_if, None),
        metrics=given.metrics,
    )


def _output(given: argparse.Namespace) -> str:
    """Return the name of the output. A check is for scripts: it opens no screen, and prints nothing by itself."""
    named = next((name for name in ("batch", "json", "csv") if getattr(given, name)), None)
    return named or ("screen" if given.fail_if is None else "none")


def _duration(text: str | None) -> float | None:
    """Return the seconds of ``--record-for``. Raises Usage."""
    if text is None:
        return None
    from tcptop_ops.filters.values import Misread, time_in

    try:
        seconds = time_in(10**6, bare=True)(text)
    except Misread as error:
        raise Usage(f"--record-for: expected {error.expected}", error.hint or "such as 90s, 10m or 2h") from None
    if not 0 < seconds < 1e9:
        raise Usage(f"--record-for: {text} is not positive, or too large", "such as 90s, 10m or 2h")
    return seconds


LEAST_RECORDING = 1_000_000
"""Bytes: below, not even a few ticks of a small host would fit."""


def _size(text: str | None) -> int | None:
    """Return the bytes of ``--record-size``. Raises Usage."""
    if text is None:
        return None
    from tcptop_ops.filters.values import Misread, size

    try:
        found = size(text)
    except Misread as error:
        raise Usage(f"--record-size: expected {error.expected}", error.hint or "such as 50M") from None
    if not LEAST_RECORDING <= found < 2**50:
        raise Usage(f"--record-size: {text} is less than 1M, or too large", "such as 50M")
    return int(found)


ALSO_SETTINGS = ("delay", "window", "closed", "sort", "names", "mouse", "theme")
"""Settings that are options too, under one name; but for --columns, which may change what the file says."""


def _group(given: argparse.Namespace, settings: Settings) -> str:
    """Return the key of the groups. That of the settings is for the screen alone: an output would hide connections."""
    if given.json:
        return "none"
    if given.group is not None:
        return str(given.group)
    return settings.group if _output(given) == "screen" else "none"


def _filled(given: argparse.Namespace, settings: Settings) -> argparse.Namespace:
    told = {name: value for name, value in vars(given).items() if value is not None}
    return argparse.Namespace(**vars(given) | {name: getattr(settings, name) for name in ALSO_SETTINGS} | told)


def _filter(text: str | None, pids: tuple[int, ...] | None) -> Filter | None:
    """Return the filter of ``--filter`` and ``--pid``: both where both are given. Raises FilterError."""
    if text is None and pids is None:
        return None
    from tcptop_ops.filters.compiler import both, compile, of_pids

    wanted = None if text is None else compile(text)
    owned = None if pids is None else of_pids(pids)
    return both(wanted, owned) if wanted and owned else wanted or owned
