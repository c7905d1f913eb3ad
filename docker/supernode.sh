#!/bin/sh
# Starts a device. SUPERLINK: host:port of the server. KEYS: ca.crt and the private key, a file
# called NAME. DATA: the recordings. NODE_CONFIG: further node config, such as capacity=2.
set -eu
# A SuperNode reports little about a wrong clock or certificate, and nothing about missing speech.
ef-asr doctor --superlink "$SUPERLINK" --root-certificates "$KEYS/ca.crt" --data-path "$DATA" ||
    echo "starting anyway"
# Flower would use an app folder that a full disk left incomplete; the server sends it again.
rm -rf "${FLWR_HOME:-$HOME/.flwr}/apps"
exec flower-supernode \
    --superlink "$SUPERLINK" --root-certificates "$KEYS/ca.crt" \
    --auth-supernode-private-key "$KEYS/$NAME" --port "${PORT:-9094}" \
    --node-config "name=\"$NAME\" data-path=\"$DATA\" ${NODE_CONFIG:-}"
