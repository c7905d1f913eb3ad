#!/bin/sh
# Starts the SuperLink with TLS, node authentication, and a database that survives a crash.
# KEYS: ca.crt, server.pem, server.key, superexec.secret (from ef-asr keys). STATE: the database.
set -eu
exec flower-superlink \
    --host "${HOST:-0.0.0.0}" --port "${PORT:-8000}" \
    --ssl-certfile "$KEYS/server.pem" --ssl-keyfile "$KEYS/server.key" \
    --ssl-ca-certfile "$KEYS/ca.crt" \
    --enable-supernode-auth \
    --database "$STATE/superlink.db" \
    --isolation process --superexec-auth-secret-file "$KEYS/superexec.secret" \
    --disable-runtime-dependency-installation
