#!/bin/sh
# A freed cluster is written by its next owner before it is on disk that the last one has none.
#
# Exit status: 1 the fault shows, 0 it does not, 2 this can not be told. QEMU_DIR: where QEMU's programs are, else the PATH.
set -eu
[ -z "${QEMU_DIR:-}" ] || PATH=$QEMU_DIR:$PATH
cd "$(mktemp -d)"
trap 'rm -rf "$PWD"' EXIT
say() { echo "$1"; exit "$2"; }

# Block 0 is on disk, flushed. It is discarded; a write elsewhere takes its cluster. The process is killed after that
# write's data is in the file, before its tables are: block 0 still maps to the cluster. It must read as 1, or as 0.
wrong=0
for layout in cluster_size=128k cluster_size=128k,extended_l2=on; do
    qemu-img create -q -f qcow2 -o "$layout" disk.qcow2 16M
    timeout 5 qemu-io -t writeback -d unmap -c "write -q -P 1 0 128k" -c "write -q -P 1 1M 128k" -c flush \
        -c "discard -q 0 128k" -c "break l2_update held" -c "aio_write -q -P 2 2M 128k" -c "wait_break held" \
        -c "sigraise 9" --image-opts driver=qcow2,discard=unmap,file.driver=blkdebug,file.image.driver=file,file.image.filename=disk.qcow2 \
        >out 2>&1 || true
    if ! qemu-io -f qcow2 -c "read -q -P 2 0 128k" disk.qcow2 | grep -q failed; then
        wrong=$((wrong + 1))
        echo "$layout: the discarded block reads as what was written to another one"
    fi
done
[ "$wrong" -eq 0 ] || say "$wrong of 2 layouts" 1
say "the block reads as it was, or as zeroes" 0
