#!/bin/sh
# Starts coturn in the compose network. The secret comes from a file and goes into a file: a
# command line can be read by everybody on the machine.
set -eu
umask 077

# Of the whole world a client may have media sent to the containers' network only, which Docker
# takes from a /16 of its own, and to TURN_PEERS (addresses or ranges A-B, comma-separated).
address=$(hostname -i)
address=${address%% *}
network=${address%.*.*}
{
    echo "static-auth-secret=$(cat /run/secrets/turn_secret)"
    echo "relay-ip=$address"
    echo "allowed-peer-ip=$network.0.0-$network.255.255"
    echo "${TURN_PEERS:-}" | tr ',' '\n' | sed -n 's/^ *\([^ ]\{1,\}\) *$/allowed-peer-ip=\1/p'
    cat <<END
denied-peer-ip=0.0.0.0-255.255.255.255
denied-peer-ip=::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff
use-auth-secret
realm=rayrtc
listening-port=3478
user-quota=12
no-tcp-relay
no-multicast-peers
no-tls
no-dtls
no-cli
fingerprint
log-file=stdout
simple-log
pidfile=/tmp/turnserver.pid
userdb=/tmp/turndb
END
} >/tmp/turnserver.conf

exec turnserver -c /tmp/turnserver.conf
