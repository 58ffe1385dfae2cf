#!/bin/bash
# Runs the program and its live tests in other userlands than this machine's, on this machine's kernel: Debian's releases,
# with their bcc, LLVM and Python (docs/kernels.md). Each is a bare debootstrap, in which the checkout's own scripts have to
# find or install all that they need. Needs root, Linux 5.14 with cgroup v2 and overlayfs, and what `missing` looks for.
#
#   tests/userlands.sh [RELEASE...] [-- pytest options]    RELEASE: bookworm, trixie, unstable (default: all three)
#
# TCPTOP_MIRROR  of Debian's packages (default: the one of this machine's apt)
# TCPTOP_CACHE   where the userlands and what they download are kept (default: ~/.cache/tcptop-ops)
# TCPTOP_MINUTES a userland is given so long (default: 30)
#
# HEAD is checked, in a clone. Prints what is printed in the userlands, then a table, then what failed. Exits 1 if anything
# did. Nothing is installed on this machine, and nothing is left of a userland: it has mount and cgroup namespaces of its
# own, and whatever it writes, mounts and starts is taken away with them, also when this script is killed.
set -u
self=$(readlink -f -- "$0")
top=${self%/tests/userlands.sh}
cache=${TCPTOP_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tcptop-ops}/userlands
minutes=${TCPTOP_MINUTES:-30}
certificates=/etc/ssl/certs/ca-certificates.crt
fresh_days=7 # a userland is as new as its packages: made anew after that

die() { printf 'userlands.sh: %s\n' "$*" >&2; exit 3; }

releases=() options=()
while (($#)); do
    case $1 in
    --) shift; options=("$@"); break ;;
    -*) die "unknown option $1; options of pytest follow --" ;;
    *) releases+=("$1"); shift ;;
    esac
