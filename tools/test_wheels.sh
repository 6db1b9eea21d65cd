#!/usr/bin/env bash
# Build a wheel of every distribution, install them in a clean environment, and test there:
# entry points and package data that an editable install would hide.
# Usage: tools/test_wheels.sh PYTHON
set -euo pipefail
python=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
root=$(pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$python" tools/dist.py https://kessel.example/kessel "$work/wheels"
"$python" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet "$work"/wheels/*.whl pytest pytest-timeout pytest-xdist hatchling
cp -r "$root/tests/wheels" "$work/tests"
export KESSEL_WHEELS="$work/wheels" KESSEL_DOCS="$root/docs"
cd "$work"  # so that nothing is imported from the checkout
# One test at a time to each process: the few that follow a whole page take most of the time.
"$work/venv/bin/python" -m pytest -q -n 3 --dist load --maxschedchunk 1 -p no:cacheprovider "$work/tests"
