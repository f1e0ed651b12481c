#!/bin/sh
# Makes sure that there is `promtool`, which the tests of the alerts need. They are skipped without.
set -eu
if command -v promtool >/dev/null; then
    exit 0
fi
if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
    echo "    installing prometheus"
    apt-get update -qq
    # RUNLEVEL keeps the package from starting a server of this machine, which nobody here needs.
    RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        prometheus >/dev/null
    exit 0
fi
echo "    the tests of the alerts are skipped: promtool is missing (Debian: prometheus)"
