"""A guest with Linux that uses file systems: it makes, fills, trims and compares them, and zeroes beside its writes.

Debian's cloud kernel with an initramfs of busybox and of this machine's own mkfs, fstrim and blkdiscard; nothing is
installed in the guest, and what it has to say it says on its serial console. It is started by QEMU itself.
"""

from __future__ import annotations

import gzip
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from openvstorage.aio import packages
from openvstorage.aio.command import run

__all__ = ["DONE", "WRONG", "boot", "make", "missing"]

#: The last line of a guest that has come to its end.
DONE = "GUEST DONE"
#: The start of a line that tells of something wrong.
WRONG = "GUEST WRONG"

_BUSYBOX = Path("/bin/busybox")
_EMULATOR = "qemu-system-x86_64"
_PROGRAMS = ("mkfs.ext4", "mkfs.xfs", "fstrim", "blkdiscard")
_PACKAGES = "busybox-static cpio e2fsprogs qemu-system-x86 util-linux xfsprogs"
# In the order in which they must be loaded. Some are built into the kernel, which ones differs between releases.
_MODULES = (
    "drivers/virtio/virtio_ring.ko",
    "drivers/virtio/virtio.ko",
    "drivers/virtio/virtio_pci_legacy_dev.ko",
    "drivers/virtio/virtio_pci_modern_dev.ko",
    "drivers/virtio/virtio_pci.ko",
    "drivers/block/virtio_blk.ko",
    "drivers/block/loop.ko",
    "crypto/crc32c_generic.ko",
    "lib/libcrc32c.ko",
    "lib/crc16.ko",
    "fs/mbcache.ko",
    "fs/jbd2/jbd2.ko",
    "fs/ext4/ext4.ko",
    "fs/xfs/xfs.ko",
)

# busybox has a fstrim and a blkdiscard of its own, which its shell prefers to any but a full path.
# Disks: vda for ext4, vdb for xfs, vdc for zeroes beside writes, vdd for file systems that are made where others were.
_INIT = f"""#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for module in $(cat /modules.order); do insmod /modules/$module; done
rounds=$(sed 's/.*rounds=\\([0-9]*\\).*/\\1/' /proc/cmdline)
wrong() {{ echo "{WRONG} $*"; }}
# content NAME SIZE: what a file of that name holds
content() {{ yes "this is $1" | head -c $2; }}

files() {{ # files KIND DISK MKFS...: many files, some of them removed again, beside a trim that runs all the time
  kind=$1 disk=$2; shift 2
  "$@" $disk >/dev/null 2>&1 || wrong "$kind: mkfs"
  mkdir -p /$kind; mount -t $kind -o discard $disk /$kind || wrong "$kind: mount"
  (while [ ! -e /stop-$kind ]; do /tools/fstrim /$kind || wrong "$kind: fstrim"; sleep 1; done) & trims=$!
  round=0; : > /expected-$kind
  while [ $round -lt $rounds ]; do
    round=$((round + 1))
    for n in 1 2 3 4 5 6 7 8; do
      name=f$round-$n size=$((n * n * 20011 + round))
      content $name $size > /$kind/$name || wrong "$kind: write"
      echo "$name $size" >> /expected-$kind
    done
    sync -f /$kind 2>/dev/null || sync
    for n in 2 5 7; do
      rm /$kind/f$round-$n; sed -i "/^f$round-$n /d" /expected-$kind
    done
    echo "GUEST $kind round $round"
  done
  touch /stop-$kind; wait $trims
  umount /$kind || wrong "$kind: umount"
  mount -t $kind $disk /$kind || wrong "$kind: mount again"
  while read name size; do
    [ "$(content $name $size | md5sum)" = "$(md5sum < /$kind/$name)" ] || wrong "$kind: $name"
  done < /expected-$kind
  echo "GUEST $kind has $(ls /$kind | grep -c ^f) of $(grep -c . /expected-$kind) files"
  umount /$kind
}}

zeroes() {{ # parts of clusters are written while the rest of them is zeroed
  disk=$1 round=0
  head -c 4096 /dev/zero > /zero4
  while [ $round -lt $rounds ]; do
    round=$((round + 1))
    content zeroes-$round 65536 > /block
    head -c 4096 /block > /head
    i=0; while [ $i -lt 32 ]; do
      dd if=/block of=$disk bs=64k seek=$i oflag=direct conv=notrunc 2>/dev/null || wrong "zeroes: dd"
      i=$((i + 1)); done
    /tools/blkdiscard -z -o 0 -l $((32 * 65536)) $disk || wrong "blkdiscard -z"
    i=0; while [ $i -lt 32 ]; do
      dd if=/head of=$disk bs=4k seek=$((i * 16)) oflag=direct conv=notrunc 2>/dev/null &
      /tools/blkdiscard -z -o $((i * 65536 + 4096)) -l 61440 $disk &
      i=$((i + 1)); done
    wait
    /tools/blkdiscard -o $((64 * 65536)) -l $((32 * 65536)) $disk || wrong "blkdiscard"
    i=0; while [ $i -lt 32 ]; do
      dd if=$disk bs=4k skip=$((i * 16)) count=1 iflag=direct 2>/dev/null | cmp -s - /head \\
        || wrong "zeroes: write $i in round $round"
      [ "$(dd if=$disk bs=4k skip=$((i * 16 + 1)) count=15 iflag=direct 2>/dev/null | tr -d '\\000' | wc -c)" = 0 ] \\
        || wrong "zeroes: rest of $i in round $round"
      i=$((i + 1)); done
    echo "GUEST zeroes round $round"
  done
}}

makes() {{ # file systems are made again and again where others were, a sector off the clusters
  losetup -o $((128 * 1048576 + 512)) /dev/loop0 $1 || wrong losetup
  round=0; mkdir -p /made
  while [ $round -lt $rounds ]; do
    round=$((round + 1))
    case $((round % 2)) in
      0) /tools/mkfs.xfs -q -f /dev/loop0 || wrong "makes: mkfs.xfs"; mount -t xfs /dev/loop0 /made ;;
      1) /tools/mkfs.ext4 -q -F /dev/loop0 >/dev/null || wrong "makes: mkfs.ext4"; mount -t ext4 /dev/loop0 /made ;;
    esac || wrong "makes: mount"
    content made 300007 > /made/f; umount /made || wrong "makes: umount"
    case $((round % 2)) in 0) kind=xfs ;; 1) kind=ext4 ;; esac
    mount -t $kind /dev/loop0 /made
    [ "$(content made 300007 | md5sum)" = "$(md5sum < /made/f)" ] || wrong "makes: file in round $round"
    umount /made
    echo "GUEST makes round $round"
  done
}}

files ext4 /dev/vda /tools/mkfs.ext4 -q -F & ext4=$!
files xfs /dev/vdb /tools/mkfs.xfs -q -f & xfs=$!
zeroes /dev/vdc & zeroes=$!
makes /dev/vdd & makes=$!
wait $ext4 $xfs $zeroes $makes
dmesg | grep -iE 'i/o error|corrupt|remount|shutdown|blocked for' | while read line; do wrong "kernel: $line"; done
echo "{DONE}"
sync
poweroff -f
"""


