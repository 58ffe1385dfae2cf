# shellcheck shell=bash
# Sourced by run, test and .ci/run with $root set to the checkout: makes $root/.venv, and installs from the distribution
# what pip can't. It speaks on standard error only. When nothing is to be done it starts no program but readlink.

: "${root:?}"
venv=$root/.venv
lock= # .ci/run names a file here: its versions and hashes, and no others, are installed
PATH=$PATH:/usr/sbin:/sbin # where bpftool, nft and ip live, and not everybody's PATH leads

say() { printf 'tcptop-ops: %s\n' "$*" >&2; }

die() { # die MESSAGE HINT: this host or this user can't do it
    printf 'tcptop-ops: %s\nhint: %s\n' "$1" "$2" >&2
    exit 3
}

# bootstrap run|dev [COMMAND...]: .venv has what pyproject.toml asks for (dev: and what the tests need), and root has bcc
# and the COMMANDs from the distribution, or was told why not.
bootstrap() {
    local kind=$1
    shift
    if venv_ready "$kind" && packages_ready "$kind" "$@"; then
        return
    fi
    exec 9<"$root"
    flock -n 9 || {
        say "waiting for another start to finish installing"
        flock 9
    }
    trap 'exit 130' INT TERM HUP # pip makes a mere failure of Ctrl-C: don't go on after it
    install "$kind" "$@" # pip inherits the lock: it outlives this shell where only that is killed
    trap - INT TERM HUP
    exec 9<&-
}

