#!/usr/bin/env bash
# Two devices at home, on one machine: keys, a server, two SuperNodes, one run over TLS.
#
#   docs/examples/two-devices.sh KITCHEN_SPEECH CAR_SPEECH
#
# KITCHEN_SPEECH, CAR_SPEECH: a folder of recordings with a metadata.jsonl for each device.
# ROUNDS (2) and FOLDER (a new temporary one) may be set. Afterwards FOLDER/run is the run folder.
# On real machines the same commands run on the server and on the devices: docs/devices.md.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
kitchen_speech=$(cd "$1" && pwd)
car_speech=$(cd "$2" && pwd)
folder=${FOLDER:-$(mktemp -d)}
mkdir -p "$folder/server" "$folder/kitchen" "$folder/car"

# Stay off the network (no telemetry, no second installation of torch); a thread for each program.
export FLWR_TELEMETRY_ENABLED=0 FLWR_DISABLE_UPDATE_CHECK=1
export FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION=1 OMP_NUM_THREADS=1

free_port() { python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

set -m # each program and what it starts are a process group
pids=()
stop() {
    kill -- "${pids[@]/#/-}" 2>/dev/null || true
    wait "${pids[@]}" 2>/dev/null || true
}
trap stop EXIT

# 1. Keys: an authority, the server's certificate, a key pair for each device.
ef-asr keys "$folder/keys" --name localhost --name 127.0.0.1 --device kitchen --device car

# 2. The server: a SuperLink, and a SuperExec that starts the server app of each run.
port=$(free_port)
export KEYS=$folder/keys SUPERLINK=127.0.0.1:$port
STATE=$folder/server FLWR_HOME=$folder/server HOST=127.0.0.1 PORT=$port \
    "$root/docker/superlink.sh" >"$folder/superlink.log" 2>&1 &
pids+=($!)
FLWR_HOME=$folder/server "$root/docker/superexec.sh" >"$folder/superexec.log" 2>&1 &
pids+=($!)
for _ in $(seq 120); do
    python -c "import socket; socket.create_connection(('127.0.0.1', $port), 1)" 2>/dev/null && break
    sleep 1
done

# 3. Tell the flwr command where the server is, and let both devices in.
export FLWR_HOME=$folder/server
cat >"$FLWR_HOME/config.toml" <<CONFIG
[superlink.home]
address = "127.0.0.1:$port"
root-certificates = "$KEYS/ca.crt"
CONFIG
flwr supernode register "$KEYS/kitchen.pub" home --name kitchen
flwr supernode register "$KEYS/car.pub" home --name car

# 4. The devices. The kitchen's can train one exit, the car's all three.
for device in kitchen car; do
    if [ "$device" = kitchen ]; then speech=$kitchen_speech capacity=1; else speech=$car_speech capacity=3; fi
    NAME=$device DATA=$speech NODE_CONFIG="capacity=$capacity" PORT=$(free_port) \
        FLWR_HOME=$folder/$device XDG_CACHE_HOME=$folder/$device/cache \
        "$root/docker/supernode.sh" >"$folder/$device.log" 2>&1 &
    pids+=($!)
done

# 5. A run. Without a test folder on the server, each device tests on speech that it holds out.
flwr run "$root" home --stream --run-config "data=\"audiofolder\" data-path=\"\" rounds=${ROUNDS:-2} \
min-nodes=2 min-train-nodes=2 fraction-train=1.0 output=\"$folder/run\""

echo "run folder: $folder/run"
