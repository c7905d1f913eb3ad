#!/bin/sh
# The server: TLS, node authentication, and a state that outlives a crash of its process.
# KEYS: ca.crt, server.pem, server.key and superexec.secret (ef-asr keys). STATE: its database.
set -eu
exec flower-superlink \
    --host "${HOST:-0.0.0.0}" --port "${PORT:-8000}" \
    --ssl-certfile "$KEYS/server.pem" --ssl-keyfile "$KEYS/server.key" \
    --ssl-ca-certfile "$KEYS/ca.crt" \
    --enable-supernode-auth \
    --database "$STATE/superlink.db" \
    --isolation process --superexec-auth-secret-file "$KEYS/superexec.secret" \
    --disable-runtime-dependency-installation
