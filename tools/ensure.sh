#!/usr/bin/env bash
# Print the path of a program that the tests start: the one that a variable names, one that is there, or a newly
# installed one. Usage: tools/ensure.sh beanstalkd|redis-server|postgres|pgbouncer|prometheus
set -euo pipefail

name=$1
version="" # what a reader has to look for
case $name in
beanstalkd) variable=BEANSTALKD package=beanstalkd formula=beanstalkd ;;
redis-server) variable=REDIS_SERVER package=redis-server formula=redis version=", from version 6.2" ;;
postgres) variable=POSTGRES package=postgresql formula=postgresql@17 version=", from version 14" ;;
pgbouncer) variable=PGBOUNCER package=pgbouncer formula=pgbouncer ;;
prometheus) variable=PROMETHEUS package=prometheus formula=prometheus ;;
*) echo "$0: $name is none of them" >&2 && exit 2 ;;
esac

# Debian and brew keep some of them outside PATH; the newest version counts.
elsewhere() {
    case $name in
    postgres)
        local folders="/usr/lib/postgresql/*/bin"
        command -v brew >/dev/null && folders="$folders $(brew --prefix)/opt/postgresql@*/bin"
        # shellcheck disable=SC2086  # the patterns are to be expanded
        ls -d $(printf "%s/postgres " $folders) 2>/dev/null | sort -V | tail -n 1
        ;;
    pgbouncer) ls /usr/sbin/pgbouncer 2>/dev/null ;;
    esac
}

found() {
    command -v "$name" || elsewhere || true
}

if [ -n "${!variable:-}" ]; then
    [ -x "${!variable}" ] || { echo "$variable=${!variable} is not a program" >&2; exit 1; }
    echo "${!variable}"
    exit
fi
if [ -z "$(found)" ]; then
    if command -v apt-get >/dev/null; then
        as_root=""
        [ "$(id -u)" -eq 0 ] || as_root="sudo -n"
        # The package would start a server for everybody, the tests start their own: RUNLEVEL=1 prevents it.
        install="env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends"
        { $as_root apt-get update -qq && $as_root $install "$package"; } >&2 || true
    elif command -v brew >/dev/null; then
        brew install --quiet "$formula" >&2 || true
    fi
fi
if [ -z "$(found)" ]; then
    echo "The tests need $name$version: install it (apt-get install $package, brew install $formula)," >&2
    echo "or name one with $variable=/path/to/$name." >&2
    exit 1
fi
found
