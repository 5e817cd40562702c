#!/bin/sh
# Puts QEMU's storage daemon and tools of bookworm-backports (10.0) into var/qemu-10, beside what the machine has, so
# that the tests run on both. Nothing is installed and /etc/apt is neither read nor changed. For Debian 12 on any
# architecture; needs the network, apt-get and dpkg-deb. Finished work is kept: a second run does nothing.
set -eu

say() { echo "fetch_qemu10: $*" >&2; exit 1; }

root=$(cd "$(dirname "$0")/../.." && pwd)
target=$root/var/qemu-10
work=$root/var/qemu-10.tmp
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

if [ -x "$target/usr/bin/qemu-storage-daemon" ] && "$target/usr/bin/qemu-storage-daemon" --version >/dev/null; then
    exit 0
fi
command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || say "this is no Debian: apt-get or dpkg-deb is missing"
[ -r "$keyring" ] || say "$keyring is missing: install debian-archive-keyring"
version_codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-unknown}")
[ "$version_codename" = bookworm ] || say "this is $version_codename; the packages are for Debian 12 (bookworm)"

rm -rf "$work" "$target"
mkdir -p "$work/lists/partial" "$work/archives/partial" "$work/log" "$work/tree"
: >"$work/status"
: >"$work/preferences"
for suite in bookworm bookworm-updates bookworm-backports; do
    echo "deb [signed-by=$keyring] $mirror $suite main"
done >"$work/sources.list"

# An empty status file makes apt fetch every library the tools need, whatever the machine has.
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
apt install --download-only -t bookworm-backports qemu-utils

for package in "$work"/archives/*.deb; do
    case ${package##*/} in
        libc6_* | libc-bin_*) continue ;; # the machine's own, which its loader belongs to
    esac
    dpkg-deb -x "$package" "$work/tree" || say "cannot unpack ${package##*/}"
done

triplet=$(basename "$(dirname "$(find "$work/tree/usr/lib" -name 'liburing.so.2' | head -n 1)")")
bin=$work/tree/usr/bin
mkdir -p "$bin/.real"
for program in qemu-storage-daemon qemu-img qemu-io qemu-nbd; do
    [ -x "$bin/$program" ] || say "qemu-utils of bookworm-backports has no $program"
    mv "$bin/$program" "$bin/.real/$program"
    cat >"$bin/$program" <<EOF
#!/bin/sh
tree=\$(cd "\${0%/*}/../.." && pwd)
export LD_LIBRARY_PATH="\$tree/usr/lib/$triplet:\$tree/lib/$triplet"
exec "\$tree/usr/bin/.real/$program" "\$@"
EOF
    chmod 755 "$bin/$program"
done
"$bin/qemu-storage-daemon" --version >/dev/null || say "the unpacked storage daemon does not start"
mv "$work/tree" "$target"
rm -rf "$work"
"$target/usr/bin/qemu-storage-daemon" --version
