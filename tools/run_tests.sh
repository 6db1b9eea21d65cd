#!/usr/bin/env bash
# Run all tests with coverage, print it and hold it to its bounds, then test built wheels.
# Usage: tools/run_tests.sh PYTHON [WORKERS]
set -euo pipefail
python=$1
# Two for each core, because tests wait for half of their time (890 of 1746 s, added up over three processes).
workers=${2:-$(($(nproc 2>/dev/null || sysctl -n hw.ncpu) * 2))}

BEANSTALKD=$(tools/ensure.sh beanstalkd)
REDIS_SERVER=$(tools/ensure.sh redis-server)
POSTGRES=$(tools/ensure.sh postgres)
PGBOUNCER=$(tools/ensure.sh pgbouncer)
PROMETHEUS=$(tools/ensure.sh prometheus)
export BEANSTALKD REDIS_SERVER POSTGRES PGBOUNCER PROMETHEUS
# The files of tests are in memory where there is room for them (a run needs some hundred MB): no promise is
# about the disk, and thousands of small databases are.
room=$(df -Pk /dev/shm 2>/dev/null | awk 'NR == 2 { print $4 }') || true
if [ "${room:-0}" -gt 2000000 ] && ! grep -q ' /dev/shm .*noexec' /proc/mounts; then
    work=$(mktemp -d /dev/shm/kessel.XXXXXX)
else
    work=$(mktemp -d)
fi
trap 'rm -rf "$work"' EXIT
chmod 711 "$work"  # PostgreSQL runs as another user where the tests run as root
log=$work/log

rm -f .coverage .coverage.*  # figures of an earlier run would count as of this one
# A file stays in one process: its servers start once. The order is that of conftest.py, long files first.
TMPDIR=$work "$python" -m pytest -n "$workers" --dist loadfile --no-loadscope-reorder --cov --cov-context=test --cov-report= tests plugins examples 2>&1 | tee "$log"
"$python" tools/coverage_report.py
echo
echo "== from built wheels, in a clean environment"
TMPDIR=$work tools/test_wheels.sh "$python"
echo
echo "== all tests"
tail -n 1 "$log"
