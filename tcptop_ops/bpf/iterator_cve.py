"""Kernels that the TCP iterator can harm: CVE-2026-74714.

bpf_iter_tcp_established_batch() takes a reference to whatever is in a bucket of the hash, a request socket too whose
count reqsk_queue_hash_req() has not set yet: that reference is lost, and the socket is freed while it is in use. It
takes a SYN within less than a microsecond of the pass: a matter of hours with a thousand SYNs a second.
"bpf: tcp: Fix use-after-free in bpf_iter_tcp_established_batch()" (e5fd3f514e27) mends it. No feature tells whether a
kernel has it: this is the one question that is answered by a version.
"""

from __future__ import annotations

import re

CVE = "CVE-2026-74714"
SINCE = (5, 15)
"""The first release whose TCP iterator takes sockets in batches, which is where the fault is."""

FIXED = {(6, 1): 183, (6, 6): 152, (6, 12): 104, (6, 18): 45, (7, 1): 9}
FIXED_IN_ALL = (7, 2)

_NUMBERS = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?")
_DEBIAN = re.compile(r"Debian (\d+\.\d+\.\d+)")


def harms(release: str, version: str) -> bool:
    """Whether a kernel may have the fault, by what uname(2) says: a distribution's that can't be told may.

    Debian's ``release`` of older series has the number of its ABI in the third place; ``version`` has the real one.
    """
    debian = _DEBIAN.search(version)
    found = _NUMBERS.match(debian[1] if debian else release)
    if found is None:
        return True
    series, patch = (int(found[1]), int(found[2])), int(found[3] or 0)
    if series < SINCE or series >= FIXED_IN_ALL:
        return False
    return patch < FIXED.get(series, 1 << 31)


def remedy(release: str) -> str:
    """Which kernels do not have it."""
    found = _NUMBERS.match(release)
    series = (int(found[1]), int(found[2])) if found else (0, 0)
    least = min((one for one in FIXED if one >= series), default=FIXED_IN_ALL)
    return f"Linux {least[0]}.{least[1]}.{FIXED.get(least, 0)} or later"
