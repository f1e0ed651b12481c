#!/bin/sh
# What the tests of the network need: `ip` and `iptables`. Without root, or elsewhere than on Linux,
# these tests are skipped and say so.
set -eu
if [ "$(uname)" != Linux ] || [ "$(id -u)" -ne 0 ]; then
    exit 0
fi
if command -v ip >/dev/null && command -v iptables >/dev/null; then
    exit 0
fi
if command -v apt-get >/dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends iproute2 iptables >/dev/null
fi
