#!/bin/sh
# Install or upgrade a device on Debian, Raspberry Pi OS or Ubuntu, from a checkout:
#   sudo docker/systemd/install.sh SERVER:PORT NAME SPEECH KEYS
# SPEECH is the folder of recordings, KEYS a folder with ca.crt and this device's key, a file called
# NAME. Variables: NODE_CONFIG, such as capacity=2, and TORCH, as in the Dockerfile.
set -eu
if [ $# != 4 ]; then
    sed -n '2,5s/^# //p' "$0"
    exit 2
fi
root=$(cd "$(dirname "$0")/../.." && pwd)
for wanted in "$3/." "$4/ca.crt" "$4/$2"; do
    if [ ! -e "$wanted" ]; then
        echo "install: found no $wanted" >&2
        exit 1
    fi
done
speech=$(cd "$3" && pwd)

apt-get install -y python3-venv
[ -x /opt/ef-asr/bin/uv ] || { python3 -m venv /opt/ef-asr && /opt/ef-asr/bin/pip install uv; }
# The service may not write there, and each message starts a process: compile all modules now.
cd "$root"
# shellcheck disable=SC2086  # TORCH is several words
/opt/ef-asr/bin/uv pip install --python /opt/ef-asr/bin/python --compile-bytecode \
    --overrides docker/without-ray.txt ${TORCH:---torch-backend cpu} .
install -m 755 docker/*.sh /opt/ef-asr/bin/

id ef-asr >/dev/null 2>&1 || useradd --system --groups video ef-asr
install -D -o ef-asr -m 400 -t /etc/ef-asr/keys "$4/ca.crt" "$4/$2"
cat >/etc/ef-asr/supernode.env <<END
SUPERLINK=$1
NAME=$2
DATA=$speech
NODE_CONFIG=${NODE_CONFIG:-}
END
install -m 644 docker/systemd/ef-asr-supernode.service /etc/systemd/system/
systemctl daemon-reload
systemctl enable ef-asr-supernode
systemctl restart ef-asr-supernode
echo "installed; what it does: journalctl -fu ef-asr-supernode"
