#!/bin/sh
# A zero request is lost beside a write to another part of a cluster that the overlay does not have yet.
#
# Exit status: 1 the fault shows, 0 it does not, 2 this can not be told. QEMU_DIR: where QEMU's programs are, else the PATH.
set -eu
[ -z "${QEMU_DIR:-}" ] || PATH=$QEMU_DIR:$PATH
cd "$(mktemp -d)"
trap 'rm -rf "$PWD"' EXIT
say() { echo "$1"; exit "$2"; }

# The base has data at 4 KiB. The overlay, with coarser clusters, has nothing. A write to its first 4 KiB is held after
# it has read the rest of its cluster from the base; then that rest is zeroed. The zeroes are acknowledged, then the
# write goes on and puts what it had read in their place.
lost=0
for case in "cluster_size=64k 4096 61440" "cluster_size=128k,extended_l2=on 512 3584"; do
    # shellcheck disable=SC2086
    set -- $case
    rm -f base.qcow2 top.qcow2
    qemu-img create -q -f qcow2 -o cluster_size=512 base.qcow2 1M
    qemu-io -f qcow2 -c "write -q -P 1 $2 $3" base.qcow2
    qemu-img create -q -f qcow2 -o "$1" -F qcow2 -b base.qcow2 top.qcow2 16M
    timeout 5 qemu-io -c "write -q 8M 128k" -c "break write_aio held" -c "aio_write -q -P 2 0 $2" \
        -c "wait_break held" -c "aio_write -q -z $2 $3" -c "sleep 100" -c "resume held" -c aio_flush \
        -c "read -q -P 0 $2 $3" --image-opts driver=qcow2,file.driver=blkdebug,file.image.driver=file,file.image.filename=top.qcow2 \
        >out 2>&1 || true
    if grep -q "verification failed" out; then
        lost=$((lost + 1))
        echo "$1: acknowledged zeroes read as the base's data"
    fi
done
[ "$lost" -eq 0 ] || say "$lost of 2 layouts" 1
say "the zeroes are there" 0
