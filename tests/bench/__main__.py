"""What it costs: ``python -m tests.bench [--quick] [--json FILE] [--markdown] [NAME...]``, as root.

``python -m tests.bench against COMMIT [PART...]`` measures this build and that of an older commit in turn.

Prints a table; the exit status is 1 if a benchmark crashed, or measured what can't be. No figure is held against its
budget.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.bench.figures import Line, Nonsense, as_data, heading, markdown, row
from tests.bench.setting import Setting

BENCHMARKS = {
    "traffic": "what traffic keeps: rates with the program as a share of those without",
    "cost": "what the kernel spends in the program, from its BPF statistics",
    "beside": "beside other sock_ops programs, and with a full map",
    "shed": "one core busy, as many connections as can be",
    "start": "from the command to the program attached, and to a full screen",
    "program": "the whole program under a terminal: CPU of a tick, memory, idle",
    "recording": "what --record adds at 10,000 sockets, of which a tenth talk each second",
    "tick": "a tick at 1,000, 10,000 and 100,000 idle sockets, beside ss and psutil",
    "pairs": "both ends of 50,000 connections, found in a tick",
    "screen": "bytes to the terminal, and its answers",
    "peers": "what traffic keeps beside other tools",
}
"""Each is a module of this package, with a function ``measure``."""


AGAINST = "against"


def chosen(names: list[str]) -> list[str]:
    """In the order of the table; all, if none is named. Raises SystemExit."""
    if unknown := set(names) - set(BENCHMARKS):
        raise SystemExit(f"no benchmark {', '.join(sorted(unknown))}; there are: {' '.join(BENCHMARKS)}")
    return [name for name in BENCHMARKS if not names or name in names]


def run(
    names: list[str], measure: Callable[[str], Iterator[Line]], titles: Mapping[str, str] = BENCHMARKS
) -> tuple[dict[str, list[Line]], dict[str, str]]:
    """What each measured, printed as it comes; and of those that failed, why."""
    results: dict[str, list[Line]] = {}
    failed: dict[str, str] = {}
    for name in names:
        print(f"{name}: {titles.get(name, '')}", flush=True)
        lines = results[name] = []
        started = time.monotonic()
        try:
            for line in measure(name):
                lines.append(line)
                print(row(line), flush=True)
            if not lines:
                raise Nonsense("nothing was measured")
        except Nonsense as error:
            failed[name] = str(error)
        except Exception as error:  # told here and by the exit status; the others are measured all the same
            failed[name] = f"{type(error).__name__}: {error}"
            traceback.print_exc()
        if name in failed:
            print(f"  FAILED: {failed[name]}", flush=True)
        print(f"  ({time.monotonic() - started:.0f} s)", flush=True)
    return results, failed


def machine() -> dict[str, Any]:
    """Where it was measured."""
    models = [
        line.partition(": ")[2] for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    [memory] = [line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal")]
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "kernel": platform.release(),
        "processor": models[0] if models else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(int(memory.split()[1]) / 1e6, 1),
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
        "sockets_before": sockets_before(),
        "command": shlex.join(["python", "-m", "tests.bench", *sys.argv[1:]]),
    }


def sockets_before() -> int:
    """TCP sockets of the whole host, in every namespace (/proc/net/sockstat): the program looks at them too."""
    words = Path("/proc/net/sockstat").read_text().split()
    return int(words[words.index("alloc") + 1])


def described(where: dict[str, Any]) -> str:
    """A machine in one line."""
    return (
        f"{where['cores']} cores of {where['processor']}, {where['memory_gb']} GB, Linux {where['kernel']}, "
        f"Python {where['python']}, {where['time']}, load {where['load_before']} and "
        f"{where['sockets_before']} sockets before: `{where['command']}`"
    )


def measured(name: str, setting: Setting) -> Iterator[Line]:
    """The lines of a benchmark."""
    lines: Iterator[Line] = import_module(f"tests.bench.{name}").measure(setting)
    return lines


def run_against(words: list[str], quick: bool) -> tuple[dict[str, list[Line]], dict[str, str]]:
    """What each part of ``against`` measured, as ``run`` returns it. ``words``: a commit, then parts; all, if none."""
    from tests.bench.against import QUICK, Comparison, Plan
    from tests.bench.builds import both

    if not words:
        raise SystemExit(f"which commit? python -m tests.bench {AGAINST} COMMIT")
    with both(words[0]) as builds:
        parts = Comparison(builds, QUICK if quick else Plan()).parts()
        if unknown := set(words[1:]) - set(parts):
            raise SystemExit(f"no part {', '.join(sorted(unknown))}; there are: {' '.join(parts)}")
        titles = {name: (part.__doc__ or "").partition("\n")[0] for name, part in parts.items()}
        return run([name for name in parts if name in (words[1:] or parts)], lambda name: parts[name](), titles)


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description=(__doc__ or "").partition("\n")[0],
        epilog="benchmarks: " + "; ".join(f"{name}: {what}" for name, what in BENCHMARKS.items()),
    )
    parser.add_argument("--quick", action="store_true", help="as few runs as tell whether it works")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write every value to FILE")
    parser.add_argument("--markdown", action="store_true", help="in the end print the table of docs/cost.md")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"or: {AGAINST} COMMIT [PART...]")
    return parser.parse_intermixed_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Measure. The exit status."""
    args = parse(argv)
    against = args.names[:1] == [AGAINST]
    names = [] if against else chosen(args.names)
    if os.geteuid() != 0:
        raise SystemExit("not root: the program can't be attached")
    where = machine()
    print(described(where))
    print(heading())
    if against:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # what was started is ended
        results, failed = run_against(args.names[1:], args.quick)
    else:
        results, failed = run(names, lambda name: measured(name, Setting(args.quick)))
    if args.json:
        data = {name: [as_data(line) for line in lines] for name, lines in results.items()}
        args.json.write_text(json.dumps(where | {"results": data, "failed": failed}, indent=1) + "\n")
    if args.markdown:
        print("", described(where), "", *markdown(results), sep="\n")
    for name, reason in failed.items():
        print(f"FAILED: {name}: {reason}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