done
((${#releases[@]})) || releases=(bookworm trixie unstable)
((${#options[@]})) || options=(tests/live/test_sockops.py tests/live/test_flags.py)

missing() { # a package a line, for each program that is not here
    local program package
    while read -r program package; do
        PATH=$PATH:/usr/sbin:/sbin type -P "$program" >/dev/null || printf '%s ' "$package"
    done <<'LIST'
debootstrap debootstrap
git git
unshare util-linux
LIST
}

mirror_of_apt() {
    apt-get indextargets --format '$(LABEL) $(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
        awk '$1 == "Debian" { print $2; exit }'
}

cgroup2_mount() { awk '/ - cgroup2 / && $4 == "/" { print $5; exit }' /proc/self/mountinfo; }

# --- in the namespaces of a userland

make_tree() { # make_tree RELEASE NEW: a bare system in the directory NEW
    PATH=$PATH:/usr/sbin:/sbin debootstrap --variant=minbase "$1" "$2" "$mirror" || return
    printf '#!/bin/sh\nexit 101\n' >"$2/usr/sbin/policy-rc.d" && # no package starts a service
        chmod 755 "$2/usr/sbin/policy-rc.d"
}

enter() { # enter TREE PLACE KEPT OPTION...: what is written goes to PLACE/upper; KEPT has what was downloaded
    local root=$2/root kept=$3
    mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/overlay" "$root" &&
        mount -t proc proc "$root/proc" && mount --bind /sys "$root/sys" && mount --rbind /dev "$root/dev" &&
        mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup" && mount -t tmpfs tmpfs "$root/run" &&
        mkdir -p -- "$root/root/.cache/pip" && mount --bind "$kept/pip" "$root/root/.cache/pip" &&
        mount --bind "$kept/archives" "$root/var/cache/apt/archives" || return
    cp -L -- /etc/resolv.conf /etc/hosts "$root/etc/"
    printf 'force-unsafe-io\n' >"$root/etc/dpkg/dpkg.cfg.d/unsafe-io" # it is thrown away: no waiting for the disk
    # What this machine has been told to trust: the way to PyPI may need it. The package ca-certificates writes its own.
    [[ ! -e $certificates ]] || cp -L -- "$certificates" "$root/certificates"
    exec chroot "$root" env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 \
        TERM=dumb PIP_CERT=$([[ ! -e $root/certificates ]] || echo /certificates) bash /inside "${@:4}"
}

inside_script() { # what runs in the userland; it writes a line of the table to /row, and to /failed what failed
    cat <<'INSIDE'
set -u
cd /checkout || exit
failed() { printf '%s\n' "$*" >>/failed; }
word() { /usr/bin/python3 -I -c "$@" 2>/dev/null || printf none; }

of_json() { # of_json FILE EXPRESSION: of the tick that --once --json printed
    .venv/bin/python -I -c 'import json, sys; tick = json.load(open(sys.argv[1])); print(eval(sys.argv[2]))' "$@" 2>/dev/null ||
        printf none
}

# An open connection before the program starts: both ends in one process, which holds them until its input ends.
hold() {
    .venv/bin/python -I -c '
import socket, sys
listener = socket.create_server(("127.0.0.1", 0))
ours = socket.create_connection(listener.getsockname())
theirs, _ = listener.accept()
print(ours.getsockname()[1], flush=True)
sys.stdin.read()'
}

# Seconds from the start of the loader until the program is attached, the least of five.
loader_time() {
    .venv/bin/python -I -c '
import time
from tcptop_ops.bpf.attach import Options, attach, begin
options = Options(helper=False, reader="descriptors")
def once():
    start = time.monotonic()
    attach(options, begin(options))
    return time.monotonic() - start
print(f"{min(once() for _ in range(5)):.2f} s")' 2>/dev/null || printf none
}

. /etc/os-release
printf '=== first start: ./run --once --json\n'
./run --once --json >/tmp/first.json || failed "./run --once --json: exit status $?"
source=$(of_json /tmp/first.json 'tick["source"]')
[[ $source == sockops ]] || failed "./run --once --json: source $source"
printf 'source %s, %s connections\n' "$source" "$(of_json /tmp/first.json 'len(tick["connections"])')"

printf '=== a connection that is older than the program\n'
coproc HELD { hold; }
read -r port <&"${HELD[0]}"
./run --once --json >/tmp/adopted.json || failed "./run --once --json: exit status $?"
origin=$(of_json /tmp/adopted.json "{row['origin'] for row in tick['connections'] if row['lport'] == $port and row['state'] == 'ESTAB'}.pop()")
[[ $origin == adopted ]] || failed "an older connection is $origin, not adopted"
eval "exec ${HELD[1]}>&-"
wait "$HELD_PID"
printf 'its origin: %s\n' "$origin"

loader=$(loader_time)
printf '=== ./test %s\n' "$*"
TCPTOP_REQUIRE_LIVE=1 ./test -v --color=no --durations=5 -p no:cacheprovider "$@" 2>&1 | tee /tmp/tests
tests=$(grep -E '(passed|failed|skipped|error|no tests ran).* in [0-9.]+s' /tmp/tests | tail -n 1 | sed 's/^=* *//; s/ *=*$//; s/ in [0-9.]*s.*//')
[[ $tests =~ ^[0-9]+\ passed(, [0-9]+ skipped)?$ ]] || failed "tests: ${tests:-did not come to their end}"
grep -E '^(FAILED|ERROR|SKIPPED|XFAIL)' /tmp/tests >>/failed
llvm=$(ldd "$(readlink -f /usr/lib/*/libbcc.so.0)" 2>/dev/null | sed -n 's/.*libLLVM[-.]\(so\.\)\?\([0-9.]*[0-9]\).*/\2/p' | head -n 1)
printf '| %s | %s | %s | %s | %s | %s | %s | %s |\n' "$PRETTY_NAME" "$(word 'import platform; print(platform.python_version())')" \
    "$(word 'import bcc; print(bcc.__version__)')" "${llvm:-none}" "$source" "$origin" "${tests:-none}" "$loader" >/row
[[ ! -s /failed ]]
INSIDE
}

# --- outside

contained() { # contained FUNCTION ARGUMENT...: in the cgroup, in mount and cgroup namespaces of its own. In the background.
    (
        exec {leash}>&-
        printf '%s\n' "$BASHPID" >"$group/cgroup.procs" &&
            exec timeout --foreground "${minutes}m" unshare --mount --cgroup --propagation private bash -c '"$@"' _ "$@" </dev/null
    ) &
    wait $!
}

end_all() { # whatever is left in the cgroup, however deep
    printf '1\n' >"$group/cgroup.kill"
    for _ in {1..100}; do
        find "$group" -mindepth 1 -depth -type d -exec rmdir -- {} +
        ! grep -q 'populated 1' "$group/cgroup.events" && [[ -z $(find "$group" -mindepth 1 -type d) ]] && return
        sleep 0.1
    done
} 2>/dev/null

tree_of() { # tree_of RELEASE: makes it if there is none, or an old one
    local tree=$cache/$1
    [[ -n $(find "$tree/done" -mtime "-$fresh_days" 2>/dev/null) ]] && return
    printf '=== debootstrap %s\n' "$1"
    mkdir -- "$work/$1.tree" && contained make_tree "$1" "$work/$1.tree/root" >"$work/debootstrap" 2>&1 ||
        { tail -n 5 -- "$work/debootstrap"; return 1; }
    touch -- "$work/$1.tree/done" && rm -rf -- "$tree" && mv -- "$work/$1.tree" "$tree"
}

run() { # run RELEASE: everything in one userland
    local place=$work/$1 kept=$cache/downloads
    printf '\n=== %s\n' "$1"
    tree_of "$1" || { printf '%s: no userland\n' "$1" >>"$work/failed"; return 1; }
    mkdir -p -- "$place"/{upper,overlay,root} "$kept/pip" "$kept/$1" "$place/kept"
    ln -s -- "$kept/pip" "$place/kept/pip" && ln -s -- "$kept/$1" "$place/kept/archives"
    git clone --quiet -- "$top" "$place/upper/checkout" && inside_script >"$place/upper/inside" || return
    contained enter "$cache/$1/root" "$place" "$place/kept" "${options[@]}"
    local status=$?
    end_all
    cat -- "$place/upper/row" >>"$work/rows" 2>/dev/null ||
        printf '%s: did not come to its end\n' "$1" >>"$work/failed"
    [[ ! -s $place/upper/failed ]] || sed "s/^/$1: /" "$place/upper/failed" >>"$work/failed"
    rm -rf -- "$place"
    return "$status"
}

((EUID == 0)) || die "root is needed: for chroot, and for the program"
absent=$(missing)
[[ -z $absent ]] || die "missing: apt-get install --no-install-recommends $absent"
mirror=${TCPTOP_MIRROR:-$(mirror_of_apt)}
[[ -n $mirror ]] || die "apt knows no mirror of Debian: set TCPTOP_MIRROR"
tree2=$(cgroup2_mount)
[[ -n $tree2 ]] || die "no cgroup v2 is mounted"
mkdir -p -- "$cache" && work=$(mktemp -d -- "$cache/run.XXXXXX") || die "cannot write to $cache"
group=$tree2/tcptop-userlands-$$
mkdir -- "$group" && [[ -e $group/cgroup.kill ]] || die "no cgroup.kill: Linux 5.14 or later is needed"

# Undoes everything once this script has ended, in whatever way: the other end of the pipe is closed then. So all that this
# script starts has to close it first.
undo() {
    trap '' INT TERM HUP
    cat >/dev/null
    end_all
    rmdir -- "$group"
    rm -rf --one-file-system -- "$work"
}
exec {leash}> >(undo)
undoing=$!
leave() {
    exec {leash}>&-
    wait "$undoing"
}
trap leave EXIT
trap 'exit 130' INT TERM HUP

export mirror certificates
export -f make_tree enter
failed=0
for release in "${releases[@]}"; do
    run "$release" || failed=1
done
printf '\n=== on %s\n\n' "$(uname -r)"
printf '| userland | Python | bcc | LLVM | `--once --json` | an older connection | live tests | loader |\n| --- | --- | --- | --- | --- | --- | --- | --- |\n'
cat -- "$work/rows" 2>/dev/null
[[ ! -e $work/failed ]] || { printf '\nwhat failed:\n' && cat -- "$work/failed"; }
exit "$failed"
