#!/bin/sh
# A device. SUPERLINK: host:port of the server. KEYS: ca.crt, and this device's private key as NAME.
# DATA: its recordings. NODE_CONFIG: what else it says of itself, such as capacity=2.
set -eu
# A SuperNode says little about a wrong clock or certificate, and nothing about missing speech.
ef-asr doctor --superlink "$SUPERLINK" --root-certificates "$KEYS/ca.crt" --data-path "$DATA" ||
    echo "starting all the same"
# Flower takes an app's folder for whole, also one that a full disk tore; the server sends it again.
rm -rf "${FLWR_HOME:-$HOME/.flwr}/apps"
exec flower-supernode \
    --superlink "$SUPERLINK" --root-certificates "$KEYS/ca.crt" \
    --auth-supernode-private-key "$KEYS/$NAME" --port "${PORT:-9094}" \
    --node-config "name=\"$NAME\" data-path=\"$DATA\" ${NODE_CONFIG:-}"
