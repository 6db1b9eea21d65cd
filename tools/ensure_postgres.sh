#!/usr/bin/env bash
# Print the path of PostgreSQL's server: $POSTGRES, the one on PATH, Debian's, or a newly installed one.
set -euo pipefail

# Debian keeps the programs outside PATH; the newest version counts.
found() {
    command -v postgres || ls -d /usr/lib/postgresql/*/bin/postgres 2>/dev/null | sort -V | tail -n 1 || true
}

if [ -n "${POSTGRES:-}" ]; then
    [ -x "$POSTGRES" ] || { echo "POSTGRES=$POSTGRES is not a program" >&2; exit 1; }
    echo "$POSTGRES"
    exit
fi
if [ -z "$(found)" ]; then
    if command -v apt-get >/dev/null; then
        as_root=""
        [ "$(id -u)" -eq 0 ] || as_root="sudo -n"
        # The package would start a server for everybody, the tests start their own: RUNLEVEL=1 prevents it.
        install="env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends"
        { $as_root apt-get update -qq && $as_root $install postgresql; } >&2 || true
    elif command -v brew >/dev/null; then
        brew install --quiet postgresql@17 >&2 || true
    fi
fi
if [ -z "$(found)" ] && command -v brew >/dev/null; then
    ls -d "$(brew --prefix)"/opt/postgresql@*/bin/postgres 2>/dev/null | sort -V | tail -n 1 | grep . && exit
fi
if [ -z "$(found)" ]; then
    echo "The tests need PostgreSQL, from version 14: install it (apt-get install postgresql, brew install" >&2
    echo "postgresql@17), or name its server with POSTGRES=/path/to/postgres." >&2
    exit 1
fi
found
