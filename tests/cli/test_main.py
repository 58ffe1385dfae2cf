"""The program from outside: exit status, one line and a hint, and how it ends. Polled: no root, no BPF."""

from __future__ import annotations

import fcntl
import importlib.metadata
import json
import os
import pty
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from tcptop_ops.bpf.attach import Options
from tcptop_ops.cli import front_ends, main, standard_output
from tcptop_ops.doctor import probe, report
from tcptop_ops.errors import Failed, TcptopError, Unsupported, Usage
from tcptop_ops.host.self_usage import Meter
from tcptop_ops.views.column_sets import OUTPUT
from tests.support.error_output import assert_told
from tests.support.fakes import FakeSource, flow, snapshot
from tests.support.leftovers import wait_until

PROGRAM = [sys.executable, "-W", "error", "-m", "tcptop_ops"]
POLLED = ["--source", "sockdiag", "-d", "0.1"]


def run(*argv: str, prefix: Sequence[str] = (), **how: Any) -> subprocess.CompletedProcess[str]:
    how = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | how
    return subprocess.run([*prefix, *PROGRAM, *argv], text=True, timeout=60, check=False, **how)


@pytest.mark.parametrize(
    ("argv", "status", "message"),
    [
        (["--json", "-s", "nope"], 2, "no column 'nope'"),
        (["--json", "-c", "nope"], 2, "no column 'nope'"),
        (["-d", "0"], 2, "0 is not between 0.1 and 3600 seconds"),
        (["--nope"], 2, "--nope"),
        (["--json", "--batch"], 2, "exclude each other"),
        (["--x\x1b[2J\ny"], 2, "--x?[2J y"),
        ([], 3, "the screen needs a terminal"),
    ],
)
def test_errors(argv: list[str], status: int, message: str) -> None:
    done = run(*argv)
    assert done.stdout == ""
    assert_told(done.returncode, done.stderr, status, message)


def test_json() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
        done = run("--json", "-n", "2", *POLLED)
    assert (done.returncode, done.stderr) == (0, "")
    ticks = [json.loads(line) for line in done.stdout.splitlines()]
    assert [tick["tick"] for tick in ticks] == [1, 2]
    for tick in ticks:
        assert tick["schema"] == "tcptop-ops/1"
        assert tick["host"] == socket.gethostname()
        assert tick["kernel"] == os.uname().release
        assert tick["self"].keys() == {"cpu_pct", "rss_bytes", "poll_ms", "view_ms"}
        assert tick["self"]["rss_bytes"] > 1 << 20
        ours = [row for row in tick["connections"] if row["lport"] == port]
        assert [row["state"] for row in ours] == ["LISTEN"]
        assert list(ours[0]) == [*(column.id for column in OUTPUT), "evidence"]


def test_batch() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
        done = run("--batch", "--once", "-c", "local,state", *POLLED)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert " sockdiag | " in lines[0]
    assert lines[1].split() == ["LOCAL", "STATE"]
    assert ["127.0.0.1:" + str(port), "LISTN"] in [line.split() for line in lines]


@pytest.fixture
def running() -> Iterator[subprocess.Popen[str]]:
    """The program, for ever, after its first line."""
    argv = [*PROGRAM, "--json", *POLLED, "-f", "port = 1"]  # short lines, whatever goes on here
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdout=pipe, stderr=pipe, text=True, pipesize=4096) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["tick"] == 1
        yield process
        process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it(running: subprocess.Popen[str], number: signal.Signals) -> None:
    running.send_signal(number)
    out, err = running.communicate(timeout=60)
    assert (running.returncode, err) == (0, "")
    for line in out.splitlines():
        json.loads(line)  # none was cut


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_while_nobody_reads(running: subprocess.Popen[str], number: signal.Signals) -> None:
    assert running.stderr
    wait_until(lambda: "pipe" in Path(f"/proc/{running.pid}/wchan").read_text(), 20, "a write that waits")
    running.send_signal(number)
    assert running.wait(timeout=20) == 0
    assert running.stderr.read() == ""


def test_a_signal_lets_what_is_being_written_be_read(running: subprocess.Popen[str]) -> None:
    assert running.stdout
    wait_until(lambda: "pipe" in Path(f"/proc/{running.pid}/wchan").read_text(), 20, "a write that waits")
    running.send_signal(signal.SIGTERM)
    lines = running.stdout.readlines()
    assert all(json.loads(line)["schema"] == "tcptop-ops/1" for line in lines)
    assert running.wait(timeout=20) == 0


