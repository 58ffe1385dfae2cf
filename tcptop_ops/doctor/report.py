"""The report of --doctor: what this host supports, what is missing and what to do about it. Pure.

``bpf/probe.py`` gathers the Facts; here each Check is made from them, and the checks become text or JSON.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

DOCTOR_SCHEMA = "tcptop-ops/doctor/1"
WIDTH = 80

DESCRIPTORS = "state and owners by one pass over descriptors (5.11)"
ADOPTION = "adoption of open sockets (6.12)"
ERRORS, RECEIVED, SENT = "errors of open sockets (6.1)", "resets received (6.1)", "resets sent (6.1)"
NEEDING = {"bpf_iter__task_file": (DESCRIPTORS,), "adoption": (ADOPTION,)}
NEEDING |= {"inet_sk_error_report": (ERRORS,), "tcp_receive_reset": (RECEIVED,), "tcp_send_reset": (SENT,)}
"""Features that go with what ``Accepted.refused`` has a reason for."""

CheckStatus = Literal["ok", "warn", "missing"]

INSTALL_BCC = "apt install python3-bpfcc, dnf install python3-bcc, or pacman -S python-bcc"
ROOT = "run it with sudo"
ALLOW_MULTI = 2  # BPF_F_ALLOW_MULTI
WHOLE_USER_NAMESPACE = 2**32 - 1


@dataclass(frozen=True)
class Check:
    """One line of the report. ``missing``: sockops does not work without it; ``warn``: less can be seen."""

    name: str
    status: CheckStatus
    found: str
    remedy: str = ""


@dataclass(frozen=True)
class Interpreter:
    """A Python that may have bcc. ``version``: that of bcc; None if it cannot be imported: ``error`` says why."""

    path: str
    version: str | None
    error: str = ""


@dataclass(frozen=True)
class Cgroups:
    """Where cgroup v2 is mounted.

    ``part``: it is only a part of the host's tree, that of a cgroup namespace; ``unmounted``: the host had it mounted
    nowhere, so it was mounted privately.
    """

    top: str
    part: bool
    unmounted: bool


@dataclass(frozen=True)
class Refusal:
    """The reason why something could not be done, and what to do about it."""

    message: str
    hint: str = ""


@dataclass(frozen=True)
class Members:
    """How many members of the kernel's structs are known, and what is lost with each that should be there, by name."""

    found: int
    costs: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Accepted:
    """What the kernel accepted when the program was really attached.

    ``refused``: the reasons, by name of the iterator or tracepoint, and "adoption".
    """

    features: frozenset[str]
    refused: Mapping[str, str]
    callbacks: str
    map_rows: int
    ring_bytes: int


@dataclass(frozen=True)
class AttachedProgram:
    """Another sock_ops program. ``above``: it is attached to our cgroup or one above it.

    ``where``: path of its cgroup; ``flags``: those of its attachment (BPF_F_ALLOW_MULTI...). "" and None if the cgroup
    is outside of this cgroup namespace.
    """

    id: int
    name: str
    where: str
    flags: int | None
    above: bool


@dataclass(frozen=True)
class Sockets:
    """The sockets that were listed, and how many there should be.

    ``counted``: sockets in use by /proc/net/sockstat, before and after they were listed; None if only those of a cgroup
    are listed, which the kernel does not count. ``all_namespaces``: the namespaces of all users' processes were seen.
    """

    source: str
    listed: int
    counted: tuple[int, int] | None
    namespaces: int
    all_namespaces: bool
    reader: str = ""  # of sockops: which reader read the present state, and why


@dataclass(frozen=True)
class Facts:
    """What was found out about the host. None: it could not be found out."""

    python: str
    interpreters: tuple[Interpreter, ...]
    uid: int
    capabilities: int
    privileged: bool
    mapped_users: int
    kernel: str
    machine: str
    btf: Members | Refusal
    lockdown: str | None
    unprivileged_bpf: int | None
    cgroups: Cgroups | Refusal
    cgroup: str | None  # of --cgroup
    programs: tuple[AttachedProgram, ...] | None
    attached: Accepted | Refusal
    sockets: Sockets | Refusal
    user_after: str
    capabilities_after: int
    kept: str = ""  # privilege that could not be dropped; "" for none


