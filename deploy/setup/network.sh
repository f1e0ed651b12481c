#!/bin/sh
# Makes sure that there is what the tests of networks need: a TURN server, iptables and iproute2.
# Those tests make network namespaces, so they run as root on Linux only and are skipped elsewhere.
set -eu
PATH=$PATH:/usr/sbin:/sbin
missing=
for pair in turnserver:coturn iptables:iptables ip:iproute2; do
    if ! command -v "${pair%:*}" >/dev/null; then
        missing="$missing ${pair#*:}"
    fi
done
if [ -z "$missing" ]; then
    exit 0
fi
if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
    echo "    installing$missing"
    apt-get update -qq
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
    # The package starts a server of this machine, which the tests have no use for.
    case $missing in
    *coturn*) if [ -d /run/systemd/system ]; then systemctl disable --quiet --now coturn; fi ;;
    esac
    exit 0
fi
echo "    the tests of networks are skipped. They need root on Linux, and here are missing:$missing"
