#!/bin/sh
# A zero request for a part of a cluster frees the cluster under a write to its other part.
#
# Exit status: 1 the fault shows, 0 it does not, 2 this can not be told. QEMU_DIR: where QEMU's programs are, else the PATH.
set -eu
[ -z "${QEMU_DIR:-}" ] || PATH=$QEMU_DIR:$PATH
cd "$(mktemp -d)"
trap 'rm -rf "$PWD"' EXIT
say() { echo "$1"; exit "$2"; }

# Every cluster is written, then zeroed with its space kept: it reads as zeroes and still has its place in the file.
# Then its first 4 KiB are written and the other 60 KiB are zeroed, both in flight. The requests overlap nowhere.
qemu-img create -q -f qcow2 -o cluster_size=64k disk.qcow2 16M
set --
for i in $(seq 0 15); do set -- "$@" -c "write -q -P 1 $((i * 64))k 64k" -c "write -q -z $((i * 64))k 64k"; done
for i in $(seq 0 15); do
    set -- "$@" -c "aio_write -q -P 2 $((i * 64))k 4k" -c "aio_write -q -z -u $((i * 64 + 4))k 60k"
done
set -- "$@" -c aio_flush -c flush -c "write -q -P 3 8M 1M"
for i in $(seq 0 15); do set -- "$@" -c "read -q -P 2 $((i * 64))k 4k"; done
wrong=$(qemu-io -f qcow2 -d unmap "$@" disk.qcow2 2>&1 | grep -c "verification failed" || true)
[ "$wrong" -eq 0 ] || qemu-img check disk.qcow2 2>&1 | tail -n 1
[ "$wrong" -eq 0 ] || say "$wrong of 16 acknowledged writes are gone" 1
say "all 16 writes are there" 0
