#!/bin/sh
# Puts QEMU's storage daemon and tools of bookworm-backports (10.0) into var/qemu-10, so that the tests run on both.
# Finished work is kept: a second run does nothing.
set -eu
. "$(dirname "$0")/backports.sh"
begin qemu-10

if [ -x "$target/usr/bin/qemu-storage-daemon" ] && "$target/usr/bin/qemu-storage-daemon" --version >/dev/null; then
    exit 0
fi
unpack qemu-utils

triplet=$(basename "$(dirname "$(find "$work/tree/usr/lib" -name 'liburing.so.2' | head -n 1)")")
bin=$work/tree/usr/bin
mkdir -p "$bin/.real"
for program in qemu-storage-daemon qemu-img qemu-io qemu-nbd; do
    [ -x "$bin/$program" ] || say "qemu-utils of bookworm-backports has no $program"
    mv "$bin/$program" "$bin/.real/$program"
    cat >"$bin/$program" <<WRAPPER
#!/bin/sh
tree=\$(cd "\${0%/*}/../.." && pwd)
export LD_LIBRARY_PATH="\$tree/usr/lib/$triplet:\$tree/lib/$triplet"
exec "\$tree/usr/bin/.real/$program" "\$@"
WRAPPER
    chmod 755 "$bin/$program"
done
"$bin/qemu-storage-daemon" --version >/dev/null || say "the unpacked storage daemon does not start"
finish
"$target/usr/bin/qemu-storage-daemon" --version
