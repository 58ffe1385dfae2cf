"""Another sock_ops program of the kind that people run: it answers the kernel's questions, and may write an option.

Run by the distribution's Python (``-I``): CGROUP, with ``--by`` a bpf_link or a legacy attach, which would outlive it.
It tells the kernel a SYN's timeout, an initial window and to ask for ECN. At connect() and at the end of the handshake
(``--late``: only there) it adds ``--flags`` to the socket's callback flags, or puts them in place of what is there
(``--overwrite``). With ``--option`` it writes a TCP option (kind 253, RFC 4727) into each packet that it is asked
about, whoever caused it to be asked.

It says ``ready ID`` (the program's id) once it is attached, or ``refused ENAME``. On ``counts`` it says ``counts`` and
a JSON list: calls by operator. ``leave``, the end of its input, or SIGTERM: it detaches, says ``left`` and ends.
"""

from __future__ import annotations

import argparse
import ctypes
import errno
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

HEADERS = Path(__file__).parents[2] / "tcptop_ops" / "bpf" / "include"
BPF_CGROUP_SOCK_OPS = 3
LEGACY = {"none": 0, "override": 1, "multi": 2}  # BPF_F_ALLOW_*
CLOCK_MONOTONIC_COARSE = 6
OPERATORS = 32

TEXT = """
BPF_ARRAY(calls, u64, OPERATORS);

static __always_inline void ask(struct bpf_sock_ops *ctx)
{
	u32 flags = (OVERWRITE ? 0 : ctx->bpf_sock_ops_cb_flags) | FLAGS;
	if (FLAGS || OVERWRITE)
		bpf_sock_ops_cb_flags_set(ctx, flags);
}

static __always_inline void store(struct bpf_sock_ops *ctx)
{
	u8 option[4] = {253, sizeof(option), 0x74, 0x6f};
	bpf_store_hdr_opt(ctx, option, sizeof(option), 0);
}

int tuner(struct bpf_sock_ops *ctx)
{
	int op = ctx->op;
	u64 *count = calls.lookup(&op);
	if (count)
		__sync_fetch_and_add(count, 1);
	switch (op) {
	case BPF_SOCK_OPS_TIMEOUT_INIT:
		ctx->reply = SYN_RTO;
		break;
	case BPF_SOCK_OPS_RWND_INIT:
		ctx->reply = RWND;
		break;
	case BPF_SOCK_OPS_NEEDS_ECN:
		ctx->reply = 1;
		break;
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
		if (!LATE)
			ask(ctx);
		break;
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		ask(ctx);
		break;
	case BPF_SOCK_OPS_HDR_OPT_LEN_CB:
		if (OPTION)
			bpf_reserve_hdr_opt(ctx, 4, 0);
		break;
	case BPF_SOCK_OPS_WRITE_HDR_OPT_CB:
		if (OPTION)
			store(ctx);
		break;
	}
	return 1;
}
"""


def jiffies(milliseconds: int) -> int:
    """In ticks of this kernel, which are the coarse clock's resolution (kernel/time/posix-timers.c)."""
    tick_ms = 1000 * time.clock_getres(CLOCK_MONOTONIC_COARSE)
    return round(milliseconds / tick_ms)


def checked(result: int) -> int:
    """What a function of libbpf returned. Raises OSError."""
    if result < 0:
        number = ctypes.get_errno() or -result
        raise OSError(number, os.strerror(number))
    return result


def attach(lib: Any, program: int, cgroup: int, by: str) -> Callable[[], None]:
    """Attach; what is returned detaches again. Raises OSError."""
    if by == "link":
        link = checked(lib.bpf_link_create(program, cgroup, BPF_CGROUP_SOCK_OPS, None))
        return lambda: os.close(link)
    checked(lib.bpf_prog_attach(program, cgroup, BPF_CGROUP_SOCK_OPS, LEGACY[by]))
    return lambda: _detach(lib, program, cgroup)


def _detach(lib: Any, program: int, cgroup: int) -> None:
    with suppress(FileNotFoundError):  # ENOENT: the cgroup is gone, and the program with it
        checked(lib.bpf_prog_detach2(program, cgroup, BPF_CGROUP_SOCK_OPS))


def program_id(fd: int) -> int:
    """As /proc/self/fdinfo tells it."""
    lines = Path(f"/proc/self/fdinfo/{fd}").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("prog_id:")))


def obey(calls: Any) -> None:
    """Commands, until one says to leave."""
    for line in sys.stdin:
        if line.strip() == "leave":
            return
        print("counts", json.dumps([calls[op].value for op in range(OPERATORS)]), flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("cgroup")
    parser.add_argument("--by", choices=("link", *LEGACY), default="link")
    parser.add_argument("--flags", type=int, default=0)
    parser.add_argument("--overwrite", action="store_true")
    parser.add_argument("--late", action="store_true")
    parser.add_argument("--option", action="store_true")
    parser.add_argument("--syn-rto-ms", type=int, default=300)
    parser.add_argument("--rwnd", type=int, default=10, help="in segments")
    return parser.parse_args()


def terminate(*_: object) -> None:
    sys.exit(0)


def main() -> int:
    args = parse()
    os.environ["BCC_KERNEL_SOURCE"] = str(HEADERS)
    from bcc import BPF
    from bcc.libbcc import lib

    values = {
        "FLAGS": args.flags,
        "OVERWRITE": int(args.overwrite),
        "LATE": int(args.late),
        "OPTION": int(args.option),
        "SYN_RTO": jiffies(args.syn_rto_ms),
        "RWND": args.rwnd,
        "OPERATORS": OPERATORS,
    }
    module = BPF(text=TEXT, cflags=[f"-D{name}={value}" for name, value in values.items()])
    program = module.load_func(b"tuner", BPF.SOCK_OPS).fd
    cgroup = os.open(args.cgroup, os.O_RDONLY | os.O_DIRECTORY)
    signal.signal(signal.SIGTERM, terminate)
    try:
        detach = attach(lib, program, cgroup, args.by)
    except OSError as error:
        print("refused", errno.errorcode.get(error.errno or 0, error), flush=True)
        return 1
    try:
        print("ready", program_id(program), flush=True)
        obey(module[b"calls"])
    finally:
        detach()
    print("left", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
