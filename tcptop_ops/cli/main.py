"""The program: what was asked for, done; its exit status; and the only place where an error is printed."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

from tcptop_ops.bpf.attach import Options, Pending, begin
from tcptop_ops.bpf.helper_process import raise_limit
from tcptop_ops.cli.arguments import Arguments, kernel_options, read, resolve
from tcptop_ops.cli.front_ends import Input, Output, recorded, run_plain, run_replay, run_screen, served, this_host
from tcptop_ops.cli.standard_output import require_stdout, silence_stdout, tell, write_out
from tcptop_ops.cli.version import version
from tcptop_ops.config.settings import Settings
from tcptop_ops.errors import TcptopError, Unsupported, exhausted
from tcptop_ops.host.privilege import import_what_will_be_hidden, never_gain

SMALLEST = (40, 10)
"""Columns and lines that the screen needs."""


def main(argv: list[str] | None = None) -> int:
    """Run the program, and return its exit status."""
    # Read as numpy is imported, later: it would start a thread for each processor, for products of matrices.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
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
    except (MemoryError, OSError, RuntimeError) as error:
        reached = exhausted(error)
        if reached is None:
            raise
        return tell(reached)


def run(argv: list[str]) -> int:
    """Do what the command line asks for, and return the exit status. Raises TcptopError."""
    given = read(argv)
    if given.help:
        write_out(given.help)
        return 0
    if given.version:
        write_out(f"tcptop-ops {version()}\n")
        return 0
    if given.explain is not None:
        from tcptop_ops.explain.pages import page

        write_out(page(given.explain))
        return 0
    if given.print_config:
        from tcptop_ops.config.toml_text import commented_defaults

        write_out(commented_defaults())
        return 0
    options = kernel_options(given)
    raise_limit()
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
    if arguments.replay is not None:
        return run_replay(arguments, run_output)
    return run_observed(arguments, run_output, options, pending)


def run_observed(arguments: Arguments, run_output: Output, options: Options, pending: Pending | None) -> int:
    """Watch this host, with the observers that were asked for. Raises TcptopError."""
    from tcptop_ops.sources.open import open_source

    source = Input(partial(open_source, arguments.source, options, pending), this_host())
    with ExitStack() as stack:
        if arguments.record is not None:
            source = stack.enter_context(recorded(arguments, source))
        if arguments.metrics is not None:
            source = stack.enter_context(served(arguments, source))
        return run_output(arguments, source)


def with_an_output(arguments: Arguments) -> Arguments:
    """Return them, without the screen where there are metrics but no terminal. Raises Unsupported."""
    if arguments.output != "screen":
        return arguments
    if arguments.metrics is not None and not has_terminal():
        return replace(arguments, output="none")
    require_terminal()
    require_threads()
    return arguments


def require_metrics() -> None:
    """Import what --metrics needs, while root still can. Raises Unsupported where it is missing."""
    from tcptop_ops.outputs.metrics_server import require_client

    require_client()


def run_doctor(options: Options, as_json: bool) -> int:
    """Tell what works here and what does not. Return the exit status of the real start. Raises Usage."""
    from tcptop_ops.doctor import report
    from tcptop_ops.doctor.probe import examine

    import_what_will_be_hidden()
    found = report.report(examine(options))
    write_out(report.as_json(found) if as_json else report.table(found))
    return 0 if found.works else Unsupported.exit_code


def begin_early(source: str, options: Options) -> Pending | None:
    """Start the loader, unless it isn't needed; what keeps it from working is told when the source is opened."""
    if source == "sockdiag":
        return None
    try:
        return begin(options)
    except Unsupported:
        return None


def settings_of(skip: bool) -> Settings:
    """Read those of the file, as root still, and while the loader is at work. Raises Usage."""
    from tcptop_ops.config.settings_file import load, where, where_mark

    place = where()
    if skip or os.environ.get("TCPTOP_NO_CONFIG"):
        return replace(Settings(), path=place)
    return replace(load(place), mark=where_mark())


def has_terminal() -> bool:
    """Return whether all three of the standard descriptors are a terminal."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr))


def require_threads() -> None:
    """Raise Failed where this user may start none: the screen has some of its own."""
    thread = threading.Thread(target=int)
    try:
        thread.start()
    except RuntimeError as error:
        raise exhausted(error) or error from error
    thread.join()


def require_terminal() -> None:
    """Raise Unsupported without one that is large enough: Textual reads standard input and draws on standard error."""
    if not has_terminal():
        raise Unsupported("the screen needs a terminal", "for a pipe or a file: --batch, --json or --csv")
    width, height = os.get_terminal_size(sys.stdout.fileno())
    if 0 < width < SMALLEST[0] or 0 < height < SMALLEST[1]:
        raise Unsupported(f"the terminal is too small: {width}x{height}", "40x10 is enough; or --batch")
