"""Arguments to a source and a front end; exit codes; the only place that prints an error."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from tcptop_ops.arguments import Arguments, kernel_options, read, resolve
from tcptop_ops.bpf.launch import Options, Pending, begin
from tcptop_ops.errors import Failed, TcptopError, Unsupported
from tcptop_ops.own_cost import Meter
from tcptop_ops.privilege import import_what_will_be_hidden, never_gain
from tcptop_ops.settings import Settings
from tcptop_ops.signals import Interrupted, Stop

if TYPE_CHECKING:
    from tcptop_ops.app import TcptopApp
    from tcptop_ops.columns import Column
    from tcptop_ops.filters import Filter
    from tcptop_ops.flight import Box
    from tcptop_ops.source import Source
    from tcptop_ops.tracker import Flows, Tracker
    from tcptop_ops.view import Spec, View

SMALLEST = (40, 10)
PORTION = 1 << 16
"""Characters that are written at a time."""

MATCHED = 4
"""The exit status where --fail-if matched: no error, so that it has no class in ``errors``."""

TOLD = ("process", "pid", "local", "peer", "state", "score", "cause")
"""Of the worst connection that --fail-if matched."""


def main(argv: list[str] | None = None) -> int:
    """Run the program: its exit status."""
    try:
        require_stdout()
        status = run(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()
        return status
    except TcptopError as error:
        return tell(error)
    except BrokenPipeError:
        silence_stdout()
        return 0
    except KeyboardInterrupt:
        return 0


def require_stdout() -> None:
    """Raises Failed where the descriptor was closed before the start (``>&-``)."""
    if sys.stdout is None:
        raise Failed("standard output is closed", "> /dev/null throws the output away")


def write_out(text: str) -> None:
    """Write to standard output, at once. Raises BrokenPipeError where the reader has gone, Failed on a full disk."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        silence_stdout()
        raise Failed(f"cannot write to standard output: {error.strerror}", "write to another file or pipe") from error


def tell(error: TcptopError) -> int:
    """One line what happened, one line what to do."""
    print(f"tcptop-ops: {one_line(error.message)}", file=sys.stderr)
    if error.hint:
        print(f"hint: {one_line(error.hint)}", file=sys.stderr)
    return error.exit_code


def one_line(text: str) -> str:
    """Without what would break the line or steer the terminal: a path or an option may hold anything."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))


def silence_stdout() -> None:
    """Nobody reads: the interpreter's own flush at exit must neither complain about it nor wait."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def run(argv: list[str]) -> int:
    """Raises TcptopError."""
    given = read(argv)
    if given.help:
        write_out(given.help)
        return 0
    if given.version:
        write_out(f"tcptop-ops {version()}\n")
        return 0
    if given.explain is not None:
        from tcptop_ops.explain import page

        write_out(page(given.explain))
        return 0
    if given.print_config:
        from tcptop_ops.settings_text import commented_defaults

        write_out(commented_defaults())
        return 0
    options = kernel_options(given)
    never_gain()
    if given.doctor:
        return run_doctor(options, given.json)
    pending = None if given.replay or given.demo else begin_early(given.source, options)
    try:
        arguments = resolve(given, settings_of(given.no_config))
        arguments = with_an_output(arguments)
        if arguments.metrics is not None:
            require_metrics()
    except TcptopError:
        if pending is not None:
            pending.child.close()
        raise
    run_output: Output = run_screen if arguments.output == "screen" else run_plain
    if arguments.metrics is not None:
        run_output = served(run_output)
    if arguments.replay is not None:
        return run_replay(arguments, run_output)
    from tcptop_ops.source import open_source

    opener = partial(open_source, arguments.source, options, pending)
    if arguments.record is not None:
        return run_recorded(arguments, run_output, opener)
    return run_output(arguments, opener, tracker_of(arguments), this_host())


Output = Callable[[Arguments, Callable[[], "Source"], "Tracker", dict[str, Any]], int]
"""With or without a screen: it opens the source itself, and tells ``host`` and ``kernel`` of the last."""


