#!/bin/sh
# Starts the server app of each run outside the SuperLink, so that a run survives its crash.
# SUPERLINK: host:port, with a name that the certificate holds. KEYS: ca.crt, superexec.secret.
set -eu
exec flower-superexec \
    --runtime-api-address "$SUPERLINK" --root-certificates "$KEYS/ca.crt" \
    --superexec-auth-secret-file "$KEYS/superexec.secret"