@dataclass(frozen=True)
class Report:
    """The result: whether the source sockops works on this host, and all checks."""

    works: bool
    checks: tuple[Check, ...] = field(default=())


def report(facts: Facts) -> Report:
    """Make every check, in the order in which they depend on each other."""
    works = isinstance(facts.attached, Accepted)
    return Report(works, tuple(check(facts) for check in CHECKS))


def _python(facts: Facts) -> Check:
    return Check("python", "ok", facts.python)


def _bcc(facts: Facts) -> Check:
    for each in facts.interpreters:
        if each.version is not None:
            return Check("bcc", "ok", f"{each.version}, of {each.path}")
    if not facts.interpreters:
        return Check("bcc", "missing", "the distribution has no Python in /usr/bin or /usr/local/bin", INSTALL_BCC)
    why = "; ".join(f"{each.path}: {each.error}" for each in facts.interpreters)
    return Check("bcc", "missing", why, f"{INSTALL_BCC} (never PyPI's bcc, which is something else)")


def _privilege(facts: Facts) -> Check:
    found = f"uid {facts.uid}, CapEff {facts.capabilities:016x}"
    if facts.mapped_users < WHOLE_USER_NAMESPACE:
        found += ", in a user namespace"
    if not facts.privileged:
        return Check("privilege", "missing", found, f"{ROOT}, or give it CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON")
    if facts.mapped_users < WHOLE_USER_NAMESPACE and not isinstance(facts.attached, Accepted):
        return Check("privilege", "missing", found, "root here is not root of the host: run it outside the container")
    return Check("privilege", "ok", found)


def _kernel(facts: Facts) -> Check:
    found = f"Linux {facts.kernel}, {facts.machine}"
    old = _release(facts.kernel) < (5, 8)
    if old and not isinstance(facts.attached, Accepted):
        return Check("kernel", "missing", found, "Linux 5.8 or later has bpf_link for cgroups and ring buffers")
    return Check("kernel", "ok", found)


def _release(text: str) -> tuple[int, int]:
    """Return major and minor number of a kernel release such as ``6.1.0-13-amd64``; 0 for what is no number."""
    parts = text.partition("-")[0].split(".")
    major, minor, *_ = *[int(part) if part.isascii() and part.isdecimal() else 0 for part in parts], 0, 0
    return major, minor


def _btf(facts: Facts) -> Check:
    if isinstance(facts.btf, Refusal):
        hint = "CONFIG_DEBUG_INFO_BTF in the kernel; without it sockets are polled by sock_diag, and owners from /proc"
        return Check("btf", "warn", facts.btf.message, hint)
    found = f"/sys/kernel/btf/vmlinux, {facts.btf.found} members of the kernel's structs found"
    if not facts.btf.costs:
        return Check("btf", "ok", found)
    lost = ", ".join(f"{member} ({', '.join(names)})" for member, names in facts.btf.costs.items())
    hint = "a kernel that names these in another way than those known so far: please report it, with its version"
    return Check("btf", "warn", f"{found}; without: {lost}", f"{hint}; what is in brackets is polled, or stays empty")


def _lockdown(facts: Facts) -> Check:
    if facts.lockdown is None:
        return Check("lockdown", "ok", "the kernel has none, or does not show it")
    if facts.lockdown == "confidentiality":
        remedy = "boot with lockdown=integrity, or none: reading kernel memory from BPF is forbidden"
        works = isinstance(facts.attached, Accepted)
        return Check("lockdown", "warn" if works else "missing", facts.lockdown, remedy)
    return Check("lockdown", "ok", facts.lockdown)


def _unprivileged(facts: Facts) -> Check:
    meaning = {
        None: "not told",
        0: "0: any user may load programs; not needed here",
        1: "1: root only, until the next boot; not in the way",
        2: "2: root only; not in the way",
    }
    found = meaning.get(facts.unprivileged_bpf, str(facts.unprivileged_bpf))
    return Check("unpriv_bpf", "ok", f"kernel.unprivileged_bpf_disabled = {found}")