def with_an_output(arguments: Arguments) -> Arguments:
    """The screen needs a terminal; who serves metrics needs neither. Raises Unsupported."""
    if arguments.output != "screen":
        return arguments
    if arguments.metrics is not None and not has_terminal():
        return replace(arguments, output="none")
    require_terminal()
    return arguments


def require_metrics() -> None:
    """Before anything is attached, and while root can still read every directory. Raises Unsupported."""
    from tcptop_ops.metrics_server import require_client

    require_client()


def served(run_output: Output) -> Output:
    """The same output, with a server of metrics beside it for as long as the source is open."""

    def run_served(arguments: Arguments, opener: Callable[[], Source], tracker: Tracker, host: dict[str, Any]) -> int:
        from tcptop_ops.metrics_server import MeasuredTracker, Server

        assert arguments.metrics is not None
        server = Server(*arguments.metrics)

        def opened() -> Source:
            source = opener()
            try:
                url = server.start()  # root was given up
            except TcptopError:
                source.close()
                raise
            if arguments.output != "screen":
                print(f"tcptop-ops: metrics at {url}", file=sys.stderr, flush=True)
            return source

        try:
            return run_output(arguments, opened, MeasuredTracker(tracker, server.publish), host)
        finally:
            server.close()

    return run_served


def this_host() -> dict[str, Any]:
    """Where figures are from."""
    return {"host": socket.gethostname(), "kernel": os.uname().release}


def tracker_of(arguments: Arguments) -> Tracker:
    """One for the window and the closed connections that were asked for."""
    from tcptop_ops.tracker import Tracker

    return Tracker(arguments.window_s, arguments.closed_s)


def run_replay(arguments: Arguments, run_output: Output) -> int:
    """A recording in place of a kernel. Raises TcptopError."""
    from tcptop_ops.replay import ReplaySource
    from tcptop_ops.source import without_root

    if arguments.output == "screen":
        return run_player(arguments)
    source = ReplaySource(str(arguments.replay), arguments.speed)
    try:
        return run_output(arguments, lambda: without_root(source), tracker_of(arguments), source.host)
    finally:
        source.close()


def run_player(arguments: Arguments) -> int:
    """A recording on the screen; that of the package again and again. Raises TcptopError."""
    from tcptop_ops.player import lead_s
    from tcptop_ops.replay import Reader
    from tcptop_ops.replay_app import Recording, ReplayApp
    from tcptop_ops.source import without_root

    reader = Reader(str(arguments.replay))
    recording = Recording(
        lambda: without_root(reader),
        reader.tape,
        partial(tracker_of, arguments),
        lead_s(arguments.window_s, arguments.closed_s),
        arguments.window_s,
        arguments.speed,
        arguments.demo,
    )
    app = ReplayApp(
        recording,
        spec_of(arguments),
        closed_s=arguments.closed_s,
        iterations=arguments.iterations,
        mouse=arguments.mouse,
        host=reader.host["host"],
        settings=arguments.settings,
    )
    try:
        return shown(app)
    finally:
        reader.close()


def run_recorded(arguments: Arguments, run_output: Output, opener: Callable[[], Source]) -> int:
    """Every tick goes to a file too; what went wrong with that is told at the end. Raises TcptopError."""
    from tcptop_ops.recording import Host, Recorded, RecordedTracker, Recorder, Wanted

    wanted = Wanted(str(arguments.record), arguments.record_for_s, arguments.record_size, arguments.record_if)
    recorder = Recorder(wanted, Host(**this_host(), program=program_version()))
    tracker = RecordedTracker(arguments.window_s, arguments.closed_s, recorder)
    try:
        return run_output(arguments, lambda: Recorded(opener(), recorder), tracker, this_host())
    finally:
        recorder.close()
        for note in recorder.notes:
            print(f"tcptop-ops: {one_line(note)}", file=sys.stderr)


def run_doctor(options: Options, as_json: bool) -> int:
    """What works here and what does not; the exit status is that of the real start. Raises Usage."""
    from tcptop_ops import doctor
    from tcptop_ops.bpf.probe import examine

    import_what_will_be_hidden()
    found = doctor.report(examine(options))
    write_out(doctor.as_json(found) if as_json else doctor.table(found))
    return 0 if found.works else Unsupported.exit_code


