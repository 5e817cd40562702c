#!/bin/sh
# Puts libvirt 11.3 and QEMU 10.0 of bookworm-backports into var/libvirt-11, so that the tests with real guests run on
# both: NBD disks that wait for a lost server need libvirt 9.2, Debian 12 has 9.0. Finished work is kept: a second run
# does nothing.
set -eu
. "$(dirname "$0")/backports.sh"
begin libvirt-11

if [ -x "$target/usr/sbin/libvirtd" ] && [ -n "$(find "$target/usr/lib" -name libvirt_driver_secret.so)" ]; then
    exit 0
fi
# QEMU loads its modules of display and audio from the machine's own, of another release, where its own are missing.
unpack libvirt-daemon libvirt-daemon-driver-qemu libvirt-daemon-driver-secret qemu-system-x86 \
    qemu-system-modules-spice qemu-system-modules-opengl qemu-system-gui qemu-block-extra

# libvirt starts QEMU with few of its own variables, so the program is told where its things are by itself.
libraries=$(dirname "$(find "$work/tree/usr/lib" -path '*/libvirt/connection-driver' | head -n 1)")
triplet=$(basename "$(dirname "$libraries")")
program=$work/tree/usr/bin/qemu-system-x86_64
rm -f "$work/tree/usr/bin/qemu-system-i386"
mv "$program" "$program.real"
cat >"$program" <<WRAPPER
#!/bin/sh
tree=\$(cd "\${0%/*}/../.." && pwd)
export LD_LIBRARY_PATH="\$tree/usr/lib/$triplet:\$tree/lib/$triplet"
export QEMU_MODULE_DIR="\$tree/usr/lib/$triplet/qemu"
exec "\$0.real" -L "\$tree/usr/share/seabios" -L "\$tree/usr/share/qemu" "\$@"
WRAPPER
chmod 755 "$program"
"$program" --version >/dev/null || say "the unpacked QEMU does not start"
finish
"$target/usr/bin/qemu-system-x86_64" --version
