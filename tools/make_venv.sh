#!/usr/bin/env bash
# Make a virtual environment with every distribution of this repository, editable.
# Usage: tools/make_venv.sh DIR
set -euo pipefail
dir=$1

python=""
for candidate in "${PYTHON:-}" python3 python3.13 python3.12 python3.11 python3.14; do
    [ -n "$candidate" ] && command -v "$candidate" >/dev/null || continue
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    echo "kessel needs Python 3.11 or newer; install it, or say which with PYTHON=/path/to/python" >&2
    exit 1
fi

[ -x "$dir/bin/python" ] || "$python" -m venv "$dir"
"$dir/bin/python" -m pip install --quiet --upgrade "pip>=25.1"  # older ones have no --group
targets=(-e .)
for plugin in plugins/*/; do targets+=(-e "$plugin"); done
"$dir/bin/python" -m pip install --quiet --group dev "${targets[@]}"
