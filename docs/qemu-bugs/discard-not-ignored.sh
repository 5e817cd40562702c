#!/bin/sh
# "discard": "ignore" on a node is not heeded for zero requests of an export or device directly on it.
#
# Exit status: 1 the fault shows, 0 it does not, 2 this can not be told. QEMU_DIR: where QEMU's programs are, else the PATH.
set -eu
[ -z "${QEMU_DIR:-}" ] || PATH=$QEMU_DIR:$PATH
cd "$(mktemp -d)"
trap 'rm -rf "$PWD"' EXIT
say() { echo "$1"; exit "$2"; }

qemu-img create -q -f qcow2 -o cluster_size=64k disk.qcow2 1M
qemu-io -c "write -q -P 1 0 64k" -c "write -q -z -u 0 64k" -c flush \
    --image-opts driver=qcow2,discard=ignore,file.driver=file,file.filename=disk.qcow2
# With its space kept the cluster has a place in the file.
if qemu-img map -f qcow2 --output=json disk.qcow2 | grep -q offset; then say "the cluster was kept" 0; fi
say "the cluster was freed" 1
