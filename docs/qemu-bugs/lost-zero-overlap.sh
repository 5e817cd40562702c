#!/bin/sh
# A zero request for whole clusters is lost, outside of what they share, beside a write that overlaps it.
#
# Exit status: 1 the fault shows, 0 it does not, 2 this can not be told. QEMU_DIR: where QEMU's programs are, else the PATH.
set -eu
[ -z "${QEMU_DIR:-}" ] || PATH=$QEMU_DIR:$PATH
cd "$(mktemp -d)"
trap 'rm -rf "$PWD"' EXIT
say() { echo "$1"; exit "$2"; }

# The base has data, the overlay has nothing. A write to the first 4 KiB of a cluster (with sub-clusters: 512 bytes) is held
# after it has read the rest from the base; then the whole cluster is zeroed. Of the first part either may win. The rest
# must read as zeroes, but the write goes on and puts what it had read there.
lost=0
for case in "cluster_size=64k 4096 61440" "cluster_size=128k,extended_l2=on 512 3584"; do
    # shellcheck disable=SC2086
    set -- $case
    rm -f base.qcow2 top.qcow2
    qemu-img create -q -f qcow2 -o "$1" base.qcow2 16M
    qemu-io -f qcow2 -c "write -q -P 1 0 128k" base.qcow2
    qemu-img create -q -f qcow2 -o "$1" -F qcow2 -b base.qcow2 top.qcow2 16M
    timeout 5 qemu-io -c "write -q 8M 128k" -c "break write_aio held" -c "aio_write -q -P 2 0 $2" \
        -c "wait_break held" -c "aio_write -q -z 0 128k" -c "sleep 100" -c "resume held" -c aio_flush \
        -c "read -q -P 0 $2 $3" --image-opts driver=qcow2,file.driver=blkdebug,file.image.driver=file,file.image.filename=top.qcow2 \
        >out 2>&1 || true
    if grep -q "verification failed" out; then
        lost=$((lost + 1))
        echo "$1: acknowledged zeroes read as the base's data"
    fi
done
[ "$lost" -eq 0 ] || say "$lost of 2 layouts" 1
say "the zeroes are there" 0
