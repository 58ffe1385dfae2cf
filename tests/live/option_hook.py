"""Another program at cgroup/setsockopt: it changes one option's value, refuses another, and counts what it sees.

Run by the distribution's Python (``-I``): CGROUP. SO_PRIORITY 5 becomes 6, SO_RCVLOWAT is refused. It says ``ready``
once it is attached (bpf_link), and on a line of input ``seen`` and how many calls it saw; it is gone with its input.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # isolated: it does not look there

from setter import BPF_SIDE, loader  # type: ignore[import-not-found]

SETSOCKOPT, SOCKOPT = 22, 25  # BPF_CGROUP_SETSOCKOPT, BPF_PROG_TYPE_CGROUP_SOCKOPT
TEXT = """
BPF_ARRAY(calls, u64, 1);

int hook(struct bpf_sockopt *ctx)
{
	int zero = 0;
	u64 *count = calls.lookup(&zero);
	if (count)
		__sync_fetch_and_add(count, 1);
	if (ctx->level != 1)
		return 1;
	if (ctx->optname == 18)
		return 0;
	u8 *value = ctx->optval;
	if (ctx->optname == 12 && value + 4 <= (u8 *)ctx->optval_end && *(volatile u8 *)value == 5)
		*(volatile u8 *)value = 6;
	return 1;
}
"""


def main() -> None:
    os.environ["BCC_KERNEL_SOURCE"] = str(BPF_SIDE / "include")
    from bcc import BPF

    module = BPF(text=TEXT)
    program = module.load_func(b"hook", SOCKOPT, attach_type=SETSOCKOPT)
    cgroup = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECTORY)
    link = loader().kernel_calls.link(program.fd, cgroup, SETSOCKOPT)
    print("ready", link, flush=True)
    for _ in sys.stdin:
        print("seen", module[b"calls"][0].value, flush=True)


if __name__ == "__main__":
    main()
