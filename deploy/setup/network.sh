#!/bin/sh
# What the tests of the network need beside Python: `ip`, `iptables` and a TURN server. Without root,
# or elsewhere than on Linux, these tests are skipped and say so.
set -eu
if [ "$(uname)" != Linux ] || [ "$(id -u)" -ne 0 ]; then
    exit 0
fi
missing=
command -v ip >/dev/null || missing="$missing iproute2"
command -v iptables >/dev/null || missing="$missing iptables"
command -v turnserver >/dev/null || missing="$missing coturn"
if [ -n "$missing" ] && command -v apt-get >/dev/null; then
    echo "    installing$missing"
    apt-get update -qq
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
fi
