#!/bin/bash
# Runs the live tests under other kernels than this machine's: Debian's own, booted in an emulator with this machine's
# file system as root (docs/kernels.md). Needs apt with Debian's sources, root, and what `missing` below looks for.
#
#   tests/kernels.sh [KERNEL...] [-- pytest options]      KERNEL: 6.1, 6.12, or unstable for the newest that Debian has
#                                                         (default: all three)
#
# TCPTOP_MIRROR, TCPTOP_SECURITY_MIRROR: of Debian's packages (default: those of this machine's apt)
# TCPTOP_VENV    the virtual environment with the dev extra (default: .venv of the checkout)
# TCPTOP_CACHE   where kernels and virtme-ng are kept (default: ~/.cache/tcptop-ops)
# TCPTOP_SCALE   share of the connections in the tests that count to 100,000, and of what healthy flows send in bulk
#                (default here: 0.05)
# TCPTOP_MINUTES a guest is given so long (default: 60)
# TCPTOP_KEEP    0: compile in each test anew (default: 1, what was compiled once is kept; see tests/kernels_bcc.py)
#
# Prints what the guest prints, then a summary: each kernel with what failed and what was skipped and why. Exits 1 if a
# test failed or a kernel did not come up. Nothing is installed on this machine, and nothing is left of a guest.
set -u
self=$(readlink -f -- "$0")
top=${self%/tests/kernels.sh}
venv=$(readlink -f -- "${TCPTOP_VENV:-$top/.venv}")
cache=${TCPTOP_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tcptop-ops}
scale=${TCPTOP_SCALE:-0.05}
minutes=${TCPTOP_MINUTES:-60}
virtme=$cache/virtme
guest_memory=4G
vng_version=1.42

die() { printf 'kernels.sh: %s\n' "$*" >&2; exit 3; }

kernels=() options=()
while (($#)); do
    case $1 in
    --) shift; options=("$@"); break ;;
    -*) die "unknown option $1; options of pytest follow --" ;;
    *) kernels+=("$1"); shift ;;
    esac
