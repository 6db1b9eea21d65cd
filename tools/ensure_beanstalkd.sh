#!/usr/bin/env bash
# Print the path of a beanstalkd: $BEANSTALKD, the one on PATH, or a newly installed one.
set -euo pipefail

if [ -n "${BEANSTALKD:-}" ]; then
    [ -x "$BEANSTALKD" ] || { echo "BEANSTALKD=$BEANSTALKD is not a program" >&2; exit 1; }
    echo "$BEANSTALKD"
    exit
fi
if ! command -v beanstalkd >/dev/null; then
    if command -v apt-get >/dev/null; then
        as_root=""
        [ "$(id -u)" -eq 0 ] || as_root="sudo -n"
        { $as_root apt-get update -qq && DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq beanstalkd; } >&2 || true
    elif command -v brew >/dev/null; then
        brew install --quiet beanstalkd >&2 || true
    fi
fi
if ! command -v beanstalkd >/dev/null; then
    echo "The tests need beanstalkd: install it (apt-get install beanstalkd, brew install beanstalkd)," >&2
    echo "or name one with BEANSTALKD=/path/to/beanstalkd." >&2
    exit 1
fi
command -v beanstalkd
