# Unpacks packages of bookworm-backports below var, beside what the machine has. To be sourced by the scripts that fetch
# something: `begin NAME` sets $target and $work, `unpack PACKAGE...` fills $work/tree, `finish` puts it in its place.
# Nothing is installed and /etc/apt is not changed. For Debian 12; needs the network, apt-get and dpkg-deb.

say() { echo "${0##*/}: $*" >&2; exit 1; }

begin() {
    root=$(cd "$(dirname "$0")/../.." && pwd)
    target=$root/var/$1
    work=$root/var/$1.tmp
}

# An empty status file makes apt fetch every library, whatever the machine has.
apt() {
    apt-get -q -y \
        -o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts=/dev/null \
        -o Dir::Etc::Preferences="$work/preferences" -o Dir::Etc::PreferencesParts=/dev/null \
        -o Dir::State="$work" -o Dir::State::Lists="$work/lists" -o Dir::State::Status="$work/status" \
        -o Dir::Cache="$work" -o Dir::Cache::Archives="$work/archives" -o Dir::Log="$work/log" \
        -o APT::Sandbox::User= -o APT::Install-Recommends=false -o Debug::NoLocking=true \
        "$@" >"$work/apt.log" 2>&1 || { tail -n 5 "$work/apt.log" >&2; say "apt-get failed; is $archive reachable?"; }
}

unpack() {
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || say "this is no Debian: apt-get or dpkg-deb is missing"
    keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    [ -r "$keyring" ] || say "$keyring is missing: install debian-archive-keyring"
    release=$(. /etc/os-release && echo "${VERSION_CODENAME:-unknown}")
    [ "$release" = bookworm ] || say "this is $release; the packages are for Debian 12 (bookworm)"
    # The archive that this machine takes its own packages from has the backports beside them.
    archive=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Codename: bookworm' | head -n 1)
    [ -n "$archive" ] || say "apt knows no archive of bookworm: run apt-get update"

    rm -rf "$work" "$target"
    mkdir -p "$work/lists/partial" "$work/archives/partial" "$work/log" "$work/tree"
    : >"$work/status"
    : >"$work/preferences"
    for suite in bookworm bookworm-updates bookworm-backports; do
        echo "deb [signed-by=$keyring] $archive $suite main"
    done >"$work/sources.list"
    apt update
    apt install --download-only -t bookworm-backports "$@"
    for package in "$work"/archives/*.deb; do
        case ${package##*/} in
            libc6_* | libc-bin_*) continue ;; # the machine's own, which its loader belongs to
        esac
        dpkg-deb -x "$package" "$work/tree" || say "cannot unpack ${package##*/}"
    done
}

finish() {
    mv "$work/tree" "$target"
    rm -rf "$work"
}
