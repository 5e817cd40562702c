#!/bin/sh
# A block-stream that has ended without an error is not on disk, while the header already says so.
#
# Exit status: 1 the fault shows, 0 it does not, 2 this can not be told. QEMU_DIR: where QEMU's programs are, else the PATH.
set -eu
[ -z "${QEMU_DIR:-}" ] || PATH=$QEMU_DIR:$PATH
cd "$(mktemp -d)"
trap 'rm -rf "$PWD"' EXIT
say() { echo "$1"; exit "$2"; }

qemu-img create -q -f qcow2 base.qcow2 1M
qemu-io -f qcow2 -c "write -q -P 1 0 64k" base.qcow2
qemu-img create -q -f qcow2 -F qcow2 -b base.qcow2 top.qcow2
{
    echo '{"execute": "qmp_capabilities"}'
    echo '{"execute": "block-stream", "arguments": {"job-id": "j", "device": "top"}}'
    for _ in 1 2 3 4 5 6 7 8 9 10; do grep -q '"concluded"' out && break; sleep 0.1; done
    kill -9 "$(cat pid)"
} | qemu-storage-daemon --pidfile pid --blockdev driver=qcow2,node-name=top,file.driver=file,file.filename=top.qcow2 \
    --chardev stdio,id=qmp --monitor chardev=qmp >out 2>&1 || true
grep -q BLOCK_JOB_COMPLETED out || say "the stream did not end: $(cat out)" 2
if qemu-img info top.qcow2 | grep -q "^backing file"; then say "the header still names the base" 0; fi
if qemu-io -f qcow2 -c "read -q -P 1 0 64k" top.qcow2 | grep -q failed; then
    say "the job was completed, the header names no base any more, and the data is not there" 1
fi
say "the data is there" 0
