#!/bin/sh
# Make the base images that docker/ names from Debian's packages, where no image registry is at hand.
#   sudo tests/docker/base_images.sh        (needs debootstrap and docker; 2 minutes, 300 MB)
# MIRROR: where to get Debian from (the default is debootstrap's own). PYTHON, NGINX: the images' names;
# an empty NGINX leaves that one out. ARCH: such as arm64, which needs qemu-user-static where it is not
# this machine's. They are not the public images: the same Python and a slightly older nginx, in the same places.
set -eu
python=${PYTHON:-python:3.11-slim-bookworm}
nginx=${NGINX-nginx:1.28-alpine}
arch=${ARCH:-$(dpkg --print-architecture)}
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT

# import TAG OPTION...: make an image of $root, without what only apt needs.
import() {
    tag=$1
    shift
    # The mirror and the resolver are those of this machine, not of the image.
    tar -C "$root" -c --exclude=./var/cache/apt/* --exclude=./var/lib/apt/lists/* \
        --exclude=./etc/apt/sources.list --exclude=./etc/resolv.conf --exclude=./usr/share/doc/* \
        --exclude=./usr/share/man/* --exclude=./usr/share/locale/* --exclude=./var/log/*.log --exclude=./var/log/apt \
        --exclude=./proc/* --exclude=./sys/* --exclude=./dev/* . |
        docker import "$@" - "$tag" >/dev/null
    docker image ls "$tag" --format '{{.Repository}}:{{.Tag}} {{.Size}}'
}

debootstrap --arch "$arch" --variant=minbase --include=python3,python3-venv,ca-certificates \
    bookworm "$root" ${MIRROR:+"$MIRROR"} >/dev/null
import "$python" --change 'CMD ["python3"]'
[ "$nginx" ] || exit 0

# Places and defaults as in the public image, which conf.d/default.conf and compose.yml count on.
chroot "$root" apt-get install -qq -y --no-install-recommends nginx-light >/dev/null 2>&1
mkdir -p "$root/var/cache/nginx"
cat >"$root/etc/nginx/nginx.conf" <<'END'
pid /run/nginx.pid;
error_log /dev/stderr notice;
events {}
http {
    access_log /dev/stdout;
    client_body_temp_path /var/cache/nginx/client_temp;
    proxy_temp_path /var/cache/nginx/proxy_temp;
    fastcgi_temp_path /var/cache/nginx/fastcgi_temp;
    uwsgi_temp_path /var/cache/nginx/uwsgi_temp;
    scgi_temp_path /var/cache/nginx/scgi_temp;
    include /etc/nginx/conf.d/*.conf;
}
END
import "$nginx" --change 'CMD ["nginx", "-g", "daemon off;"]'