def begin_early(source: str, options: Options) -> Pending | None:
    """The loader at work, unless it isn't needed; what keeps it from working is told when the source is opened."""
    if source == "sockdiag":
        return None
    try:
        return begin(options)
    except Unsupported:
        return None


def settings_of(skip: bool) -> Settings:
    """Those of the file. Read here, the only thread still is root and the loader is at work. Raises Usage."""
    from tcptop_ops.settings_file import load, where, where_mark

    place = where()
    if skip or os.environ.get("TCPTOP_NO_CONFIG"):
        return replace(Settings(), path=place)
    return replace(load(place), mark=where_mark())


def version() -> str:
    """The version of the installed package. Raises Failed where it runs without being installed."""
    from importlib import metadata

    try:
        return metadata.version("tcptop-ops")
    except metadata.PackageNotFoundError:
        raise Failed("the package is not installed: its version is not known", "./run --version") from None


def program_version() -> str:
    """As a recording has it: a checkout that is not installed records too."""
    try:
        return version()
    except TcptopError:
        return "?"


def has_terminal() -> bool:
    """Whether there is a terminal at all three of the standard descriptors."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr))


def require_terminal() -> None:
    """Raises Unsupported without one that is large enough. Textual reads standard input and draws on standard error."""
    if not has_terminal():
        raise Unsupported("the screen needs a terminal", "for a pipe or a file: --batch, --json or --csv")
    width, height = os.get_terminal_size(sys.stdout.fileno())
    if 0 < width < SMALLEST[0] or 0 < height < SMALLEST[1]:
        raise Unsupported(f"the terminal is too small: {width}x{height}", "40x10 is enough; or --batch")


def run_screen(arguments: Arguments, opener: Callable[[], Source], tracker: Tracker, host: dict[str, Any]) -> int:
    """The Textual app, until it is left. Raises TcptopError, with the terminal restored."""
    from tcptop_ops.app import TcptopApp
    from tcptop_ops.poller import polled

    app = TcptopApp(
        polled(opener, tracker),
        spec_of(arguments),
        delay_s=arguments.delay_s,
        closed_s=arguments.closed_s,
        iterations=arguments.iterations,
        mouse=arguments.mouse,
        host=host["host"],
        allow_close=arguments.allow_close,
        settings=arguments.settings,
        box=flight_box(arguments, host),
    )
    return shown(app)


def flight_box(arguments: Arguments, host: dict[str, Any]) -> Box:
    """For the flight recorder. Asked for before root is given up: whose home it is."""
    from tcptop_ops.flight import Box
    from tcptop_ops.settings_file import where_mark

    mark = where_mark()
    trigger = None if arguments.record is not None else arguments.record_if
    state = None if mark is None else mark.parent
    return Box(state, host["host"], host["kernel"], program_version(), partial(tracker_of, arguments), trigger)


def shown(app: TcptopApp) -> int:
    """Show it until it is left. Raises TcptopError, with the terminal restored."""
    import_what_will_be_hidden()
    error = app.run_screen()
    if error is not None:
        raise error
    return 0


def spec_of(arguments: Arguments) -> Spec:
    """What to show, and in which order."""
    from tcptop_ops.view import Spec

    said = arguments.settings
    on_screen = arguments.output == "screen"  # outputs hide nothing that the command line does not say
    spec = Spec(
        sort=arguments.sort,
        falling=arguments.falling,
        show_closed=said.show_closed or not on_screen,
        show_loopback=said.loopback or not on_screen,
        widths=said.widths,
        thresholds=said.thresholds,
        filter=arguments.filter,
        group=arguments.group,
    )
    columns = arguments.columns or usual_columns(arguments.output)
    return spec if columns is None else replace(spec, columns=columns)


def usual_columns(output: str) -> tuple[Column, ...] | None:
    """Of an output, where none were asked for; None: the default set.

    A table on a terminal has as many as fit into it; one that goes to another program or a file has all.
    """
    from tcptop_ops.columns import DEFAULT, OUTPUT, WIDER, find

    if output != "batch":
        return None
    return OUTPUT if terminal_width() is None else tuple(map(find, (*DEFAULT, *WIDER)))


def run_plain(arguments: Arguments, opener: Callable[[], Source], tracker: Tracker, host: dict[str, Any]) -> int:
    """A line or a table a tick on standard output, until ``-n``, a signal, a closed pipe, or a match of --fail-if.

    Raises TcptopError.
    """
    from tcptop_ops.poller import ticks
    from tcptop_ops.view import make

    stop = Stop().at_signals()
    meter = Meter()
    spec = spec_of(arguments)
    write = _writer(arguments, host)
    check = None if arguments.fail_if is None else _check(arguments.fail_if, arguments.filter)
    import_what_will_be_hidden()
    source = opener()
    try:
        for flows in ticks(source, tracker, arguments.delay_s, stop, arguments.iterations):
            started = time.perf_counter()
            text = "" if write is None else write(make(flows, spec), own_figures(meter, started))
            for start in range(0, len(text), PORTION):
                with stop.writing():  # a reader that goes on reading gets all of it, after a signal too
                    write_out(text[start : start + PORTION])
            if check is not None and (told := check(flows)):
                print("\n".join(map(one_line, told)), file=sys.stderr, flush=True)
                return MATCHED
    except Interrupted:
        silence_stdout()
    finally:
        source.close()
    return 0


def _check(wanted: Filter, shown: Filter | None) -> Callable[[Flows], list[str]]:
    """What --fail-if tells of a tick: how many connections match, of those that are shown; and the worst of them."""
    from tcptop_ops import evidence  # here, since what root alone can read is out of reach later
    from tcptop_ops.columns import find
    from tcptop_ops.filters import both
    from tcptop_ops.view import Spec, make, row_at

    spec = Spec(filter=wanted if shown is None else both(shown, wanted))

    def matched(flows: Flows) -> list[str]:
        view = make(flows, spec)
        if not len(view):
            return []
        worst = row_at(view, 0)
        words = [column.show(column.read(worst, flows).tolist()[0]) for column in map(find, TOLD)]
        many = "1 connection matches" if len(view) == 1 else f"{len(view)} connections match"
        why = evidence.sentence(worst, flows)
        return [f"tcptop-ops: {many}: {wanted.text}", f"worst: {' '.join(words)}" + (f": {why}" if why else "")]

    return matched


def own_figures(meter: Meter, view_started: float) -> dict[str, float]:
    """For the outputs; ``view_ms`` is the time since then."""
    cost = meter.look()
    view_ms = (time.perf_counter() - view_started) * 1000
    return {"cpu_pct": round(cost.cpu_pct, 2), "rss_bytes": cost.rss_bytes, "view_ms": round(view_ms, 3)}


Writer = Callable[["View", dict[str, float]], str]
"""A view and the own cost to the text of a tick."""


def _writer(arguments: Arguments, host: dict[str, Any]) -> Writer | None:
    """That of the output; None where nothing is printed."""
    if arguments.output == "json":
        return _json_writer(host)
    if arguments.output == "csv":
        return _csv_writer()
    return _batch_writer(arguments.settings.names) if arguments.output == "batch" else None


def _json_writer(host: dict[str, Any]) -> Writer:
    from tcptop_ops.export import json_line

    return lambda view, own: json_line(view, host, own)


def _csv_writer() -> Writer:
    """The header comes with the first tick: where the source could not be opened there is nothing at all."""
    from tcptop_ops.csv_output import header, rows

    first = iter((header,))
    return lambda view, _own: next(first, lambda _: "")(view) + rows(view)


def _batch_writer(names: bool) -> Writer:
    from tcptop_ops.export import table

    if names:
        from tcptop_ops.names import for_outputs

        named = for_outputs()
        return lambda view, _own: table(named(view), terminal_width())
    return lambda view, _own: table(view, terminal_width())


def terminal_width() -> int | None:
    """Of the terminal that standard output is, now; None where it is none, or does not know."""
    return (os.get_terminal_size(sys.stdout.fileno()).columns or None) if sys.stdout.isatty() else None
