#!/usr/bin/env bash
# Run every benchmark, one after the other. Usage: tools/bench.sh PYTHON
set -euo pipefail
for script in benchmarks/bench_*.py; do
    echo "== $script"
    "$1" "$script"
done
