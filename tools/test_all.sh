#!/usr/bin/env bash
# Run the tests on every CPython from 3.11 up that is found (on PATH and under $PYENV_ROOT), and
# on the lowest and the newest allowed versions of pluggy, attrs and cattrs.
# Usage: tools/test_all.sh [VERSION...], as in `tools/test_all.sh 3.12 lowest`; default: all.
set -euo pipefail
only=" $* "
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
BEANSTALKD=$(tools/ensure.sh beanstalkd)
REDIS_SERVER=$(tools/ensure.sh redis-server)
POSTGRES=$(tools/ensure.sh postgres)
PGBOUNCER=$(tools/ensure.sh pgbouncer)
export BEANSTALKD REDIS_SERVER POSTGRES PGBOUNCER

# Print "VERSION PROGRAM" of each; no associative array, because the bash of macOS has none.
found() {
    local candidate
    {
        compgen -c | grep -E '^python3(\.[0-9]+)?$' | sort -u
        ls "${PYENV_ROOT:-$HOME/.pyenv}"/versions/*/bin/python3 2>/dev/null || true
    } | while read -r candidate; do
        "$candidate" -c 'import sys, venv, ensurepip
if sys.version_info >= (3, 11) and sys.implementation.name == "cpython":
    print("%d.%d" % sys.version_info[:2], sys.executable)' 2>/dev/null </dev/null || true
    done | sort -t . -k 2 -n | awk '!seen[$1]++'
}

run() { # name python [requirement...]
    local name=$1 python=$2
    shift 2
    echo "== $name: $("$python" --version)${*:+, $*}"
    PYTHON=$python tools/make_venv.sh "$work/$name"
    [ $# -eq 0 ] || "$work/$name/bin/python" -m pip install --quiet "$@"
    "$work/$name/bin/python" -m pip list 2>/dev/null | grep -E '^(attrs|cattrs|pluggy) '
    "$work/$name/bin/python" -m pytest -q -n auto -p no:cacheprovider tests plugins examples
}

wanted() { [ "$only" = "  " ] || [[ $only == *" $1 "* ]]; }

pythons=$(found)
[ -n "$pythons" ] || { echo "no CPython from 3.11 up was found" >&2; exit 1; }
echo "$pythons"
# A fresh environment has the newest versions, so these runs are the newest ones, too.
while read -r version python; do
    if wanted "$version"; then run "$version" "$python"; fi
done <<<"$pythons"
if wanted lowest; then
    # Read from the project itself, so that the bounds that are tested are those that are declared.
    read -r _ lowest <<<"$pythons"  # the first line: the oldest Python
    pins=$("$lowest" -c 'import re, tomllib
needs = tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"]
print(*(re.sub(r">=([^,]+).*", r"==\1", need) for need in needs if re.match("(pluggy|attrs|cattrs)>=", need)))' 2>/dev/null) || true
    [ -n "$pins" ] || { echo "the lowest versions cannot be read from pyproject.toml" >&2; exit 1; }
    # shellcheck disable=SC2086  # one word for each requirement
    run lowest "$lowest" $pins
fi