def test_a_closed_pipe_ends_it_quietly(running: subprocess.Popen[str]) -> None:
    assert running.stdout is not None
    assert running.stderr is not None
    running.stdout.close()
    assert running.wait(timeout=60) == 0
    assert running.stderr.read() == ""


@pytest.mark.parametrize("argv", [["--help"], ["--json", "--once", *POLLED], ["--batch", *POLLED]])
def test_a_pipe_that_was_closed_before(argv: list[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    with open(write, "wb") as nobody:
        done = run(*argv, stdout=nobody)
    assert (done.returncode, done.stderr) == (0, "")


def test_help_for_a_pipe_that_was_closed_before_with_a_buffer_that_holds_it_all() -> None:
    """As from Python 3.14 on: the flush at the interpreter's exit must find nothing that can't be written."""
    code = (
        "import sys; sys.stdout = open(1, 'w', buffering=1 << 20, closefd=False)\n"
        "from tcptop_ops.cli.main import main; sys.exit(main(['--help']))"
    )
    read, write = os.pipe()
    os.close(read)
    with open(write, "wb") as nobody:
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, stdout=nobody, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("argv", [["--help"], ["--json", "--once", *POLLED], ["--batch", "--once", *POLLED]])
def test_a_full_disk(argv: list[str]) -> None:
    with open("/dev/full", "wb") as full:
        done = run(*argv, stdout=full)
    assert_told(done.returncode, done.stderr, 1, "cannot write to standard output: No space left on device")


@pytest.mark.parametrize("argv", [["--json", "--once", *POLLED], ["--version"], []])
def test_no_standard_output(argv: list[str]) -> None:
    done = run(*argv, prefix=["sh", "-c", 'exec "$@" >&-', "sh"])
    assert_told(done.returncode, done.stderr, 1, "standard output is closed")


def test_no_standard_input() -> None:
    done = run(prefix=["sh", "-c", 'exec "$@" <&-', "sh"])
    assert_told(done.returncode, done.stderr, 3, "the screen needs a terminal")


def test_a_terminal_that_is_too_small() -> None:
    ours, theirs = pty.openpty()
    with ExitStack() as stack:
        stack.callback(os.close, ours)
        stack.callback(os.close, theirs)
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 9, 80, 0, 0))
        done = subprocess.run([*PROGRAM, *POLLED], stdin=theirs, stdout=theirs, stderr=theirs, timeout=60, check=False)
        told = os.read(ours, 1 << 16).decode().replace("\r\n", "\n")
    assert_told(done.returncode, told, 3, "the terminal is too small: 80x9")


class Broken(FakeSource):
    """Fails at its second poll."""

    def poll(self) -> Any:
        if self.polls == 1:
            raise Failed("the kernel went away", "look for it")
        return super().poll()


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[FakeSource]]:
    """Sources that open_source() hands out, instead of real ones; the signals' handlers are put back."""
    sources: list[FakeSource] = []
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    monkeypatch.setattr("tcptop_ops.sources.open.open_source", lambda *_, **__: sources[0])
    monkeypatch.setattr(main, "begin_early", lambda *_: None)
    yield sources
    for number, handler in handlers.items():
        signal.signal(number, handler)


def test_the_source_is_closed_at_the_end(opened: list[FakeSource], capsys: pytest.CaptureFixture[str]) -> None:
    opened.append(FakeSource([snapshot(0, []), snapshot(1, [flow(1, bytes_acked=700)])]))
    assert main.main(["--json", "-d", "0.1", "--once"]) == 0
    assert opened[0].closed
    out = capsys.readouterr().out
    assert json.loads(out)["connections"][0]["tx_bytes_per_s"] == 700


def test_the_source_is_closed_after_a_failure(opened: list[FakeSource], capsys: pytest.CaptureFixture[str]) -> None:
    opened.append(Broken([snapshot(0, [])]))
    status = main.main(["--batch", "-d", "0.1"])
    assert opened[0].closed
    out, err = capsys.readouterr()
    assert out == ""
    assert_told(status, err, 1, "the kernel went away")


def test_order_and_columns_reach_the_output(opened: list[FakeSource], capsys: pytest.CaptureFixture[str]) -> None:
    rows = [flow(1, srtt_us=20), flow(2, srtt_us=10), flow(3, srtt_us=30)]
    opened.append(FakeSource([snapshot(0, rows), snapshot(1, rows)]))
    assert main.main(["--batch", "--once", "-d", "0.1", "-s", "srtt:asc", "-c", "cookie,srtt"]) == 0
    body = [line.split() for line in capsys.readouterr().out.splitlines()[1:-1]]
    assert body == [["COOKIE", "SRTT"], ["2", "10us"], ["1", "20us"], ["3", "30us"]]