def _cgroup(facts: Facts) -> Check:
    place = facts.cgroups
    if isinstance(place, Refusal):
        return Check("cgroup", "missing", place.message, place.hint)
    found = "not mounted: mounted privately, for as long as it runs" if place.unmounted else f"v2 at {place.top}"
    if facts.cgroup is not None:
        found += f"; --cgroup {facts.cgroup}"
    if place.part:
        found += "; a container's own cgroup namespace: only the sockets of this container call the program"
        return Check("cgroup", "warn", found, "to see the whole host: run it on the host, outside the container")
    return Check("cgroup", "ok", found)


def _programs(facts: Facts) -> Check:
    if facts.programs is None:
        return Check("neighbours", "warn", "other sock_ops programs: only root is told", ROOT)
    if not facts.programs:
        return Check("neighbours", "ok", "no other sock_ops program is attached here")
    found = "; ".join(map(_program, facts.programs))
    if any(_is_exclusive(each) for each in facts.programs):
        remedy = "it keeps us out: ask its owner to attach it with a bpf_link or BPF_F_ALLOW_MULTI"
        return Check("neighbours", "missing", found, remedy)
    remedy = "it runs beside; per-packet callbacks stay off unless --callbacks all asks for them"
    return Check("neighbours", "warn", found, remedy)


def _is_exclusive(program: AttachedProgram) -> bool:
    return program.above and program.flags is not None and not program.flags & ALLOW_MULTI


def _program(program: AttachedProgram) -> str:
    """Describe a program, such as ``theirs (id 7) at /web, multi``."""
    if program.flags is None:
        return f"{program.name} (id {program.id}) above this container"
    how = {0: "for itself", 1: "may be overridden", ALLOW_MULTI: "multi"}.get(program.flags, f"flags {program.flags}")
    return f"{program.name} (id {program.id}) at {program.where}, {how}"


def _attach(facts: Facts) -> Check:
    if isinstance(facts.attached, Refusal):
        return Check("sock_ops", "missing", facts.attached.message, facts.attached.hint)
    found = f"loaded and attached with a bpf_link; callbacks: {facts.attached.callbacks}"
    return Check("sock_ops", "ok", found)


def _features(facts: Facts) -> Check:
    if isinstance(facts.attached, Refusal):
        return Check("features", "warn", "not known: the program was not attached", "see above")
    have, refused = facts.attached.features, facts.attached.refused
    parts = {
        DESCRIPTORS: "HAVE_ITERATORS" in have and "bpf_iter__task_file" not in refused,
        ADOPTION: "HAVE_ADOPTION" in have,
        "process id in sock_ops (6.10)": "HAVE_PID" in have,
        "process name": "HAVE_COMM" in have,
        "cgroup id": "HAVE_CGROUP" in have,
        ERRORS: "HAVE_BTF_SOCKET" in have and "inet_sk_error_report" not in refused,
        RECEIVED: "HAVE_BTF_SOCKET" in have and "tcp_receive_reset" not in refused,
        SENT: "HAVE_BTF_SOCKET" in have and "tcp_send_reset" not in refused,
    }
    yes, no = ([name for name, there in parts.items() if there is wanted] for wanted in (True, False))
    if not no:
        return Check("features", "ok", ", ".join(yes))
    reasons = "".join(f"; {name}: {why}" for name, why in refused.items())
    found = f"{', '.join(yes) or 'none'}; without: {', '.join(no)}{reasons}"
    later = "see btf" if _lacks_members_alone(refused, no) else "a later kernel (of the version in brackets), with BTF"
    remedy = f"{later}; here that is polled, or stays empty"
    return Check("features", "warn", found, remedy)


def _lacks_members_alone(refused: Mapping[str, str], lost: Sequence[str]) -> bool:
    """Whether the kernel is new enough for all of these features, and its structs are what is not known."""
    unable = [name for name, why in refused.items() if why.startswith("the kernel's BTF has no")]
    return {feature for name in unable for feature in NEEDING.get(name, ())} >= set(lost)


