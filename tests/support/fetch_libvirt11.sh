#!/bin/sh
# Puts libvirt 11.3 and QEMU 10.0 of bookworm-backports into var/libvirt-11, beside what the machine has, so that the
# tests with real guests run on both: NBD disks that wait for a lost server need libvirt 9.2, Debian 12 has 9.0. Nothing
# is installed and /etc/apt is neither read nor changed. For Debian 12; needs the network, apt-get and dpkg-deb. Finished
# work is kept: a second run does nothing.
set -eu

say() { echo "fetch_libvirt11: $*" >&2; exit 1; }

root=$(cd "$(dirname "$0")/../.." && pwd)
target=$root/var/libvirt-11
work=$root/var/libvirt-11.tmp
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

[ ! -x "$target/usr/sbin/libvirtd" ] || exit 0
[ -r "$keyring" ] || say "$keyring is missing: install debian-archive-keyring"
release=$(. /etc/os-release && echo "${VERSION_CODENAME:-unknown}")
[ "$release" = bookworm ] || say "this is $release; the packages are for Debian 12 (bookworm)"

rm -rf "$work" "$target"
mkdir -p "$work/lists/partial" "$work/archives/partial" "$work/log" "$work/tree"
: >"$work/status"
: >"$work/preferences"
for suite in bookworm bookworm-updates bookworm-backports; do
    echo "deb [signed-by=$keyring] $mirror $suite main"
done >"$work/sources.list"

# An empty status file makes apt fetch every library, whatever the machine has.
apt() {
    apt-get -q -y \
        -o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts=/dev/null \
        -o Dir::Etc::Preferences="$work/preferences" -o Dir::Etc::PreferencesParts=/dev/null \
        -o Dir::State="$work" -o Dir::State::Lists="$work/lists" -o Dir::State::Status="$work/status" \
        -o Dir::Cache="$work" -o Dir::Cache::Archives="$work/archives" -o Dir::Log="$work/log" \
        -o APT::Sandbox::User= -o APT::Install-Recommends=false -o Debug::NoLocking=true \
        "$@" >"$work/apt.log" 2>&1 || { tail -n 5 "$work/apt.log" >&2; say "apt-get failed; is $mirror reachable?"; }
}
apt update
# QEMU loads its modules of display and audio from the machine's own, of another release, where its own are missing.
apt install --download-only -t bookworm-backports libvirt-daemon libvirt-daemon-driver-qemu qemu-system-x86 \
    qemu-system-modules-spice qemu-system-modules-opengl qemu-system-gui qemu-block-extra

for package in "$work"/archives/*.deb; do
    case ${package##*/} in
        libc6_* | libc-bin_*) continue ;; # the machine's own, which its loader belongs to
    esac
    dpkg-deb -x "$package" "$work/tree" || say "cannot unpack ${package##*/}"
done

# libvirt starts QEMU with few of its own variables, so the program is told where its things are by itself.
libraries=$(dirname "$(find "$work/tree/usr/lib" -path '*/libvirt/connection-driver' | head -n 1)")
triplet=$(basename "$(dirname "$libraries")")
program=$work/tree/usr/bin/qemu-system-x86_64
rm -f "$work/tree/usr/bin/qemu-system-i386"
mv "$program" "$program.real"
cat >"$program" <<EOF
#!/bin/sh
tree=\$(cd "\${0%/*}/../.." && pwd)
export LD_LIBRARY_PATH="\$tree/usr/lib/$triplet:\$tree/lib/$triplet"
export QEMU_MODULE_DIR="\$tree/usr/lib/$triplet/qemu"
exec "\$0.real" -L "\$tree/usr/share/seabios" -L "\$tree/usr/share/qemu" "\$@"
EOF
chmod 755 "$program"
"$program" --version >/dev/null || say "the unpacked QEMU does not start"
mv "$work/tree" "$target"
rm -rf "$work"
"$target/usr/bin/qemu-system-x86_64" --version
