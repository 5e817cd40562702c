#!/bin/sh
# blockdev-reopen of an empty list aborts.
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
    echo '{"execute": "blockdev-reopen", "arguments": {"options": []}}'
    echo '{"execute": "quit"}'
} | qemu-storage-daemon --chardev stdio,id=qmp --monitor chardev=qmp >out 2>&1 || status=$?
grep -h Assertion out || true
[ "$status" -lt 128 ] || say "the storage daemon died of signal $((status - 128))" 1
[ "$status" -eq 0 ] || say "it did not run: $(cat out)" 2
say "it answered" 0
