"""Encrypted volumes: LUKS inside the vDisk, which QEMU opens with a key that the vPool never sees.

Nova formats only volumes that it has a device path for, so a new volume gets its header here. The header takes its
place from the volume: a guest sees about 2 MiB less, and an image has to fit into what is left.
"""

from __future__ import annotations

import binascii
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryDirectory
from typing import Any

from castellan import key_manager
from cinder import context as cinder_context
from cinder import exception, objects
from cinder.image import image_utils
from cinder.volume import volume_types, volume_utils
from oslo_config import cfg

from openvstorage.cinder.pool import Pool
from openvstorage.cinder.refusal import TypeRefused
from openvstorage.cinder.transfer import opened
from openvstorage.edge import qemu_img
from openvstorage.edge.location import NbdLocation

__all__ = ["check", "check_copy", "fill", "format_vdisk", "is_encrypted"]


def is_encrypted(volume: Any) -> bool:
    """Tell whether Cinder has a key for a volume."""
    return bool(volume.encryption_key_id)


def check(pool: Pool, volume: Any) -> None:
    """Look before a volume is made whether its encryption can be had here. Changes nothing.

    :raises TypeRefused: its type asks for another provider than LUKS (version 1), the only one that Cinder fills images
        into; or the cluster has no NBD; or the volume is the copy of one with another encryption.
    """
    status = volume.migration_status or ""
    if status.startswith("target:"):
        original = objects.Volume.get_by_id(cinder_context.get_admin_context(), status.removeprefix("target:"))
        check_copy(original, volume)
    if not is_encrypted(volume):
        return
    if not pool.has_grants:
        raise TypeRefused(reason="it is encrypted, which needs a cluster that serves NBD")
    try:
        volume_utils.check_encryption_provider(volume, volume.obj_context)
    except exception.VolumeDriverException as error:
        words = (
            f"its encryption cannot be used here ({error.msg}); the provider has to be 'luks', with cipher and key size"
        )
        raise TypeRefused(reason=words) from error


def check_copy(source: Any, target: Any) -> None:
    """Refuse a copy between types of different encryption, for which Cinder would need both as devices of its host.

    :raises TypeRefused: the types differ so.
    """
    admin = cinder_context.get_admin_context()
    if volume_types.volume_types_encryption_changed(admin, source.volume_type_id, target.volume_type_id):
        raise TypeRefused(
            reason="a retype cannot add, remove or change encryption here; make a new volume of that type and copy the "
            "data within an instance"
        )


def format_vdisk(pool: Pool, vdisk_guid: str, volume: Any) -> None:
    """Write a LUKS header for the volume's key to its vDisk, after ``check``. Takes seconds of processor time."""
    context = volume.obj_context
    wanted = volume_utils.check_encryption_provider(volume, context)
    spec = image_utils.decode_cipher(wanted["cipher"], wanted["key_size"])
    cipher = qemu_img.LuksCipher(spec["cipher_alg"], spec["cipher_mode"], spec["ivgen_alg"])
    with _passphrase(context, wanted) as passphrase, TemporaryDirectory(dir=_directory()) as directory:
        header = Path(directory) / "header.luks"
        qemu_img.create_luks_header(header, cipher=cipher, passphrase_file=passphrase)
        with opened(pool, vdisk_guid, "rw") as nbd:
            nbd.write(0, header.read_bytes())
            nbd.flush()


def fill(context: Any, volume: Any, target: NbdLocation, tls_dir: Path | None, image: Path, image_format: str) -> None:
    """Encrypt an image into a volume that has its header.

    :param tls_dir: this host's certificate, None without TLS.
    :param image_format: what Cinder has found the image to be.
    :raises QemuImgFailed: it does not fit behind the header.
    """
    wanted = volume_utils.check_encryption_provider(volume, context)
    with _passphrase(context, wanted) as passphrase:
        qemu_img.encrypt(image, target, source_format=image_format, passphrase_file=passphrase, tls_dir=tls_dir)


@contextmanager
def _passphrase(context: Any, wanted: dict[str, Any]) -> Iterator[Path]:
    """Keep the volume's passphrase in a file, for its owner only, as long as it is needed."""
    key = key_manager.API(cfg.CONF).get(context, wanted["encryption_key_id"])
    with NamedTemporaryFile(dir=_directory(), prefix="luks_") as file:
        file.write(binascii.hexlify(key.get_encoded()))
        file.flush()
        yield Path(file.name)


def _directory() -> str:
    directory: str = volume_utils.image_conversion_dir()
    return directory
