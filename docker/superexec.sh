#!/bin/sh
# Starts the server app of each run, apart from the SuperLink: a run survives when that is killed.
# SUPERLINK: host:port, a name in the certificate. KEYS: ca.crt and superexec.secret.
set -eu
exec flower-superexec \
    --runtime-api-address "$SUPERLINK" --root-certificates "$KEYS/ca.crt" \
    --superexec-auth-secret-file "$KEYS/superexec.secret"
