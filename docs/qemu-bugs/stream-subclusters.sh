#!/bin/sh
# block-stream aborts on layers with sub-clusters.
#
# Exit status: 1 the fault shows, 0 it does not, 2 this can not be told. QEMU_DIR: where QEMU's programs are, else the PATH.
set -eu
[ -z "${QEMU_DIR:-}" ] || PATH=$QEMU_DIR:$PATH
cd "$(mktemp -d)"
trap 'rm -rf "$PWD"' EXIT
say() { echo "$1"; exit "$2"; }

layout="-f qcow2 -o extended_l2=on,cluster_size=128k"
# shellcheck disable=SC2086
{
    qemu-img create -q $layout base.qcow2 1M
    qemu-img create -q $layout -F qcow2 -b base.qcow2 lower.qcow2
    qemu-img create -q $layout -F qcow2 -b lower.qcow2 upper.qcow2
}
qemu-io -f qcow2 -c "write -q 64k 4k" lower.qcow2
qemu-io -f qcow2 -c "write -q 0 4k" upper.qcow2
node() { echo "driver=qcow2,node-name=$1,file.driver=file,file.filename=$1.qcow2,$2"; }
ulimit -c 0
status=0
{
    echo '{"execute": "qmp_capabilities"}'
    echo '{"execute": "block-stream", "arguments": {"job-id": "j", "device": "upper", "base-node": "base"}}'
    sleep 0.5
    echo '{"execute": "quit"}'
} | qemu-storage-daemon --blockdev "$(node base read-only=on,backing=)" --blockdev "$(node lower read-only=on,backing=base)" \
    --blockdev "$(node upper backing=lower)" --chardev stdio,id=qmp --monitor chardev=qmp >out 2>&1 || status=$?
grep -h Assertion out || true
[ "$status" -lt 128 ] || say "the storage daemon died of signal $((status - 128))" 1
[ "$status" -eq 0 ] || say "it did not run: $(cat out)" 2
grep -q JOB out || say "no job ran: $(cat out)" 2
say "the stream ended" 0
