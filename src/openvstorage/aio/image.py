"""The test image: a bootable disk made from Debian packages, with no loop device and no mount.

Debian's cloud kernel, an initramfs of busybox and the modules a virtual machine needs, and syslinux in a FAT partition.
Booted, it says so on the serial console and lists the disks it has; it leaves the id of its boot on the disk it came
from, and does what is written at the head of a disk that is attached to it.
"""

from __future__ import annotations

import gzip
import hashlib
import shutil
import tempfile
from pathlib import Path

from openvstorage.aio import packages
from openvstorage.aio.command import run
from openvstorage.aio.paths import Paths

__all__ = ["BOOT_ID_LINE", "BOOT_ID_OFFSET", "BOOT_LINE", "DISKS_LINE", "ORDER", "ORDER_BYTES", "make_image"]

#: What the guest says when it is up.
BOOT_LINE = "OPENVSTORAGE GUEST BOOTED"
#: What it says, with an id of its own, when it has that id on its first disk, at :data:`BOOT_ID_OFFSET`.
BOOT_ID_LINE = "GUEST BOOT ID"
BOOT_ID_OFFSET = 256 * 1024**2
#: What it says before the disks and partitions it has, as ``vda:SIZE`` with the size in KiB, when they change.
DISKS_LINE = "GUEST DISKS"
#: First line of a script that it runs, with the disk's path as the argument, when it finds it at the head of a disk
#: other than the first. The script ends at the first zero byte, at the latest after :data:`ORDER_BYTES` bytes.
ORDER = "#!openvstorage-guest"
ORDER_BYTES = 4096

_MIB = 1024**2
_SIZE = 64 * _MIB
_PARTITION = 1 * _MIB
_SECTOR = 512
_BOOT_CODE = 440  # bytes of a master boot record before its signature and partition table

# In the order in which they must be loaded.
_MODULES = (
    "drivers/virtio/virtio_ring.ko",
    "drivers/virtio/virtio.ko",
    "drivers/virtio/virtio_pci_legacy_dev.ko",
    "drivers/virtio/virtio_pci_modern_dev.ko",
    "drivers/virtio/virtio_pci.ko",
    "drivers/block/virtio_blk.ko",
)

_INIT = f"""#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for module in $(cat /modules.order); do insmod /modules/$module 2>/dev/null; done
echo "{BOOT_LINE} kernel $(uname -r)"
boot=$(cat /proc/sys/kernel/random/boot_id)
echo "$boot" | dd of=/dev/vda bs=512 seek={BOOT_ID_OFFSET // _SECTOR} conv=notrunc,fsync 2>/dev/null \\
  && echo "{BOOT_ID_LINE} $boot"
seen=
known=
while :; do
  disks=$(awk 'NR > 2 {{ print $4 ":" $3 }}' /proc/partitions | tr '\\n' ' ')
  [ "$disks" != "$seen" ] && echo "{DISKS_LINE} $disks"
  seen=$disks
  now=
  for path in /sys/block/vd[b-z]; do
    name=${{path##*/}}
    [ -b /dev/$name ] || continue
    now="$now $name"
    case "$known " in *" $name "*) continue ;; esac
    dd if=/dev/$name bs={ORDER_BYTES} count=1 2>/dev/null | tr -d '\\000' > /order-$name
    [ "$(head -n 1 /order-$name)" = "{ORDER}" ] && sh /order-$name /dev/$name &
  done
  known=$now
  sleep 1
done
"""

_SYSLINUX = """SERIAL 0 115200
DEFAULT debian
LABEL debian
  LINUX /vmlinuz
  INITRD /initrd.gz
  APPEND console=ttyS0 panic=1 quiet
"""


def make_image(paths: Paths) -> Path:
    """Return the raw image, made on first use and kept in the cache; blocks.

    Raises CommandFailed, LookupError, OSError.
    """
    recipe = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]
    image = paths.cache / f"test-image-{recipe}.raw"
    if image.exists():
        return image
    log = paths.log / "image.log"
    with tempfile.TemporaryDirectory(dir=paths.cache, prefix="test-image-") as name:
        work = Path(name)
        kernel = packages.dependency("linux-image-cloud-amd64", "linux-image-", log)
        packages.unpack(kernel, work / "kernel", log)
        vmlinuz = next((work / "kernel" / "boot").glob("vmlinuz-*"))
        initrd = _make_initramfs(work, log)
        fresh = _assemble(work, vmlinuz, initrd, log)
        # Only a whole image ever has the name that the next call looks for.
        fresh.rename(image)
    return image


def _make_initramfs(work: Path, log: Path) -> Path:
    root = work / "root"
    for directory in ("bin", "dev", "modules", "proc", "sys"):
        (root / directory).mkdir(parents=True)
    shutil.copy("/bin/busybox", root / "bin" / "busybox")
    tree = next((work / "kernel" / "lib" / "modules").iterdir()) / "kernel"
    names = []
    for module in _MODULES:
        # Some are built into the kernel, which ones differs between releases.
        if (tree / module).exists():
            shutil.copy(tree / module, root / "modules")
            names.append(Path(module).name)
    (root / "modules.order").write_text("\n".join(names) + "\n")
    (root / "init").write_text(_INIT)
    (root / "init").chmod(0o755)
    archive = work / "initrd"
    listing = "\n".join(sorted(str(path.relative_to(root)) for path in root.rglob("*")))
    pack = ["cpio", "--quiet", "--create", "--format=newc", "--owner=0:0", f"--file={archive}"]
    run("the packing of the test image's initramfs", pack, log, cwd=root, stdin=listing)
    compressed = work / "initrd.gz"
    compressed.write_bytes(gzip.compress(archive.read_bytes(), mtime=0))
    return compressed


def _assemble(work: Path, vmlinuz: Path, initrd: Path, log: Path) -> Path:
    image = work / "image.raw"
    with image.open("wb") as stream:
        stream.truncate(_SIZE)
    table = f"label: dos\nstart={_PARTITION // _SECTOR}, type=e, bootable\n"
    run("the partitioning of the test image", ["sfdisk", "--quiet", image], log, stdin=table)
    inside = f"{image}@@{_PARTITION}"
    sectors = (_SIZE - _PARTITION) // _SECTOR
    what = "the formatting of the test image"
    hidden = str(_PARTITION // _SECTOR)
    run(what, ["mformat", "-i", inside, "-T", str(sectors), "-h", "16", "-s", "63", "-H", hidden, "::"], log)
    configuration = work / "syslinux.cfg"
    configuration.write_text(_SYSLINUX)
    for source, name in ((vmlinuz, "vmlinuz"), (initrd, "initrd.gz"), (configuration, "syslinux.cfg")):
        run("the filling of the test image", ["mcopy", "-i", inside, source, f"::/{name}"], log)
    run("the boot loader of the test image", ["syslinux", "--offset", str(_PARTITION), "--install", image], log)
    boot_code = Path("/usr/lib/syslinux/mbr/mbr.bin").read_bytes()[:_BOOT_CODE]
    with image.open("r+b") as stream:
        stream.write(boot_code)
    return image
