#!/usr/bin/env bash
# Print the path of a pgbouncer: $PGBOUNCER, the one on PATH, Debian's, or a newly installed one.
set -euo pipefail

# Debian keeps it outside the PATH of users.
found() {
    command -v pgbouncer || ls /usr/sbin/pgbouncer 2>/dev/null || true
}

if [ -n "${PGBOUNCER:-}" ]; then
    [ -x "$PGBOUNCER" ] || { echo "PGBOUNCER=$PGBOUNCER is not a program" >&2; exit 1; }
    echo "$PGBOUNCER"
    exit
fi
if [ -z "$(found)" ]; then
    if command -v apt-get >/dev/null; then
        as_root=""
        [ "$(id -u)" -eq 0 ] || as_root="sudo -n"
        # The package would start a server for everybody, the tests start their own: RUNLEVEL=1 prevents it.
        install="env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends"
        { $as_root apt-get update -qq && $as_root $install pgbouncer; } >&2 || true
    elif command -v brew >/dev/null; then
        brew install --quiet pgbouncer >&2 || true
    fi
fi
if [ -z "$(found)" ]; then
    echo "The tests need pgbouncer: install it (apt-get install pgbouncer, brew install pgbouncer)," >&2
    echo "or name one with PGBOUNCER=/path/to/pgbouncer." >&2
    exit 1
fi
found
