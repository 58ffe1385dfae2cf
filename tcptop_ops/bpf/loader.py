"""Compile, load and attach the program, hand its descriptors over, and make room for the helper.

A script of its own process, run isolated under the interpreter that has bcc: it imports the standard library, bcc and
the helper alone. One request comes over the socket (argv[1], its descriptor): a JSON object and a newline. One answer
goes back: a JSON object, a newline and, by SCM_RIGHTS, the descriptors in the order of its ``fds``. An answer that
holds ``error`` has none.

The program is attached with a bpf_link, which dies with its last descriptor; a legacy attach would outlive SIGKILL.
"""

from __future__ import annotations

import ctypes
import errno
import importlib.util
import json
import os
import resource
import socket
import struct
import sys
import tempfile
import traceback
from contextlib import suppress
from typing import Any

MAPS = ("conns", "counters", "control", "done", "stories", "seen")
ITERATED = ("walk", "states")
"""Maps of the iterator's program, which are there where it was compiled."""
KEPT_BY_HELPER = ("adoption", "setter")
"""Descriptors that the monitor gets only where there is no helper: by them flags of any socket are set."""

HELPERS_OWN = ("program", "bpf_iter__task_file", *KEPT_BY_HELPER)
"""Those that the helper keeps."""

BPF_PROG_LOAD, BPF_RAW_TRACEPOINT_OPEN = 5, 17
BPF_PROG_TYPE_SOCK_OPS, BPF_PROG_TYPE_CGROUP_SOCKOPT = 13, 25
HELPERS = {"HAVE_PID": 14, "HAVE_COMM": 16, "HAVE_CGROUP": 80}
"""bpf_get_current_pid_tgid, _comm and _cgroup_id (linux/bpf.h), by the feature that needs each."""
CURRENT_TASK_BTF = 158
OF_TASK = {"HAVE_PID": ("PID_OF_TASK", "TASK_TGID"), "HAVE_COMM": ("COMM_OF_TASK", "TASK_COMM")}
"""What the current task tells, too: the definition with which the program asks it, and the offset of what it reads.
bpf_get_current_task_btf is for every kind of program since 5.11 (bpf_base_func_proto, kernel/bpf/helpers.c), the
helpers above for sock_ops later."""
PREFIX = "TCO_"
"""Of every name that the C is told: no header that bcc brings, today's or a later one, has any of them."""
BPF_TRACE_ITER = 28
UNOPTIMIZED = ["-Xclang", "-disable-llvm-passes"]