done
((${#kernels[@]})) || kernels=(6.1 6.12 unstable)
((${#options[@]})) || options=(tests/live)

missing() { # a package a line, for each program that is not here
    local program package
    while read -r program package; do
        PATH=$PATH:/usr/sbin:/sbin type -P "$program" >/dev/null || printf '%s ' "$package"
    done <<'EOF'
qemu-system-x86_64 qemu-system-x86
busybox busybox-static
depmod kmod
mkfs.ext4 e2fsprogs
dpkg-deb dpkg
apt-get apt
ip iproute2
nft nftables
EOF
}

# --- the kernels: from all of Debian's suites that have one, by a configuration of apt that is ours alone

suites() { # suites MIRROR SUITE...: lines of sources.list
    local mirror=$1 suite
    [[ -n $mirror ]] || return
    for suite in "${@:2}"; do
        printf 'deb %s %s main\n' "${keys:+[signed-by=$keys]}" "$mirror $suite"
    done
}

mirror_of_apt() { # mirror_of_apt LABEL: Debian or Debian-Security
    apt-get indextargets --format '$(LABEL) $(REPO_URI)' 'Created-By: Packages' | awk -v "label=$1" '$1 == label { print $2; exit }'
}

apt_of_ours() { # makes it, with lists as new as this start
    local place=$cache/apt keys=/usr/share/keyrings/debian-archive-keyring.gpg mirror
    mirror=${TCPTOP_MIRROR:-$(mirror_of_apt Debian)}
    [[ -n $mirror ]] || { echo "apt knows no mirror of Debian: set TCPTOP_MIRROR" >&2; return 1; }
    [[ -e $keys ]] || keys=
    mkdir -p -- "$place/lists/partial" "$place/cache/archives/partial" && : >"$place/status" || return
    {
        suites "$mirror" bookworm bookworm-backports trixie unstable
        suites "${TCPTOP_SECURITY_MIRROR:-$(mirror_of_apt Debian-Security)}" bookworm-security trixie-security
    } >"$place/sources.list"
    printf '%s "%s";\n' Dir::State "$place" Dir::State::status "$place/status" Dir::Cache "$place/cache" \
        Dir::Etc::sourcelist "$place/sources.list" Dir::Etc::sourceparts - APT::Sandbox::User root >"$place/apt.conf"
    APT_CONFIG=$place/apt.conf apt-get -qq update >&2
}

# The newest kernel of a series, by the names of its packages. Until 6.12: linux-image-6.1.0-56-amd64-unsigned,
# linux-image-6.12.111+deb12-amd64-unsigned. From 7.x on: linux-binary-unsigned-7.2.13+deb14-amd64, and its modules apart.
newest() {
    local series='[0-9]+\.[0-9]+'
    [[ $1 == unstable ]] || series=${1//./\\.}
    apt-cache search --names-only "^linux-(image|binary-unsigned)-${series}[.-][^ ]*-amd64(-unsigned)?\$" |
        awk '$1 !~ /-(rt|cloud)-amd64/ && /unsigned/ {
            version = $1
            gsub(/^linux-(image|binary-unsigned)-|-unsigned$/, "", version)
            print version, $1
        }' | sort -V | tail -n 1 | cut -d ' ' -f 2
}

packages_of() { # packages_of PACKAGE: it, and where its modules are apart, theirs
    local version=${1#linux-binary-unsigned-}
    printf '%s\n' "$1"
    [[ $version == "$1" ]] || printf 'linux-%s-'"$version"'\n' modules base
}

unpack() { # unpack DIRECTORY PACKAGE...: boot/vmlinuz-VERSION and lib/modules/VERSION, wherever the packages have them
    local place=$1 root=$1/root image deb version
    shift
    cd -- "$place" && apt-get download -q "$@" || return
    for deb in ./*.deb; do
        dpkg-deb -x "$deb" root && rm -f -- "$deb" || return
    done
    [[ -e $root/lib/modules ]] || ln -s -- usr/lib "$root/lib"
    version=$(ls -- "$root/lib/modules") && image=$root/lib/modules/$version/vmlinuz.unsigned
    [[ ! -e $image ]] || { mkdir -p -- "$root/boot" && mv -- "$image" "$root/boot/vmlinuz-$version"; } || return
    PATH=$PATH:/usr/sbin:/sbin depmod -b "$root" "$version"
}

kernel_of() { # kernel_of SERIES: unpacks its packages, tells the kernel's image
    local package place unpacked
    export APT_CONFIG=$cache/apt/apt.conf
    package=$(newest "$1")
    [[ -n $package ]] || { echo "Debian has no kernel $1 where this machine reaches it"; return 1; } >&2
    place=$cache/kernels/$package
    if [[ ! -e $place/done ]]; then
        unpacked=$(mktemp -d -- "$cache/unpack.XXXXXX") || return
        # shellcheck disable=SC2046 # words
        (unpack "$unpacked" $(packages_of "$package")) >&2 && touch -- "$unpacked/done" && mkdir -p -- "$cache/kernels" &&
            rm -rf -- "$place" && mv -- "$unpacked" "$place" || { rm -rf -- "$unpacked"; return 1; }
    fi
    printf '%s\n' "$place"/root/boot/vmlinuz-*
}

emulator() { # virtme-ng, in a virtual environment of its own
    [[ -x $virtme/bin/vng ]] && return
    python3 -m venv -- "$virtme" && "$virtme/bin/pip" install --quiet "virtme-ng==$vng_version" >&2
}

# The guest reads its root over 9p, file by file and slowly. What the tests start again and again comes on a disk, and is
# mounted over the same paths: the interpreters, the virtual environment, bcc with LLVM.
hot_paths() {
    printf '%s\n' "$venv"
    "$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("stdlib"))'
    ls -d -- /usr/lib/python3 /usr/lib/python3.[0-9]*
    ldconfig -p | awk '/lib(bcc|LLVM|clang-cpp|clang)[-.]/ { print $NF }' | while read -r library; do
        readlink -f -- "$library"
    done
} 2>/dev/null

keep_what_is_compiled() { # keep_what_is_compiled ROOT: bcc there is ours, and the real one is inside it
    local package
    package=$1$(/usr/bin/python3 -I -c 'import bcc; print(bcc.__path__[0])') || return
    mv -- "$package/__init__.py" "$package/_whole.py" && rm -rf -- "$package/__pycache__" &&
        cp -- "$top/tests/kernels_bcc.py" "$package/__init__.py" &&
        /usr/bin/python3 -m compileall -q "$package" >/dev/null
}

pack() { # pack DIRECTORY: the disk, and which paths are on it
    local stage=$1/stage stdlib
    stdlib=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')
    mkdir -p -- "$stage/checkout" "$stage/root"
    hot_paths | sort -u >"$1/hot"
    tar -C / -cf - --anchored --exclude="${stdlib#/}/site-packages" --no-anchored --exclude=mypy --exclude=mypyc --exclude='ruff*' --exclude='python3*/test' --exclude=idlelib \
        --exclude=ensurepip --exclude='*.a' -- $(sed 's|^/||' "$1/hot") | tar -C "$stage/root" -xf - || return
    (cd -- "$top" && { git ls-files -z --cached --others --exclude-standard 2>/dev/null || find . -type f -print0; } |
        while IFS= read -r -d '' file; do [[ -f $file ]] && printf '%s\0' "$file"; done |
        tar -cf - --null -T -) | tar -C "$stage/checkout" -xf - || return
    [[ ${TCPTOP_KEEP:-1} == 0 ]] || keep_what_is_compiled "$stage/root" || return
    "$venv/bin/python" -m compileall -q "$stage/checkout/tcptop_ops" "$stage/checkout/tests" >/dev/null
    PATH=$PATH:/usr/sbin:/sbin mkfs.ext4 -q -O ^has_journal -d "$stage" "$1/disk" "$(($(du -sm -- "$stage" | cut -f 1) * 5 / 4 + 64))M" >/dev/null || return
    rm -rf -- "$stage"
}

guest_script() { # guest_script DIRECTORY, where the guest writes: log and status
    printf 'work=%q venv=%q scale=%q\noptions=(' "$1" "$venv" "$scale"
    printf ' %q' "${options[@]}"
    cat <<'EOF'
 )
tests() {
    uname -r
    ip link set lo up
    modprobe -a virtio_blk ext4 tun || return
    for _ in $(seq 100); do [ -b /dev/vda ] && break; sleep 0.1; done
    mount -o ro /dev/vda /mnt || return
    while read -r path; do mount --bind "/mnt/root$path" "$path" || return; done <"$work/hot"
    cd /mnt/checkout || return
    export TCPTOP_SCALE=$scale TCPTOP_REQUIRE_LIVE=0 PYTHONDONTWRITEBYTECODE=1 HYPOTHESIS_STORAGE_DIRECTORY=/tmp/hypothesis PATH=$venv/bin:$PATH
    python -m pytest -v --color=no --durations=8 -p no:cacheprovider "${options[@]}"
}
tests >"$work/log" 2>&1 </dev/null
echo $? >"$work/status"
sync
EOF
}

# With icount the guest's clock goes by its instructions, one a nanosecond: however slow or busy this machine is, nothing
# in the guest runs into a timeout for that. While the guest waits, its clock is ours. One processor: with icount they
# would take turns, and 6.1 never sees its second one come up. No AVX2: qemu 7.2 gets some of it wrong, and every second
# numpy.argsort() of unsigned 64-bit numbers with it (numpy 2.4).
boot() { # boot IMAGE DIRECTORY: the guest runs DIRECTORY/script; its kernel's words are in DIRECTORY/console
    PATH=$virtme/bin:$PATH:/usr/sbin:/sbin TMPDIR=$work exec timeout --kill-after=10 "${minutes}m" "$virtme/bin/vng" --run "$1" \
        --disable-kvm --user root --cpus 1 --memory "$guest_memory" --verbose --rwdir="$2" --disk "$work/disk" \
        --append mitigations=off --qemu-opts="-cpu max,avx2=off -icount shift=0" -- "bash $2/script" \
        >"$2/console" 2>&1 </dev/null
}

run() { # run SERIES: everything for one kernel; its summary goes to the end
    local image place=$work/$1
    mkdir -- "$place"
    printf '\n=== %s\n' "$1"
    image=$(kernel_of "$1" 2>>"$work/summary") || { printf '%s: no kernel\n' "$1" >>"$work/summary"; return 1; }
    ln -- "$work/hot" "$place/"
    guest_script "$place" >"$place/script"
    : >"$place/log"
    tail -n +1 -f -- "$place/log" &
    follower=$!
    boot "$image" "$place" &
    guest=$!
    wait "$guest"
    guest=
    sleep 1 # the follower's last look
    kill "$follower"
    wait "$follower"
    follower=
    summarize "$1" "$image" "$place" >>"$work/summary"
    [[ $(cat -- "$place/status" 2>/dev/null) == 0 ]]
} 2>/dev/null

summarize() {
    printf '\n%s (%s)\n' "$1" "${2##*/vmlinuz-}"
    if [[ -e $3/status ]]; then
        grep -E '^(FAILED|ERROR|SKIPPED|XFAIL)' "$3/log"
        tail -n 1 "$3/log"
    else
        printf 'the guest did not come to the end of its tests:\n'
        tail -n 15 "$3/log" "$3/console"
    fi
}

((EUID == 0)) || die "root is needed: the guest reads this machine's whole file system"
absent=$(missing)
[[ -z $absent ]] || die "missing: apt-get install --no-install-recommends $absent"
[[ -x $venv/bin/python ]] || die "no virtual environment at $venv: run ./test once, or set TCPTOP_VENV"
mkdir -p -- "$cache" || die "cannot write to $cache"
emulator || die "virtme-ng could not be installed"
apt_of_ours || die "apt could not read what kernels Debian has"
work=$(mktemp -d "${TMPDIR:-/tmp}/tcptop-kernels.XXXXXX") || exit
guest='' follower=''
leave() { # bash waits for what it runs in the foreground before it looks at a trap: a guest runs in the background
    [[ -z $guest ]] || { kill "$guest"; wait "$guest"; }
    [[ -z $follower ]] || kill "$follower"
    rm -rf -- "$work"
} 2>/dev/null
trap leave EXIT
trap 'exit 130' INT TERM HUP
pack "$work" || die "could not pack what the guest needs"
failed=0
for series in "${kernels[@]}"; do
    run "$series" || failed=1
done
printf '\n=== summary\n'
cat -- "$work/summary"
exit "$failed"
