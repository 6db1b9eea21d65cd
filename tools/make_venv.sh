#!/usr/bin/env bash
# Make a virtual environment with every distribution of this repository, editable.
# Usage: tools/make_venv.sh DIR
set -euo pipefail
dir=$1

# Print the first Python from 3.11 up that can make an environment ("import ensurepip" is what
# Debian takes out into a package of its own), or one that lacks only that if $1 is "any".
find_python() {
    local modules="venv, ensurepip"
    [ "${1:-}" = any ] && modules="venv"
    local candidate
    for candidate in "${PYTHON:-}" python3 python3.14 python3.13 python3.12 python3.11; do
        [ -n "$candidate" ] && command -v "$candidate" >/dev/null || continue
        if "$candidate" -c "import sys; sys.exit(sys.version_info < (3, 11))" 2>/dev/null &&
            "$candidate" -c "import $modules" 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
}

python=$(find_python)
if [ -z "$python" ] && [ -n "$(find_python any)" ] && command -v apt-get >/dev/null; then
    as_root=""
    [ "$(id -u)" -eq 0 ] || as_root="sudo -n"
    package="python$("$(find_python any)" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv"
    { $as_root apt-get update -qq && DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq "$package"; } || true
    python=$(find_python)
fi
if [ -z "$python" ]; then
    echo "kessel needs Python 3.11 or newer with its venv module (on Debian: apt-get install python3-venv);" >&2
    echo "install it, or say which one to use with PYTHON=/path/to/python" >&2
    exit 1
fi

# An environment whose making was interrupted has a Python, but no pip.
"$dir/bin/python" -m pip --version >/dev/null 2>&1 || "$python" -m venv --clear "$dir"
"$dir/bin/python" -m pip install --quiet --upgrade "pip>=25.1"  # older ones have no --group
targets=(-e .)
for plugin in plugins/*/; do targets+=(-e "$plugin"); done
"$dir/bin/python" -m pip install --quiet --group dev "${targets[@]}"