def beside(name: str) -> Any:
    """Return a module that stands beside this script: an isolated interpreter does not look there."""
    spec = importlib.util.spec_from_file_location(
        name, os.path.join(os.path.dirname(os.path.abspath(__file__)), name + ".py")
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


helper = beside("helper")
kernel_calls = helper.kernel_calls


class Refused(Exception):
    """Told to the monitor: a message, a hint, and what kind of refusal it is."""

    def __init__(self, kind: str, message: str, hint: str = "") -> None:
        """Take ``kind``: what ``refusal`` of attach.py makes an error of."""
        super().__init__(message)
        self.answer = {"error": kind, "message": message, "hint": hint}


def refuse_to_silence(found: list[dict[str, Any]]) -> None:
    """Our link, in a child of a cgroup with a program that is not "multi", would silence that program."""
    for program in found:
        if program["above"] and not program["flags"] & kernel_calls.BPF_F_ALLOW_MULTI:
            raise Refused(
                "occupied",
                f"the sock_ops program {program['name']} (id {program['id']}) holds {program['where']} for itself",
                "it was attached without BPF_F_ALLOW_MULTI: watch without it (--source sockdiag), or ask its owner"
                " to attach it with a bpf_link or BPF_F_ALLOW_MULTI",
            )


def import_bcc() -> Any:
    """Return the bcc module. Raises Refused where it isn't there."""
    try:
        from bcc import BPF
    except ImportError as error:
        raise Refused("no-bcc", f"{sys.executable} has no bcc: {error}") from error
    return BPF


def compile_text(BPF: Any, request: dict[str, Any], features: list[str], log: int, *, once: bool = True) -> Any:
    """Return a compiled module with its maps made. Raises Refused with what the compiler printed.

    bcc optimizes what clang has optimized already: ``once`` leaves it to bcc.
    """
    told = request["defines"] | dict.fromkeys(features, 1)
    defines = [f"-D{PREFIX}{name}={value}" for name, value in told.items()]
    # Debug information is a fifth of the compiler's time, and nothing here reads it.
    flags = [*defines, "-g0", "-Wno-unused-function", "-I", request["source"], *(UNOPTIMIZED if once else [])]
    try:
        return BPF(text=request["text"], cflags=flags)
    except Exception as error:  # bcc raises plain Exception
        raise Refused("compile", f"bcc could not compile the program: {error}", tail(log)) from error


def load(BPF: Any, module: Any, name: str, kind: int, attach_type: int = -1) -> int:
    """Return the descriptor of a loaded program. Raises Exception, as bcc does."""
    return int(module.load_func(name.encode(), kind, attach_type=attach_type).fd)


def attach(program: int, cgroup: str) -> tuple[int, int]:
    """Our link on a cgroup, and the inode number of the directory that has it. Raises Refused."""
    fd = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return kernel_calls.link(program, fd, kernel_calls.BPF_CGROUP_SOCK_OPS), os.fstat(fd).st_ino
    except OSError as error:
        raise Refused("attach", f"the kernel refused to attach to {cgroup}: {error.strerror}") from error
    finally:
        os.close(fd)


def refused_helpers() -> set[str]:
    """Those of HELPERS that this kernel refuses to sock_ops: a few instructions tell sooner than the compiler."""
    return {feature for feature, number in HELPERS.items() if not is_accepted(number)}


def is_accepted(number: int) -> bool:
    """Whether sock_ops may call this helper. True where the kernel can't be asked: then the verifier decides."""
    code = b"".join(
        struct.pack("=BBhi", *instruction)
        for instruction in (
            (0x7A, 10, -16, 0),  # *(u64 *)(r10 - 16) = 0, and - 8: what comm is written to
            (0x7A, 10, -8, 0),
            (0xBF, 1 | 10 << 4, 0, 0),  # r1 = r10
            (0x07, 1, 0, -16),  # r1 += -16
            (0xB7, 2, 0, 16),  # r2 = 16
            (0x85, 0, 0, number),  # call
            (0xB7, 0, 0, 1),  # r0 = 1
            (0x95, 0, 0, 0),  # exit
        )
    )
    text, license = ctypes.create_string_buffer(code), ctypes.create_string_buffer(b"GPL")
    attr = struct.pack(
        "=IIQQ", BPF_PROG_TYPE_SOCK_OPS, len(code) // 8, ctypes.addressof(text), ctypes.addressof(license)
    )
    try:
        os.close(kernel_calls.bpf(BPF_PROG_LOAD, bytearray(attr.ljust(64, b"\0"))))
    except OSError as error:
        return error.errno != errno.EINVAL
    return True


def told_by_task(refused: set[str], defines: dict[str, int]) -> set[str]:
    """Return the features that the current task tells, since their helper is refused or tells less.

    None where the BTF does not tell its layout. bpf_get_current_comm tells the name of the thread, the task's group
    leader that of the process.
    """
    lesser = {"HAVE_COMM"} if defines.get("TASK_GROUP_LEADER", -1) >= 0 else set()
    found = {feature for feature in (refused | lesser) & OF_TASK.keys() if defines.get(OF_TASK[feature][1], -1) >= 0}
    return found if found and is_accepted(CURRENT_TASK_BTF) else set()


def possible(features: list[str], refused: set[str], by_task: set[str]) -> list[str]:
    """Without those that the kernel refuses. A task can be read only where the BTF tells its layout."""
    lost = refused - by_task if "HAVE_BTF_SOCKET" in features else refused
    return [each for each in features if each not in lost]


def load_first_accepted(BPF: Any, request: dict[str, Any], log: int) -> tuple[Any, int, list[str]]:
    """Return the module and sock_ops program with the most features that this kernel's verifier accepts."""
    last: Exception | None = None
    refused = refused_helpers()
    by_task = told_by_task(refused, request["defines"])
    request["defines"] |= {OF_TASK[each][0]: 1 for each in by_task}
    attempts = [possible(features, refused, by_task) for features in request["attempts"]]
    sets = [each for at, each in enumerate(attempts) if each not in attempts[:at]]
    for features, once in [(each, once) for each in sets for once in (True, False)]:
        try:
            module = compile_text(BPF, request, features, log, once=once)
            return module, load(BPF, module, "sockops", BPF.SOCK_OPS), features
        except Refused:
            if not once:
                raise
        except Exception as error:  # bcc raises plain Exception
            last = error
    raise Refused("verifier", f"the kernel refused the sock_ops program: {last}", tail(log)) from last


def iterators(
    BPF: Any, module: Any, wanted: list[str], features: list[str], log: int
) -> tuple[dict[str, int], dict[str, str]]:
    """Links of the iterators that load, and the reason for each that does not."""
    links: dict[str, int] = {}
    refused: dict[str, str] = {}
    if "HAVE_ITERATORS" not in features:
        return links, refused
    for name in wanted:
        try:
            links[name] = kernel_calls.link(load(BPF, module, name, BPF.TRACING), 0, BPF_TRACE_ITER)
        except Exception as error:  # bcc raises plain Exception; OSError from the link
            refused[name] = f"{error}: {tail(log)}"
    return links, refused


def adoption(BPF: Any, module: Any, features: list[str], log: int) -> tuple[dict[str, int], dict[str, str]]:
    """Return the program that sets flags of open sockets, not attached, with its map; or why there is none."""
    if "HAVE_ADOPTION" not in features:
        return {}, {}
    try:
        program = load(BPF, module, "adoption", BPF_PROG_TYPE_CGROUP_SOCKOPT, kernel_calls.BPF_CGROUP_SETSOCKOPT)
    except Exception as error:  # bcc raises plain Exception
        features.remove("HAVE_ADOPTION")
        return {}, {"adoption": f"{error}: {tail(log)}"}
    return {"adoption": program, "setter": int(module[b"setter"].map_fd)}, {}


def open_tracepoint(name: str, program: int) -> int:
    """Return the descriptor of a raw tracepoint that runs the program as long as it is open. Raises OSError."""
    told = ctypes.create_string_buffer(name.encode())
    try:
        return int(
            kernel_calls.bpf(BPF_RAW_TRACEPOINT_OPEN, bytearray(struct.pack("=QI4x", ctypes.addressof(told), program)))
        )
    except FileNotFoundError as error:
        raise OSError(error.errno, "this kernel has no such tracepoint") from error


def tracepoints(BPF: Any, module: Any, wanted: list[str], log: int) -> tuple[dict[str, int], dict[str, str]]:
    """Descriptors of the raw tracepoints that are there and accept their program, and why the others are not."""
    found: dict[str, int] = {}
    refused: dict[str, str] = {}
    for name in wanted:
        try:
            found[name] = open_tracepoint(name, load(BPF, module, f"trace_{name}", BPF.RAW_TRACEPOINT))
        except OSError as error:
            refused[name] = str(error.strerror)
        except Exception as error:  # bcc raises plain Exception
            refused[name] = f"{error}: {tail(log)}"
    return found, refused


def tail(log: int, size: int = 2000) -> str:
    """Return the last of what the compiler and the verifier printed, on one line."""
    length = os.fstat(log).st_size
    text = os.pread(log, size, max(0, length - size)).decode(errors="replace")
    return " | ".join(line.strip() for line in text.splitlines() if line.strip())[-600:]


def catch_output() -> int:
    """bcc and LLVM write to descriptors 1 and 2: into an unnamed file with them."""
    with tempfile.TemporaryFile() as file:
        log = os.dup(file.fileno())
    os.dup2(log, 1)
    os.dup2(log, 2)
    return log


def allow_locked_memory() -> None:
    """Let maps be made, which count as locked memory before 5.11; later it does not matter that this may be refused."""
    try:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    except (ValueError, OSError):
        return


def serve(request: dict[str, Any], log: int) -> tuple[dict[str, Any], list[int]]:
    """Do what the request asks for: the answer and the descriptors. Raises Refused."""
    allow_locked_memory()
    found = kernel_calls.neighbours(request["cgroup"], request["cgroup_root"])
    refuse_to_silence(found)
    mode = request["callbacks"] or ("events" if found else "all")
    request["defines"] |= request["modes"][mode]
    BPF = import_bcc()
    module, program, features = load_first_accepted(BPF, request, log)
    links, refused = iterators(BPF, module, request["iterators"], features, log)
    wanted = request["tracepoints"] if "HAVE_BTF_SOCKET" in features else []
    traced, untraced = tracepoints(BPF, module, wanted, log)
    setting, unset = adoption(BPF, module, features, log)
    maps = {name: int(module[name.encode()].map_fd) for name in (*MAPS, *(ITERATED if links else ()))}
    link, directory = attach(program, request["cgroup"])
    fds = {**maps, **links, **traced, **setting, "link": link, "program": program}
    answer = {
        "fds": list(fds),
        "features": features,
        "refused": refused | untraced | unset,
        "callbacks": mode,
        "program_id": kernel_calls.program_id(program),
        "directory": directory,
        "neighbours": found,
    }
    return answer, list(fds.values())


def answer_to(request: dict[str, Any], log: int) -> tuple[dict[str, Any], list[int]]:
    """Serve one request; any failure becomes an answer."""
    os.environ["BCC_KERNEL_SOURCE"] = request["headers"]
    try:
        return serve(request, log)
    except Refused as refused:
        return refused.answer, []
    except OSError as error:
        return {"error": "system", "message": f"{error.strerror}: {error.filename or 'bpf'}", "hint": ""}, []


def main() -> int:
    """Exit status 0 if an answer was sent, or nothing was asked for."""
    helper.process.outlast_the_monitor()
    connection = socket.socket(fileno=int(sys.argv[1]))
    log = catch_output()
    with suppress(ImportError):
        import bcc  # noqa: F401  (while the monitor makes up its request)
    with connection.makefile("rb") as lines:
        line = lines.readline()
    if not line:
        return 0
    request = json.loads(line)
    try:
        answer, fds = answer_to(request, log)
    except Exception:
        answer, fds = {"error": "loader", "message": traceback.format_exc(limit=-1), "hint": tail(log)}, []
    named = dict(zip(answer.get("fds", ()), fds, strict=True))
    told = {name: fd for name, fd in named.items() if not request.get("helper") or name not in KEPT_BY_HELPER}
    with suppress(OSError):  # the monitor is gone: what was born meanwhile has flags, which the helper takes back
        socket.send_fds(connection, [json.dumps(answer | {"fds": list(told)}).encode() + b"\n"], list(told.values()))
    if request.get("helper") and "error" not in answer:
        become_helper(connection, named, request)
    os._exit(0)  # nothing is left to do, and LLVM takes its time to say goodbye


def kept_place(root: str, cgroup: str) -> tuple[str, str]:
    """Both, by a descriptor of our own where the mount is one that the monitor holds: it goes with the monitor."""
    if not root.startswith("/proc/"):
        return root, cgroup
    fd = os.open(root, os.O_PATH | os.O_DIRECTORY)
    os.set_inheritable(fd, True)
    kept = f"/proc/self/fd/{fd}"
    return kept, kept + cgroup.removeprefix(root)


def become_helper(connection: socket.socket, fds: dict[str, int], request: dict[str, Any]) -> None:
    """Execute helper.py in this process: it keeps the descriptors of iterators and programs.

    The program is attached by it again, where its cgroup is made again; the link that attaches it is the monitor's.
    """
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    kept = {name: fds[name] for name in HELPERS_OWN if name in fds}
    root, cgroup = kept_place(request["cgroup_root"], request["cgroup"])
    place = [json.dumps(kept), cgroup, root]
    for fd in (connection.fileno(), *kept.values()):
        os.set_inheritable(fd, True)
    may_close = "1" if request["may_close"] else "0"
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "helper.py")
    os.execv(sys.executable, [sys.executable, "-I", "-S", script, str(connection.fileno()), may_close, *place])


if __name__ == "__main__":
    sys.exit(main())
