#!/bin/bash
# Surprise: inside two stable series, 6.1 and 6.12, the timer that TCP uses for keepalive moved to another structure, and
# the old name stayed. Up to 6.1.190 and 6.12.111 it is sock.sk_timer. In 6.1.192 and 6.12.113 it is
# inet_connection_sock.icsk_keepalive_timer; sk_timer is still in the BTF, at the same place as before, but now in a
# nameless union with mptcp_retransmit_timer, and no longer TCP's: a BPF program that goes by the name alone reads
# another timer. Linux 6.18.44 still has the older layout, so comparing version numbers is wrong either way.
#
# Why: commit 08dfe370239e ("tcp: introduce icsk->icsk_keepalive_timer", mainline 6.19) was taken back into the stable
# series; there the lists of changes have it directly beside "mptcp: prevent race between disconnect() and rtx". Only
# the BTF of a kernel tells which of the two it has.
#
# Seen on: Debian's linux-image-*-cloud-amd64-unsigned 6.1.190-1, 6.1.192-1, 6.12.111-1~deb12u1, 6.12.113-1~deb12u1,
# bpftool 7.1.0+6.1.176-1 (all Debian 12), lz4 4.4.5, zstandard 0.25.0. Output:
#
#   6.1.0-54-cloud-amd64 (6.1.190-1): sk_timer byte 408 of sock; no icsk_keepalive_timer
#   6.1.0-55-cloud-amd64 (6.1.192-1): sk_timer byte 408 of sock, in a union with mptcp_retransmit_timer; icsk_keepalive_timer byte 1176 of inet_connection_sock, in a union with mptcp_tout_timer
#   6.12.111+deb12-cloud-amd64 (6.12.111-1~deb12u1): sk_timer byte 448 of sock; no icsk_keepalive_timer
#   6.12.113+deb12-cloud-amd64 (6.12.113-1~deb12u1): sk_timer byte 448 of sock, in a union with mptcp_retransmit_timer; icsk_keepalive_timer byte 1184 of inet_connection_sock, in a union with mptcp_tout_timer
#   as stated
#
# Exit status: 0 as stated, 1 not as stated, 2 it can't be tried here: the security archive keeps such a package for
# some months only. About 130 MB are downloaded. No kernel is started and nothing is installed; root is not needed.
set -u

cannot() { printf 'cannot be tried here: %s\n' "$*"; exit 2; }

[[ $(uname -m) == x86_64 ]] || cannot "not x86-64"
work=$(mktemp -d) || exit 2
trap 'rm -rf -- "$work"' EXIT
trap 'exit 2' INT TERM HUP
{ python3 -m venv "$work/venv" && "$work/venv/bin/pip" install --quiet lz4==4.4.5 zstandard==0.25.0; } >"$work/log" 2>&1 ||
    cannot "pip: $(tail -n 1 "$work/log")"
cd -- "$work" || exit 2

fetch() { # fetch NAME VERSION FOLDER [PATH...]: unpacks a package, or these paths of it, and deletes it
    local name=$1 version=$2 folder=$3
    shift 3
    { mkdir "$folder" && apt-get download -q "$name=$version" &&
        dpkg-deb --fsys-tarfile "./${name}_"*.deb | tar -x -C "$folder" --wildcards "$@" && rm -f -- "./${name}_"*.deb; } >log 2>&1 ||
        cannot "apt: $(grep -m 1 '^E:' log || tail -n 1 log)"
}

fetch bpftool 7.1.0+6.1.176-1 bpftool './usr/sbin/bpftool'
bpftool/usr/sbin/bpftool version >log 2>&1 || cannot "bpftool: $(tail -n 1 log)"
while read -r release version expected; do
    fetch "linux-image-$release-unsigned" "$version" "$release" './boot/vmlinuz-*'
    printf '%s %s %s\n' "$release" "$version" "$expected" >>kernels
done <<'EOF'
6.1.0-54-cloud-amd64 6.1.190-1 before
6.1.0-55-cloud-amd64 6.1.192-1 after
6.12.111+deb12-cloud-amd64 6.12.111-1~deb12u1 before
6.12.113+deb12-cloud-amd64 6.12.113-1~deb12u1 after
EOF

timeout 300 venv/bin/python - <<'EOF'
import json
import pathlib
import struct
import subprocess
import sys

import lz4.block
import zstandard


def lz4_legacy(data):
    """Unpacks the format that the kernel's build makes: a magic number, then blocks, each behind its length."""
    at, parts = 4, []
    while at + 4 <= len(data):
        (length,) = struct.unpack_from("<I", data, at)
        if not length or at + 4 + length > len(data):
            break
        parts.append(lz4.block.decompress(data[at + 4 : at + 4 + length], uncompressed_size=8 << 20))
        at += 4 + length
    return b"".join(parts)


def unpack(image):
    """Returns the ELF file within a bzImage: its setup header tells where the payload is (Documentation/arch/x86/boot.rst)."""
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = ((image[0x1F1] or 4) + 1) * 512 + offset
    payload = image[start : start + length]
    if payload.startswith(b"\x02\x21\x4c\x18"):
        return lz4_legacy(payload[:-4])  # the last four bytes are the unpacked size
    return zstandard.ZstdDecompressor().decompressobj().decompress(payload)


def find(types, struct_type, wanted, base=0):
    """Returns the byte at which a structure has a member, nameless members included, and the member's union, or None."""
    for member in struct_type["members"]:
        at = base + member["bits_offset"] // 8
        if member["name"] == wanted:
            return at, struct_type
        inner = types.get(member["type_id"], {})
        if member["name"] == "(anon)" and "members" in inner and (found := find(types, inner, wanted, at)):
            return found
    return None


def place(types, structure, member):
    found = find(types, next(t for t in types.values() if t["kind"] == "STRUCT" and t["name"] == structure), member)
    if found is None:
        return None, [], f"no {member}"
    at, owner = found
    others = [other["name"] for other in owner["members"] if other["name"] != member] if owner["kind"] == "UNION" else []
    shared = f", in a union with {', '.join(others)}" if others else ""
    return at, others, f"{member} byte {at} of {structure}{shared}"


stated, old = True, {}
for line in pathlib.Path("kernels").read_text().splitlines():
    release, version, expected = line.split()
    image = pathlib.Path(release, "boot", f"vmlinuz-{release}").read_bytes()
    pathlib.Path("vmlinux").write_bytes(unpack(image))
    dump = subprocess.run(["bpftool/usr/sbin/bpftool", "-j", "btf", "dump", "file", "vmlinux"], capture_output=True, check=True)
    types = {entry["id"]: entry for entry in json.loads(dump.stdout)["types"]}
    sock_at, others, sock_text = place(types, "sock", "sk_timer")
    csk_at, _, csk_text = place(types, "inet_connection_sock", "icsk_keepalive_timer")
    print(f"{release} ({version}): {sock_text}; {csk_text}")
    series = release.split(".")[1]
    if expected == "before":
        old[series] = sock_at
        stated &= sock_at is not None and csk_at is None and not others
    else:
        stated &= sock_at is not None and csk_at is not None and others == ["mptcp_retransmit_timer"] and sock_at == old[series]
print("as stated" if stated else "not as stated")
sys.exit(not stated)
EOF
status=$?
((status <= 2)) || cannot "the trial itself failed with status $status"
exit "$status"