install() {
    local kind=$1 wanted=
    shift
    packages_ready "$kind" "$@" || wanted=$(missing "$@")
    venv_ready "$kind" || {
        [[ -w $root && (! -e $venv || -w $venv) ]] ||
            die "can't write to ${venv@Q}" "run it once as the owner of the checkout"
        find_python >/dev/null || wanted+=python
    }
    [[ -z $wanted ]] || install_packages "$wanted"
    venv_ready "$kind" || make_venv "$kind"
    if ((EUID == 0)); then
        rm -f -- "$venv/.in-vain-$kind"
        [[ -z $(missing "$@") ]] || : >"$venv/.in-vain-$kind" # don't try again at every start
        # sudo ./run: leave nothing that the owner of the checkout can't remove
        [[ -O $root ]] || chown -Rh --reference="$root" -- "$venv" "$root"/tcptop_ops "$root"/*.egg-info
    fi
}

# --- .venv

venv_ready() {
    local have=
    { have=$(<"$venv/.stamp-$1"); } 2>/dev/null
    [[ -n $have && $have == "$(stamp)" && -x $venv/bin/tcptop-ops && ! -e $venv/.unfinished ]]
}

stamp() { # all that makes an installed .venv stale: its Python replaced, the checkout moved, other requirements
    printf '%s\n' "$(readlink -f -- "$venv/bin/python")" "$root" "$(<"$root/pyproject.toml")"
}

make_venv() { # anew, if the last time was interrupted, the checkout moved or Python is not what it was; else up to date
    local python old='' place=''
    { { read -r old && read -r place; } <"$venv/.stamp-run"; } 2>/dev/null
    if [[ -e $venv/.unfinished || ! -x $venv/bin/python || $place != "$root" ||
        $old != "$(readlink -f -- "$venv/bin/python")" ]]; then
        python=$(find_python) || { install_packages newer-python && python=$(find_python); } ||
            die "no Python >= 3.10 that can make a virtual environment" "install it: $(install_command "python newer-python")"
        say "making .venv with $python"
        rm -rf -- "$venv"
        "$python" -I -m venv "$venv" >&2 ||
            die "$python can't make a virtual environment in ${root@Q}" "its reason is above"
    fi
    : >"$venv/.unfinished"
    say "installing what pyproject.toml asks for"
    if ! pip_install "$1"; then
        rm -f -- "$venv/.unfinished" # pip has undone what it did
        die "pip could not install what is needed" "its reason is above; can this host reach PyPI?"
    fi
    "$venv/bin/python" -I -m compileall -q "$root/tcptop_ops" >/dev/null
    stamp >"$venv/.stamp-run"
    [[ $1 == run ]] || stamp >"$venv/.stamp-$1"
    rm -f -- "$venv/.unfinished"
}

find_python() { # the distribution's own first: it lasts
    local python
    for python in /usr/bin/python3 python3 python3.{16..10}; do
        "$python" -I -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 10))' 2>/dev/null &&
            type -P "$python" && return
    done
    return 1
}

pip_install() {
    local what=.
    [[ $1 == run ]] || what=".[$1]"
    if [[ -n $lock ]]; then
        pip_venv --require-hashes --requirement "$lock" && pip_venv --no-deps --no-build-isolation --editable .
    else
        pip_venv --editable "$what"
    fi
}

pip_venv() (
    cd -- "$root" &&
        PIP_USER=0 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 \
            "$venv/bin/python" -I -m pip install --quiet "$@" </dev/null >&2
)

# --- the distribution's packages

packages_ready() { # others than root can't do anything about it
    ((EUID != 0)) && [[ -e $venv ]] || [[ -e $venv/.in-vain-$1 ]] || [[ -z $(missing "${@:2}") ]]
}

missing() { # missing [COMMAND...]: what of bcc and the commands is not there, each followed by a space
    local command
    compgen -G '/usr/lib*/python3*/*-packages/bcc/__init__.py' >/dev/null || printf 'bcc '
    for command; do
        type -P "$command" >/dev/null || printf '%s ' "$command"
    done
}

manager=
for manager in apt-get dnf pacman ''; do
    [[ -z $manager ]] || type -P "$manager" >/dev/null && break
done

install_packages() { # install_packages "THING ...": as root; else, or if it fails, tell
    local packages package
    packages=$(package_names "$1")
    [[ -n $packages ]] || return
    if ((EUID != 0)) || [[ -z $manager ]]; then
        say "not installed: $packages(as root: $(install_command "$1"))"
        [[ $1 != *bcc* ]] || say "without bcc there is no BPF; going on with what needs neither it nor root"
        return 1
    fi
    say "installing $packages(${manager})"
    # shellcheck disable=SC2086 # words
    { fetch $packages || { refresh && fetch $packages; }; } >/dev/null 2>&1 </dev/null 9<&- && return
    for package in $packages; do # one that is not to be had must not keep out the others
        fetch "$package" >/dev/null </dev/null 9<&- || say "could not install $package"
    done
}

fetch() {
    case $manager in
        apt-get) DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120 install -y --no-install-recommends "$@" ;;
        dnf) dnf -q -y install "$@" ;;
        pacman) pacman -S --quiet --noconfirm --needed "$@" ;;
    esac
}

refresh() {
    case $manager in
        apt-get) DEBIAN_FRONTEND=noninteractive apt-get -qq update ;;
        dnf) dnf -q makecache ;;
        pacman) pacman -Sy --quiet --noconfirm ;;
    esac
}

install_command() { # install_command "THING ...": what a person types
    local packages
    packages=$(package_names "$1")
    case $manager in
        '') printf 'with the package manager of this host' ;;
        pacman) printf 'pacman -S %s' "${packages% }" ;;
        *) printf '%s install %s' "$manager" "${packages% }" ;;
    esac
}

package_names() { # package_names "THING ...": bcc, python or commands, as this distribution calls them, a space after each
    local thing name names=
    for thing in $1; do
        name=$thing
        case $manager:$thing in
            apt-get:bcc) name='python3-bpfcc' ;;
            dnf:bcc) name='python3-bcc' ;;
            pacman:bcc) name='python-bcc' ;;
            apt-get:python) name='python3-venv' ;;
            dnf:python) name='python3' ;;
            dnf:newer-python) name='python3.12' ;; # RHEL 9: its python3 is 3.9
            *:newer-python) continue ;;
            *:nft) name='nftables' ;;
            dnf:tc) name='iproute-tc' ;;
            dnf:ip | dnf:ss) name='iproute' ;;
            *:ip | *:ss | *:tc) name='iproute2' ;;
            pacman:bpftool) name='bpf' ;;
            apt-get:bpftool) ! grep -q '^ID=ubuntu' /etc/os-release || name="linux-tools-common linux-tools-$(uname -r)" ;;
        esac
        [[ " $names" == *" $name "* ]] || names+="$name "
    done
    printf '%s' "$names"
}
