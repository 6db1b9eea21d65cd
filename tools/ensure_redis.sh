#!/usr/bin/env bash
# Print the path of a redis-server: $REDIS_SERVER, the one on PATH, or a newly installed one.
set -euo pipefail

if [ -n "${REDIS_SERVER:-}" ]; then
    [ -x "$REDIS_SERVER" ] || { echo "REDIS_SERVER=$REDIS_SERVER is not a program" >&2; exit 1; }
    echo "$REDIS_SERVER"
    exit
fi
if ! command -v redis-server >/dev/null; then
    if command -v apt-get >/dev/null; then
        as_root=""
        [ "$(id -u)" -eq 0 ] || as_root="sudo -n"
        # The package would start a server for everybody, the tests start their own: RUNLEVEL=1 prevents it.
        install="env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends"
        { $as_root apt-get update -qq && $as_root $install redis-server; } >&2 || true
    elif command -v brew >/dev/null; then
        brew install --quiet redis >&2 || true
    fi
fi
if ! command -v redis-server >/dev/null; then
    echo "The tests need redis-server, from version 6.2: install it (apt-get install redis-server," >&2
    echo "brew install redis), or name one with REDIS_SERVER=/path/to/redis-server." >&2
    exit 1
fi
command -v redis-server