def test_version(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: f"7.8 of {name}")
    assert main.main(["--version"]) == 0
    assert capsys.readouterr().out == "tcptop-ops 7.8 of tcptop-ops\n"


def test_explain_prints_a_page(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["--explain", "rto-stall"]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("rto-stall, a cause\n---")
    assert printed.err == ""


def test_explain_of_an_unknown_word_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert_told(main.main(["--explain", "lossy"]), capsys.readouterr().err, 2, "nothing is known of 'lossy'")


def test_version_of_what_is_not_installed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    assert_told(main.main(["--version"]), capsys.readouterr().err, 1, "not installed")


@pytest.mark.parametrize(("error", "status"), [(Failed, 1), (Usage, 2), (Unsupported, 3), (TcptopError, 1)])
def test_status_of_each_error(error: type[TcptopError], status: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert standard_output.tell(error("it\nbroke\x1b[31m", "mend\tit")) == status
    assert capsys.readouterr().err == "tcptop-ops: it broke?[31m\nhint: mend it\n"
    standard_output.tell(error("no hint"))
    assert capsys.readouterr().err == "tcptop-ops: no hint\n"


def test_interrupted_while_starting(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(main, "run", interrupt)
    assert main.main([]) == 0


def test_what_it_costs() -> None:
    meter = Meter()
    own = front_ends.own_figures(meter, time.perf_counter())
    assert own.keys() == {"cpu_pct", "rss_bytes", "view_ms"}
    assert own["cpu_pct"] >= 0
    assert own["rss_bytes"] > 1_000_000
    assert own["view_ms"] >= 0


@pytest.mark.parametrize(
    "option", [["-f", "nginx and srtt > 15us"], ["-p", "8"], ["-p", "7,8", "-f", "not cookie = 1"]]
)
def test_a_filter_reaches_the_outputs(
    option: list[str], opened: list[FakeSource], capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [flow(1, srtt_us=10, pid=7), flow(2, srtt_us=20, pid=8), flow(3, srtt_us=30, pid=9, name=b"sshd")]
    opened += [FakeSource([snapshot(0, rows), snapshot(1, rows)]) for _ in range(2)]
    assert main.main(["--json", "--once", "-d", "0.1", *option]) == 0
    tick = json.loads(capsys.readouterr().out)
    assert [row["cookie"] for row in tick["connections"]] == [2]
    assert tick["totals"]["connections"] == 3
    opened.pop(0)
    assert main.main(["--batch", "--once", "-d", "0.1", "-c", "cookie", *option]) == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()[1:-1]] == [["COOKIE"], ["2"]]


def test_a_wrong_filter_is_told() -> None:
    done = run("--json", "-f", "srtt > \x1b[2J", *POLLED)
    assert done.stdout == ""
    assert_told(done.returncode, done.stderr, 2, "filter: column 8: expected a number with a unit of time")


@pytest.fixture
def examined(monkeypatch: pytest.MonkeyPatch) -> list[Options]:
    """The doctor's options, instead of a host that is examined."""
    asked: list[Options] = []

    def examine(options: Options) -> str:
        asked.append(options)
        return "facts"

    monkeypatch.setattr(probe, "examine", examine)
    return asked


@pytest.mark.parametrize(("works", "status"), [(True, 0), (False, 3)])
def test_the_doctor(
    works: bool,
    status: int,
    examined: list[Options],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    checks = (report.Check("bcc", "missing", "none", "get it"),)
    monkeypatch.setattr(report, "report", lambda facts: report.Report(works, checks if facts == "facts" else ()))
    assert main.main(["--doctor", "--cgroup", "web"]) == status
    out, err = capsys.readouterr()
    assert "missing  bcc  none\n              -> get it\n" in out
    assert err == ""
    assert main.main(["--json", "--doctor"]) == status
    told = json.loads(capsys.readouterr().out)
    assert (told["schema"], told["works"], told["checks"][0]["name"]) == ("tcptop-ops/doctor/1", works, "bcc")
    assert examined == [Options(cgroup="web"), Options()]


def test_the_doctor_and_a_wrong_cgroup() -> None:
    done = run("--doctor", "--cgroup", "no/such/cgroup")
    assert done.stdout == ""
    assert_told(done.returncode, done.stderr, 2, "no cgroup no/such/cgroup")
