"""Another sock_ops program, small and rude: at every handshake it sets callback flags, whatever was there.

Run by the distribution's Python (``-I``): CGROUP FLAGS; with a leading ``|`` FLAGS are added to what is there. It says
``ready`` once it is attached (bpf_link: multi), and is gone when its input ends. What it set stays on the sockets.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

BPF_SIDE = Path(__file__).parents[2] / "tcptop_ops" / "bpf"
TEXT = """
int other(struct bpf_sock_ops *ctx)
{
	if (ctx->op == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB || ctx->op == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB)
		bpf_sock_ops_cb_flags_set(ctx, (KEEP ? ctx->bpf_sock_ops_cb_flags : 0) | FLAGS);
	return 1;
}
"""


def loader() -> ModuleType:
    """The product's own: it stands alone, so that it can be borrowed."""
    spec = importlib.util.spec_from_file_location("loader", BPF_SIDE / "loader.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    cgroup, flags = sys.argv[1:]
    os.environ["BCC_KERNEL_SOURCE"] = str(BPF_SIDE / "include")
    from bcc import BPF

    borrowed = loader()
    defines = [f"-DKEEP={int(flags.startswith('|'))}", f"-DFLAGS={flags.lstrip('|')}"]
    program = BPF(text=TEXT, cflags=defines).load_func(b"other", BPF.SOCK_OPS)
    link = borrowed.attach(program.fd, cgroup)
    print("ready", link, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
