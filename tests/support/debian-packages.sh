#!/bin/sh
# Installs the Debian packages that the tests need and that are missing, and those named as arguments, and starts or enables
# none of their services.
# Does nothing, and needs no root, when all are there. systemd's checker of units is unpacked below var where it is missing.
set -eu

.venv/bin/python -m tests.support.systemd

packages="fio libnbd-bin postgresql python3-libnbd qemu-system-common qemu-utils $*"

missing=""
for package in $packages; do
    state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$state" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ]; then
    echo "these Debian packages are missing and installing them needs root:$missing" >&2
    exit 1
fi

# The all-in-one's own way of installing keeps services from being started and enabled.
exec .venv/bin/python -m openvstorage.aio.packages $missing