def missing() -> str | None:
    """Say what this machine lacks for it, None if nothing."""
    absent = [name for name in (_EMULATOR, "cpio", *_PROGRAMS) if _which(name) is None]
    absent += [] if _BUSYBOX.exists() else [str(_BUSYBOX)]
    return f"such a guest needs {', '.join(absent)}: install {_PACKAGES}" if absent else None


def make(scratch: Path) -> tuple[Path, Path]:
    """Make the guest in an empty directory. Blocks. Raises CommandFailed, LookupError, OSError.

    :returns: its kernel and its initramfs.
    """
    log = scratch / "make.log"
    name = packages.dependency("linux-image-cloud-amd64", "linux-image-", log)
    packages.unpack(name, scratch / "kernel", log)
    kernel = next((scratch / "kernel" / "boot").glob("vmlinuz-*"))
    root = scratch / "root"
    for directory in ("bin", "dev", "etc", "modules", "proc", "sys", "tools"):
        (root / directory).mkdir(parents=True)
    (root / "etc" / "mtab").symlink_to("/proc/mounts")
    shutil.copy(_BUSYBOX, root / "bin" / "busybox")
    for program in _PROGRAMS:
        _copy_with_libraries(program, root)
    modules = next((scratch / "kernel" / "lib" / "modules").iterdir()) / "kernel"
    present = [modules / module for module in _MODULES if (modules / module).exists()]
    for module in present:
        shutil.copy(module, root / "modules")
    (root / "modules.order").write_text("".join(f"{module.name}\n" for module in present))
    (root / "init").write_text(_INIT)
    (root / "init").chmod(0o755)
    archive = scratch / "initrd"
    listing = "\n".join(sorted(str(path.relative_to(root)) for path in root.rglob("*")))
    pack = ["cpio", "--quiet", "--create", "--format=newc", "--owner=0:0", f"--file={archive}"]
    run("the packing of the guest's initramfs", pack, log, cwd=root, stdin=listing)
    packed = scratch / "initrd.gz"
    packed.write_bytes(gzip.compress(archive.read_bytes(), compresslevel=1))
    return kernel, packed


def boot(
    kernel: Path, initrd: Path, disks: Sequence[tuple[str, int, str]], rounds: int, console: Path
) -> subprocess.Popen[bytes]:
    """Start the guest; it ends by itself.

    :param disks: address, port and export name of each; the guest may discard, and waits while a server is away.
    :param console: where what it says goes.
    """
    command = [_EMULATOR, "-accel", "tcg", "-cpu", "max", "-M", "q35", "-m", "768", "-smp", "2", "-nodefaults"]
    command += ["-display", "none", "-no-reboot", "-serial", f"file:{console}", "-kernel", str(kernel)]
    command += ["-initrd", str(initrd), "-append", f"console=ttyS0 panic=1 quiet rounds={rounds}"]
    for number, (host, port, export) in enumerate(disks):
        server = f"file.server.type=inet,file.server.host={host},file.server.port={port},file.export={export}"
        node = f"driver=raw,node-name=d{number},discard=unmap,file.driver=nbd,file.reconnect-delay=120,{server}"
        command += ["-blockdev", node, "-device", f"virtio-blk-pci,drive=d{number},num-queues=2"]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL)


def _which(name: str) -> str | None:
    return shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin")


def _copy_with_libraries(program: str, root: Path) -> None:
    source = _which(program)
    assert source is not None, program
    shutil.copy(source, root / "tools" / program)
    listing = subprocess.run(["ldd", source], capture_output=True, text=True, check=True).stdout
    for library in re.findall(r"(/\S+)", listing):
        target = root / library.lstrip("/")
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(library, target)
