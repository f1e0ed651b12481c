#!/bin/sh
# Starts coturn in the compose network. The secret comes from a file and goes into a file: a
# command line can be read by everybody on the machine.
set -eu
umask 077

# The networks that this container is in, each as a range. Its first address is the machine itself.
# In /proc addresses are hexadecimal, the last byte first.
networks() {
    while read -r _ network gateway _ _ _ _ mask _; do
        [ "$gateway" = 00000000 ] || continue
        first='' last='' at=7
        while [ "$at" -gt 0 ]; do
            byte=$((0x$(echo "$network" | cut -c "$at-$((at + 1))")))
            open=$((255 - 0x$(echo "$mask" | cut -c "$at-$((at + 1))")))
            first=$first$byte. last=$last$((byte + open)).
            at=$((at - 2))
        done
        first=${first%.} last=${last%.}
        echo "${first%.*}.$((${first##*.} + 2))-$last"
    done </proc/net/route
}

address=$(hostname -i)
{
    echo "relay-ip=${address%% *}"
    echo "static-auth-secret=$(cat /run/secrets/turn_secret)"
    # Of the whole world a client may have media sent to the containers alone, and to TURN_PEERS
    # (addresses or ranges A-B, comma-separated).
    for peers in $(networks) $(echo "${TURN_PEERS:-}" | tr ',' ' '); do
        echo "allowed-peer-ip=$peers"
    done
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
