#!/bin/sh
# deps.sh: finds the packages that Rhetor needs and installs those that are missing.
#   tools/deps.sh [PACKAGE...]     the build's packages, and PACKAGE... as well
# Silent when nothing is missing. Where there is no apt-get it names what is missing and leaves
# with 1.
set -u

packages="gcc make pkg-config libopenmpi-dev openmpi-bin libopenblas-openmp-dev libhdf5-dev
    libzstd-dev libyaml-dev libjansson-dev libonig-dev libutf8proc-dev libxxhash-dev
    libmicrohttpd-dev libsqlite3-dev libcmocka-dev zlib1g-dev procps"

# --- what is there, from whatever package or module it is ----------------------------------------------
here=$(dirname "$0")
missing=
for program in "${CC:-gcc}" make mpirun pgrep; do
    command -v "$program" >/dev/null || missing="$missing $program"
done
libraries=$("$here/detect.sh" --missing 2>&1) && [ -z "$missing" ] && packages=
[ -z "$packages$*" ] && exit 0

if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
    for program in "$@"; do
        command -v "$program" >/dev/null || missing="$missing $program"
    done
    [ -z "$missing$libraries" ] && exit 0
    [ -z "$libraries" ] || printf '%s\n' "$libraries" >&2
    [ -z "$missing" ] || echo "deps: programs that are missing:$missing" >&2
    echo "deps: this system has no apt-get: install them with its own package manager or modules" >&2
    exit 1
fi

# --- Debian and its relatives ------------------------------------------------------------------------
wanted="$packages $*"
have=" $(dpkg-query -W -f='${Package}=${db:Status-Status} ' $wanted 2>/dev/null)"
missing=
for package in $wanted; do
    case $have in
    *" $package=installed "*) ;;
    *) missing="$missing $package" ;;
    esac
done
[ -z "$missing" ] && exit 0

as_root=
if [ "$(id -u)" != 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "deps: missing packages, and neither root nor sudo here; run as root:" >&2
        echo "    apt-get update && apt-get install -y --no-install-recommends$missing" >&2
        exit 1
    fi
    as_root=sudo
    [ -t 0 ] || as_root="sudo -n" # nobody there to type a password
fi

echo "deps: installing$missing" >&2
log=$(mktemp)
if $as_root env DEBIAN_FRONTEND=noninteractive apt-get update </dev/null >"$log" 2>&1 &&
    $as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y --no-install-recommends $missing </dev/null >>"$log" 2>&1; then
    rm -f "$log"
    exit 0
fi
tail -n 20 "$log" >&2
rm -f "$log"
echo "deps: could not install them; run: ${as_root:+sudo }apt-get update &&" \
    "${as_root:+sudo }apt-get install -y --no-install-recommends$missing" >&2
exit 1
