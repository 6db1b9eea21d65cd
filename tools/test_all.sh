#!/usr/bin/env bash
# Run the tests on every CPython from 3.11 up that is found (on PATH and under $PYENV_ROOT), and
# on the lowest and the newest allowed versions of pluggy, attrs and cattrs.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
BEANSTALKD=$(tools/ensure_beanstalkd.sh)
export BEANSTALKD

declare -A pythons=()
for candidate in $(compgen -c | grep -E '^python3\.[0-9]+$' | sort -u) "${PYENV_ROOT:-$HOME/.pyenv}"/versions/*/bin/python3; do
    version=$("$candidate" -c 'import sys; v = sys.version_info; print(f"{v[0]}.{v[1]}" if v >= (3, 11) and sys.implementation.name == "cpython" else "")' 2>/dev/null || true)
    if [ -n "$version" ] && [ -z "${pythons[$version]:-}" ]; then pythons[$version]=$candidate; fi
done
[ ${#pythons[@]} -gt 0 ] || { echo "no CPython from 3.11 up was found" >&2; exit 1; }

run() { # name python [pins...]
    local name=$1 python=$2
    shift 2
    echo "== $name: $("$python" --version)"
    PYTHON=$python tools/make_venv.sh "$work/$name"
    [ $# -eq 0 ] || "$work/$name/bin/python" -m pip install --quiet "$@"
    "$work/$name/bin/python" -m pytest -q -n auto -p no:cacheprovider tests plugins
}

for version in $(printf '%s\n' "${!pythons[@]}" | sort -V); do run "py$version" "${pythons[$version]}"; done
lowest=$(printf '%s\n' "${!pythons[@]}" | sort -V | head -n 1)
run lowest "${pythons[$lowest]}" pluggy==1.6.0 attrs==23.2.0 cattrs==23.2.3