def _map(facts: Facts) -> Check:
    if isinstance(facts.attached, Refusal):
        return Check("map", "warn", "not known: the program was not attached", "see above")
    rows, ring = facts.attached.map_rows, facts.attached.ring_bytes >> 20
    return Check("map", "ok", f"room for {rows} connections (--map-size); a ring of {ring} MiB for those that ended")


def _namespaces(facts: Facts) -> Check:
    if isinstance(facts.sockets, Refusal):
        return Check("namespaces", "warn", facts.sockets.message, facts.sockets.hint)
    count = facts.sockets.namespaces
    found = f"{count} network namespace{'s' * (count != 1)} looked into"
    if not facts.sockets.all_namespaces:
        return Check("namespaces", "warn", f"{found}; others are closed to this user", ROOT)
    return Check("namespaces", "ok", found)


def _sockets(facts: Facts) -> Check:
    if isinstance(facts.sockets, Refusal):
        return Check("sockets", "warn", facts.sockets.message, facts.sockets.hint)
    listed, counted = facts.sockets.listed, facts.sockets.counted
    found = f"{listed} listed by {facts.sockets.source}"
    if counted is None:
        return Check("sockets", "ok", f"{found}; not compared with /proc/net/sockstat")
    least, most = min(counted), max(counted)
    between = str(least) if least == most else f"{least} to {most}"
    found += f", {between} in use by /proc/net/sockstat"
    slack = max(2, most // 50)  # sockets come and go between the two counts
    if least - slack <= listed <= most + slack:
        return Check("sockets", "ok", found)
    return Check("sockets", "warn", found, "run it again: if they go on to differ, please report it")


def _reader(facts: Facts) -> Check:
    if isinstance(facts.sockets, Refusal):
        return Check("reader", "warn", facts.sockets.message, facts.sockets.hint)
    why = facts.sockets.reader or "by sock_diag: the program is not attached"
    return Check("reader", "ok", f"the present state is read {why}")


def _after(facts: Facts) -> Check:
    found = f"after the start it runs as {facts.user_after}, CapEff {facts.capabilities_after:016x}"
    if facts.kept:
        return Check("user", "warn", f"{found}; {facts.kept}", "run it where that user exists: outside the container")
    if facts.capabilities_after:
        return Check("user", "warn", found, "please report this: it should keep no capability")
    return Check("user", "ok", found)


CHECKS: Sequence[Callable[[Facts], Check]] = (
    _python,
    _bcc,
    _privilege,
    _kernel,
    _btf,
    _lockdown,
    _unprivileged,
    _cgroup,
    _programs,
    _attach,
    _features,
    _map,
    _namespaces,
    _sockets,
    _reader,
    _after,
)


def as_json(found: Report) -> str:
    """Return the report as a JSON object on one line."""
    checks = [
        {"name": each.name, "status": each.status, "found": each.found, "remedy": each.remedy} for each in found.checks
    ]
    answer: dict[str, Any] = {"schema": DOCTOR_SCHEMA, "works": found.works, "checks": checks}
    return json.dumps(answer) + "\n"


def table(found: Report) -> str:
    """Return the report as a table: ASCII, no line longer than WIDTH, each remedy below its check."""
    name = max((len(each.name) for each in found.checks), default=0)
    lines = [_verdict(found), ""]
    for each in found.checks:
        lines += _lines(each, f"{each.status:7}  {each.name:{name}}  ")
    return "\n".join(lines) + "\n"


def _verdict(found: Report) -> str:
    if not found.works:
        return "sockops does not work here; --source sockdiag does. What is missing:"
    warned = any(each.status == "warn" for each in found.checks)
    return "sockops works here" + (", with less to see than there could be." if warned else ".")


def _lines(check: Check, head: str) -> Iterator[str]:
    margin = " " * len(head)
    yield from _wrapped(check.found or "-", head, margin)
    if check.remedy and check.status != "ok":
        yield from _wrapped(check.remedy, f"{margin}-> ", f"{margin}   ")


def _wrapped(text: str, first: str, later: str) -> list[str]:
    plain = "".join(c if " " <= c <= "~" else "?" for c in " ".join(text.split()))
    lines = textwrap.wrap(plain, WIDTH, initial_indent=first, subsequent_indent=later, break_on_hyphens=False)
    return lines or [f"{first}-"]
