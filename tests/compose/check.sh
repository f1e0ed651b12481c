#!/bin/sh
# Proves docker-compose.yml under a real Docker engine (check.py says how). On Debian as root it
# installs what it needs; with DOCKER_HOST set it takes that engine and needs no root.
set -eu
cd "$(dirname "$0")/../.."

if [ -z "${DOCKER_HOST:-}" ]; then
    if [ "$(id -u)" -ne 0 ]; then
        echo 'Run it as root, or set DOCKER_HOST to an engine that is yours.' >&2
        exit 1
    fi
    packages=
    for pair in dockerd:docker.io docker-compose:docker-compose debootstrap:debootstrap \
        iptables:iptables ip:iproute2; do
        command -v "${pair%%:*}" >/dev/null || packages="$packages ${pair#*:}"
    done
    if [ -n "$packages" ]; then
        apt-get update -qq
        # An engine that the package starts by itself would be in the way.
        # shellcheck disable=SC2086 # a list of words
        RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages
    fi
fi

make --no-print-directory install
exec .venv/bin/python -m tests.compose.check
