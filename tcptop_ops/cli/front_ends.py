"""What runs until the end: the screen, the outputs without one, a replay; and what observes the ticks beside them."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from tcptop_ops.cli.arguments import Arguments
from tcptop_ops.cli.standard_output import PORTION, one_line, silence_stdout, write_out
from tcptop_ops.cli.version import program_version
from tcptop_ops.errors import TcptopError
from tcptop_ops.host.privilege import import_what_will_be_hidden
from tcptop_ops.host.self_usage import Meter
from tcptop_ops.host.signals import Interrupted, Stop
from tcptop_ops.model.host_description import HostDescription

if TYPE_CHECKING:
    from tcptop_ops.app.application import TcptopApp
    from tcptop_ops.model.filter import Filter
    from tcptop_ops.model.flows import Flows
    from tcptop_ops.polling.observers import TickObserver
    from tcptop_ops.recording.flight_recorder import FlightConfig
    from tcptop_ops.sources.base import Source
    from tcptop_ops.tracking.tracker import Tracker
    from tcptop_ops.views.column import Column
    from tcptop_ops.views.view import Spec, View

MATCHED = 4
"""The exit status where --fail-if matched: no error, so that it has no class in ``errors``."""

WORST_MATCH_COLUMNS = ("process", "pid", "local", "peer", "state", "score", "cause")
"""What is told of the worst connection that --fail-if matched."""


@dataclass(frozen=True)
class Input:
    """Where the ticks of an output come from. ``open`` is called once, by whoever polls; it gives up root.

    ``host``: where the figures are from. ``observers``: who is told of each tick, in this order.
    """

    open: Callable[[], Source]
    host: HostDescription
    observers: tuple[TickObserver, ...] = ()

    def observed_by(self, observer: TickObserver, begin: Callable[[], object]) -> Input:
        """Return the same with one more observer.

        ``begin`` is called when the source was opened, and root given up; the source is closed if that fails.
        """

        def opened() -> Source:
            source = self.open()
            try:
                begin()
            except TcptopError:
                source.close()
                raise
            return source

        return replace(self, open=opened, observers=(*self.observers, observer))


Output = Callable[[Arguments, Input], int]
"""Runs until the end, with or without a screen, and returns the exit status. Raises TcptopError."""


def this_host() -> HostDescription:
    """Return what this host is called. The version of the program takes 50 ms to find out: ``with_version`` adds it."""
    return HostDescription(socket.gethostname(), os.uname().release)


def with_version(host: HostDescription) -> HostDescription:
    """Return the same with the version of this program. To be called before root is given up: it reads files."""
    return replace(host, program=program_version())


def tracker_of(arguments: Arguments) -> Tracker:
    """Return a fresh one for the window and the closed connections that were asked for."""
    from tcptop_ops.tracking.tracker import Tracker

    return Tracker(arguments.window_s, arguments.closed_s)


# --- observers


@contextmanager
def recorded(arguments: Arguments, source: Input) -> Iterator[Input]:
    """Have every tick written to the file of --record; what went wrong with that is told at the end."""
    from tcptop_ops.recording.recorder import Recorder, RecordingOptions

    options = RecordingOptions(
        str(arguments.record), arguments.record_for_s, arguments.record_size, arguments.record_if
    )
    recorder = Recorder(options, with_version(source.host))
    try:
        yield source.observed_by(recorder, recorder.open)
    finally:
        recorder.close()
        for note in recorder.notes:
            print(f"tcptop-ops: {one_line(note)}", file=sys.stderr)


@contextmanager
def served(arguments: Arguments, source: Input) -> Iterator[Input]:
    """Have the metrics of every tick served where --metrics says; the URL is told, unless there is a screen."""
    from tcptop_ops.outputs.metrics_server import MetricsServer

    assert arguments.metrics is not None
    server = MetricsServer(*arguments.metrics)

    def start() -> None:
        url = server.start()
        if arguments.output != "screen":
            print(f"tcptop-ops: metrics at {url}", file=sys.stderr, flush=True)

    try:
        yield source.observed_by(server, start)
    finally:
        server.close()


# --- the screen


def run_screen(arguments: Arguments, source: Input) -> int:
    """Show the Textual app until it is left. Raises TcptopError, with the terminal restored."""
    from tcptop_ops.app.application import TcptopApp
    from tcptop_ops.polling.poller import polled

    app = TcptopApp(
        polled(source.open, tracker_of(arguments), source.observers),
        spec_of(arguments),
        delay_s=arguments.delay_s,
        closed_s=arguments.closed_s,
        iterations=arguments.iterations,
        mouse=arguments.mouse,
        host=source.host.host,
        allow_close=arguments.allow_close,
        settings=arguments.settings,
        flight_config=flight_config(arguments, source.host),
    )
    return shown(app)


def flight_config(arguments: Arguments, host: HostDescription) -> FlightConfig:
    """Return that of the flight recorder. To be called before root is given up: it asks whose home it is."""
    from tcptop_ops.config.settings_file import where_mark
    from tcptop_ops.recording.flight_recorder import FlightConfig

    mark = where_mark()
    trigger = None if arguments.record is not None else arguments.record_if
    state = None if mark is None else mark.parent
    return FlightConfig(state, with_version(host), partial(tracker_of, arguments), trigger)


def shown(app: TcptopApp) -> int:
    """Show it until it is left. Raises TcptopError, with the terminal restored."""
    import_what_will_be_hidden()
    error = app.run_screen()
    if error is not None:
        raise error
    return 0


def spec_of(arguments: Arguments) -> Spec:
    """Return what to show, and in which order."""
    from tcptop_ops.views.view import Spec

    settings = arguments.settings
    on_screen = arguments.output == "screen"  # outputs hide nothing that the command line does not say
    spec = Spec(
        sort=arguments.sort,
        falling=arguments.falling,
        show_closed=settings.show_closed or not on_screen,
        show_loopback=settings.loopback or not on_screen,
        widths=settings.widths,
        thresholds=settings.thresholds,
        filter=arguments.filter,
        group=arguments.group,
    )
    columns = arguments.columns or usual_columns(arguments.output)
    return spec if columns is None else replace(spec, columns=columns)


def usual_columns(output: str) -> tuple[Column, ...] | None:
    """Return those of an output where none were asked for; None: the default set.

    A table on a terminal has as many as fit into it; one that goes to another program or a file has all.
    """
    from tcptop_ops.views.column_lookup import find
    from tcptop_ops.views.column_sets import DEFAULT, OUTPUT, WIDER

    if output != "batch":
        return None
    return OUTPUT if terminal_width() is None else tuple(map(find, (*DEFAULT, *WIDER)))


# --- a recording


def run_replay(arguments: Arguments, run_output: Output) -> int:
    """Play a recording, on the screen or to an output. Raises TcptopError."""
    from tcptop_ops.recording.replay_source import ReplaySource
    from tcptop_ops.sources.open import without_root

    if arguments.output == "screen":
        return run_player(arguments)
    source = ReplaySource(str(arguments.replay), arguments.speed)
    try:
        return run_output(arguments, Input(lambda: without_root(source), source.host))
    finally:
        source.close()


def run_player(arguments: Arguments) -> int:
    """Play a recording on the screen; that of the package again and again. Raises TcptopError."""
    from tcptop_ops.app.replay_application import Recording, ReplayApp
    from tcptop_ops.recording.player import lead_s
    from tcptop_ops.recording.reader import RecordingReader
    from tcptop_ops.sources.open import without_root

    reader = RecordingReader(str(arguments.replay))
    recording = Recording(
        lambda: without_root(reader),
        reader.index,
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
        host=reader.host.host,
        settings=arguments.settings,
    )
    try:
        return shown(app)
    finally:
        reader.close()


# --- without a screen


def run_plain(arguments: Arguments, source: Input) -> int:
    """Write a line or a table a tick to standard output, until ``-n``, a signal, a closed pipe, or a match.

    Returns MATCHED after a match of --fail-if, else 0. Raises TcptopError.
    """
    from tcptop_ops.polling.schedule import ticks
    from tcptop_ops.views.view import make

    stop = Stop().at_signals()
    meter = Meter()
    spec = spec_of(arguments)
    format_tick = _formatter(arguments, source.host)
    check = None if arguments.fail_if is None else _check(arguments.fail_if, arguments.filter)
    tracker = tracker_of(arguments)
    import_what_will_be_hidden()
    opened = source.open()
    try:
        for flows in ticks(opened, tracker, arguments.delay_s, stop, arguments.iterations, observers=source.observers):
            started = time.perf_counter()
            text = "" if format_tick is None else format_tick(make(flows, spec), own_figures(meter, started))
            for start in range(0, len(text), PORTION):
                with stop.writing():  # a reader that goes on reading gets all of it, after a signal too
                    write_out(text[start : start + PORTION])
            if check is not None and (matches := check(flows)):
                print("\n".join(map(one_line, matches)), file=sys.stderr, flush=True)
                return MATCHED
    except Interrupted:
        silence_stdout()
    finally:
        opened.close()
    return 0


def _check(wanted: Filter, shown: Filter | None) -> Callable[[Flows], list[str]]:
    """Return what looks for matches of --fail-if among what is shown: lines about them, none where none match."""
    from tcptop_ops.diagnosis import evidence  # here, since what root alone can read is out of reach later
    from tcptop_ops.filters.compiler import both
    from tcptop_ops.views.column_lookup import find
    from tcptop_ops.views.view import Spec, make, row_at

    spec = Spec(filter=wanted if shown is None else both(shown, wanted))

    def matched(flows: Flows) -> list[str]:
        view = make(flows, spec)
        if not len(view):
            return []
        worst = row_at(view, 0)
        words = [column.show(column.read(worst, flows).tolist()[0]) for column in map(find, WORST_MATCH_COLUMNS)]
        many = "1 connection matches" if len(view) == 1 else f"{len(view)} connections match"
        why = evidence.sentence(worst, flows)
        return [f"tcptop-ops: {many}: {wanted.text}", f"worst: {' '.join(words)}" + (f": {why}" if why else "")]

    return matched


def own_figures(meter: Meter, view_started: float) -> dict[str, float]:
    """Return what the monitor costs, for the outputs; ``view_ms`` is the time since ``view_started``."""
    cost = meter.look()
    view_ms = (time.perf_counter() - view_started) * 1000
    return {"cpu_pct": round(cost.cpu_pct, 2), "rss_bytes": cost.rss_bytes, "view_ms": round(view_ms, 3)}


TickFormatter = Callable[["View", dict[str, float]], str]
"""Makes the text of a tick, of its view and of what the monitor costs."""


def _formatter(arguments: Arguments, host: HostDescription) -> TickFormatter | None:
    """Return that of the output; None where nothing is printed."""
    if arguments.output == "json":
        return _json_formatter(host)
    if arguments.output == "csv":
        return _csv_formatter()
    return _table_formatter(arguments.settings.names) if arguments.output == "batch" else None


def _json_formatter(host: HostDescription) -> TickFormatter:
    from tcptop_ops.outputs.json_lines import json_line

    return lambda view, own: json_line(view, host, own)


def _csv_formatter() -> TickFormatter:
    """Return one that begins with the header at the first tick: if no source can be opened nothing is printed."""
    from tcptop_ops.outputs.csv_rows import header, rows

    first = iter((header,))
    return lambda view, _own: next(first, lambda _: "")(view) + rows(view)


def _table_formatter(with_names: bool) -> TickFormatter:
    from tcptop_ops.outputs.text_table import table

    if with_names:
        from tcptop_ops.dns.resolver import for_outputs

        named = for_outputs()
        return lambda view, _own: table(named(view), terminal_width())
    return lambda view, _own: table(view, terminal_width())


def terminal_width() -> int | None:
    """Return that of the terminal that standard output is, now; None where it is none, or does not know."""
    return (os.get_terminal_size(sys.stdout.fileno()).columns or None) if sys.stdout.isatty() else None
