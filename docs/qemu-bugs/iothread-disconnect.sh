#!/bin/sh
# An NBD export in an iothread aborts at the first disconnect.
#
# Exit status: 1 the fault shows, 0 it does not, 2 this can not be told. QEMU_DIR: where QEMU's programs are, else the PATH.
set -eu
[ -z "${QEMU_DIR:-}" ] || PATH=$QEMU_DIR:$PATH
cd "$(mktemp -d)"
trap 'rm -rf "$PWD"' EXIT
say() { echo "$1"; exit "$2"; }

ulimit -c 0
status=0
{
    echo '{"execute": "qmp_capabilities"}'
    for _ in 1 2 3 4 5 6 7 8 9 10; do [ -S nbd ] && break; sleep 0.1; done
    for _ in 1 2 3; do qemu-img info "nbd+unix:///e?socket=$PWD/nbd" >/dev/null 2>&1 </dev/null || true; done
    echo '{"execute": "quit"}'
} | qemu-storage-daemon --object iothread,id=io --blockdev driver=null-co,node-name=null,size=1048576 \
    --nbd-server addr.type=unix,addr.path=nbd --export type=nbd,id=e,node-name=null,name=e,iothread=io \
    --chardev stdio,id=qmp --monitor chardev=qmp >out 2>&1 || status=$?
grep -h Assertion out || true
[ "$status" -lt 128 ] || say "the storage daemon died of signal $((status - 128))" 1
[ "$status" -eq 0 ] || say "it did not run: $(cat out)" 2
say "three clients came and went" 0
