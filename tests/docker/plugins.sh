#!/bin/sh
# Put Docker Compose 2 and buildx of Debian 13 where docker looks for them, on a Debian 12 that has an
# older Compose or none: tests/docker/plugins.sh        (26 MB; nothing is installed)
set -eu
apt=$(mktemp -d)
trap 'rm -rf "$apt"' EXIT
mkdir -p "$apt/lists/partial" "$apt/sources" ~/.docker/cli-plugins
# This machine's own sources of Debian's packages, of the next version.
cat /etc/apt/sources.list /etc/apt/sources.list.d/debian.sources 2>/dev/null |
    sed 's/bookworm/trixie/g' >"$apt/sources/trixie.sources"
set -- -qq -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$apt/sources" \
    -o Dir::State::Lists="$apt/lists" -o Dir::Cache="$apt" -o APT::Sandbox::User=root
apt-get "$@" update
cd "$apt"
apt-get "$@" download docker-compose docker-buildx
for package in ./*.deb; do dpkg -x "$package" root; done
cp root/usr/libexec/docker/cli-plugins/* ~/.docker/cli-plugins/
docker compose version
docker buildx version
