#!/bin/sh
# The repair of an image with lazy_refcounts puts its table of counts over a block's place that lay behind the end of the file.
#
# Exit status: 1 the fault shows, 0 it does not, 2 this can not be told. QEMU_DIR: where QEMU's programs are, else the PATH.
set -eu
[ -z "${QEMU_DIR:-}" ] || PATH=$QEMU_DIR:$PATH
cd "$(mktemp -d)"
trap 'rm -rf "$PWD"' EXIT
say() { echo "$1"; exit "$2"; }

ulimit -c 0
qemu-img create -q -f qcow2 -o lazy_refcounts=on,cluster_size=64k image 16M
qemu-io -f qcow2 -c "write -q -P 1 0 64k" -c "write -q -P 2 1M 64k" -c flush -c abort image >out 2>&1 || true
# As after a power cut in which the mapping of the second block reached the disk and the new length of the file did not:
# QEMU sends the mapping without having flushed the file.
truncate -s -65536 image || say "it did not run: $(cat out)" 2
# The first opening repairs.
read=$(qemu-io -f qcow2 -c "read -P 0 1M 64k" image 2>&1) || true
status=0
qemu-img check -q -f qcow2 image >out 2>&1 || status=$?
case $read in
*"verification failed"*) say "a block reads the table of counts; check: $(tr '\n' ';' <out)" 1 ;;
esac
[ "$status" -eq 0 ] || say "the repaired image is damaged: $(tr '\n' ';' <out)" 1
say "the block reads as zeroes, the image is whole" 0
