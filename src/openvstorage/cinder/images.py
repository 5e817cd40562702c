"""Images into volumes and out of them, over the edge and with no copy on this host where it can be avoided.

Cinder decides what an image is: its inspectors look at every image, in flight where it is streamed, and what claims to
be raw and is not is refused. QEMU never guesses a format.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from cinder import exception
from cinder import utils as cinder_utils
from cinder.image import format_inspector, image_utils
from cinder.volume import volume_utils
from oslo_config import cfg
from oslo_log import log as logging
from oslo_utils import imageutils

from openvstorage.cinder import encryption
from openvstorage.cinder.connection import edge_location
from openvstorage.cinder.errors import translated
from openvstorage.cinder.pool import GIB, Pool
from openvstorage.cinder.transfer import opened, reached, transfer
from openvstorage.edge.handle import NbdHandle
from openvstorage.edge.location import NbdLocation
from openvstorage.edge.stream import StreamWriter

__all__ = ["can_stream", "download", "download_encrypted", "stream", "upload"]

LOG = logging.getLogger(__name__)
CONF = cfg.CONF

_SIGNATURE = "img_signature"
# Asked for by Cinder, which copies with dd where qemu-img is missing; into an export it cannot.
_DD_BLOCK = "1M"


def can_stream(pool: Pool, image_meta: dict[str, Any], image_location: Any, uses_cache: bool) -> bool:
    """Tell whether an image goes straight from Glance into a new vDisk.

    Only raw ones can. Cinder's own ways come first where they do more: its image cache, a clone of an image that is
    itself a Cinder volume, and the check of a signature, for which it needs the whole image in a file.
    """
    is_raw = image_meta.get("disk_format") == "raw" and image_meta.get("container_format") == "bare"
    properties = image_meta.get("properties") or {}
    signed = CONF.verify_glance_signatures != "disabled" and any(name.startswith(_SIGNATURE) for name in properties)
    direct_url, locations = image_location or (None, None)
    urls = [direct_url, *(location.get("url") for location in locations or [])]
    is_volume = any(url and url.startswith("cinder:") for url in urls)
    return bool(is_raw and image_meta.get("size") and not (uses_cache or signed or is_volume) and pool.has_grants)


def stream(
    pool: Pool, vdisk_guid: str, context: Any, volume: Any, image_service: Any, image_id: str, *, is_new: bool
) -> None:
    """Write a raw image into a vDisk as it comes from Glance.

    :param is_new: the vDisk is known to read as zeroes, so the image's zeroes are left out; otherwise they are made
        zero on it, so that nothing older shines through.
    :raises ImageUnacceptable: the image is larger than the volume, or not raw although it claims to be.
    :raises ImageDownloadFailed: fewer bytes came than Glance had announced.
    """
    size = image_service.show(context, image_id)["size"]
    image_utils.check_virtual_size(size, volume.size, image_id)
    with translated(f"write image {image_id} to volume {volume.name}"), opened(pool, vdisk_guid, "rw") as nbd:
        sink = _InspectedSink(StreamWriter(nbd, reads_as_zero=is_new), image_id)
        image_service.download(context, image_id, sink)
        written = sink.finish()
    if written != size:
        raise exception.ImageDownloadFailed(image_href=image_id, reason=f"{written} of {size} bytes came")
    LOG.info("Streamed image %s, %d bytes, into volume %s.", image_id, size, volume.name)


def download(pool: Pool, context: Any, volume: Any, image_service: Any, image_id: str, disable_sparse: bool) -> None:
    """Write an image of any format into the volume's vDisk, over what may be there.

    A raw image that Cinder has not fetched yet is streamed. Any other is fetched to Cinder's conversion directory,
    inspected there and converted straight into the export.

    :param disable_sparse: the vDisk may hold older data, so zeroes must be written.
    :raises ImageUnacceptable: as ``stream``, or for an unsafe image.
    """
    with translated(f"write image {image_id} to volume {volume.name}"):
        vdisk_guid = pool.vdisk(volume)
        meta = image_service.show(context, image_id)
        fetched = image_utils.TemporaryImages.for_image_service(image_service).get(context, image_id)
        if not fetched and can_stream(pool, meta, None, uses_cache=False):
            stream(pool, vdisk_guid, context, volume, image_service, image_id, is_new=False)
        elif pool.has_grants:
            with reached(pool, vdisk_guid, "rw") as target:
                _convert(context, volume, image_service, image_id, target)
        else:
            _convert_for_edge(context, volume, image_service, meta, edge_location(pool, vdisk_guid).uri, disable_sparse)


def download_encrypted(pool: Pool, context: Any, volume: Any, image_service: Any, image_id: str) -> None:
    """Encrypt an image of any format into the volume's vDisk, under the LUKS header that its creation wrote.

    :raises ImageUnacceptable: as ``download``.
    """
    with translated(f"write image {image_id} to encrypted volume {volume.name}"):
        vdisk_guid = pool.vdisk(volume)
        meta = image_service.show(context, image_id)
        with (
            _inspected(context, volume, image_service, meta) as (path, data),
            transfer(pool, vdisk_guid, "rw") as grant,
        ):
            location, tls_dir = NbdLocation.from_grant(grant), pool.edge_tls_dir if grant.tls else None
            encryption.fill(context, volume, location, tls_dir, Path(path), data.file_format)


def upload(pool: Pool, context: Any, volume: Any, image_service: Any, image_meta: dict[str, Any]) -> None:
    """Make an image of a volume, attached or not. Raw is streamed to Glance, other formats are made by qemu-img from
    the export in Cinder's conversion directory.

    :raises ImageConversionNotAllowed: another format is asked for and the operator disabled conversion.
    """
    image_id, disk_format = image_meta["id"], image_meta["disk_format"]
    is_compressed = image_meta.get("container_format") == "compressed"
    image_utils.check_image_conversion_disable(disk_format, "raw", image_id, upload=True)
    with translated(f"make image {image_id} of volume {volume.name}"):
        vdisk_guid = pool.vdisk(volume)
        if not pool.has_grants:
            source = edge_location(pool, vdisk_guid).uri
            _upload_converted(context, volume, image_service, image_meta, source, is_compressed)
        elif disk_format == "raw" and not is_compressed:
            with opened(pool, vdisk_guid, "ro") as nbd, NbdHandle(nbd) as file:
                if _has_native_threads():
                    _send(context, volume, image_service, image_id, file)
                else:
                    volume_utils.upload_volume(
                        context, image_service, image_meta, None, volume, run_as_root=False, volume_fd=file
                    )
        else:
            with reached(pool, vdisk_guid, "ro") as source:
                _upload_converted(context, volume, image_service, image_meta, source, is_compressed)


class _InspectedSink:
    """Where Glance's bytes go: past Cinder's inspectors into the vDisk.

    The inspectors are fed as Cinder feeds them from a file, and as there the first complete match decides.
    """

    _CHUNK = 512

    def __init__(self, writer: StreamWriter, image_id: str) -> None:
        self._writer = writer
        self._image_id = image_id
        formats = {name: kind for name, kind in format_inspector.ALL_FORMATS.items() if name != "raw"}
        self._undecided: dict[str, Any] = {name: kind() for name, kind in formats.items()}

    def write(self, data: bytes) -> int:
        """Inspect and write a piece. :raises ImageUnacceptable: the image is of another format than raw."""
        for at in range(0, len(data), self._CHUNK):
            if not self._undecided:
                break
            self._inspect(data[at : at + self._CHUNK])
        return self._writer.write(data)

    def finish(self) -> int:
        """Make the bytes durable and give their number."""
        return self._writer.finish()

    def _inspect(self, chunk: bytes) -> None:
        for name, inspector in list(self._undecided.items()):
            try:
                inspector.eat_chunk(chunk)
            except format_inspector.ImageFormatError:
                del self._undecided[name]
                continue
            if inspector.complete and inspector.format_match:
                reason = f"The image format was claimed to be 'raw' but the image data appears to be {name}."
                raise exception.ImageUnacceptable(image_id=self._image_id, reason=reason)
        if all(inspector.complete for inspector in self._undecided.values()):
            self._undecided.clear()


def _convert(context: Any, volume: Any, image_service: Any, image_id: str, target: str) -> None:
    """Convert into an export. It is not known to read as zeroes, so qemu-img makes zero what is zero in the image; told
    to leave nothing sparse it would write those zeroes, and a thin image would take all of the volume."""
    image_utils.fetch_to_raw(
        context,
        image_service,
        image_id,
        target,
        _DD_BLOCK,
        size=volume.size,
        run_as_root=False,
    )


def _convert_for_edge(
    context: Any, volume: Any, image_service: Any, meta: dict[str, Any], target: str, disable_sparse: bool
) -> None:
    """Convert for the patched qemu-img, which must not be asked to create a vDisk that is there."""
    with _inspected(context, volume, image_service, meta) as (path, data):
        image_utils.convert_image(
            path,
            target,
            "raw",
            src_format=data.file_format,
            run_as_root=False,
            image_id=meta["id"],
            data=data,
            disable_sparse=disable_sparse,
            skip_create=True,
        )


@contextmanager
def _inspected(context: Any, volume: Any, image_service: Any, meta: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Give the path and the facts of an image that Cinder has fetched and found to be what Glance says.

    :raises ImageUnacceptable: it is not, it is unsafe, or larger than the volume.
    """
    image_id = meta["id"]
    if meta.get("container_format") == "compressed":
        raise exception.ImageUnacceptable(image_id=image_id, reason="compressed images cannot be used here")
    image_utils.check_image_conversion_disable(meta["disk_format"], "raw", image_id)
    with ExitStack() as stack:
        path = image_utils.TemporaryImages.for_image_service(image_service).get(context, image_id)
        if not path:
            path = stack.enter_context(image_utils.TemporaryImages.fetch(image_service, context, image_id))
        data = image_utils.qemu_img_info(path, run_as_root=False)
        image_utils.check_image_format(path, image_utils.fixup_disk_format(meta["disk_format"]), image_id, data)
        image_utils.check_virtual_size(data.virtual_size, volume.size, image_id)
        yield path, data


def _upload_converted(
    context: Any, volume: Any, image_service: Any, image_meta: dict[str, Any], source: str, is_compressed: bool
) -> None:
    """Convert from the export to a file, then hand that to Glance.

    A compressed container is made by Cinder from a raw file, which it then looks at itself.
    """
    file_format = "raw" if is_compressed else image_utils.fixup_disk_format(image_meta["disk_format"])
    facts = imageutils.QemuImgInfo()
    # What the volume begins with is a guest's business: it is raw here, and nobody looks.
    facts.file_format, facts.virtual_size = "raw", volume.size * GIB
    with image_utils.temporary_file(prefix="vol_upload_") as path:
        image_utils.convert_image(
            source,
            path,
            file_format,
            src_format="raw",
            run_as_root=False,
            compress=True,
            image_id=image_meta["id"],
            data=facts,
        )
        if _has_native_threads() and not is_compressed:
            with open(path, "rb") as file:
                _send(context, volume, image_service, image_meta["id"], file)
            return
        volume_utils.upload_volume(
            context,
            image_service,
            image_meta,
            path,
            volume,
            volume_format="raw" if is_compressed else image_meta["disk_format"],
            run_as_root=False,
        )


def _has_native_threads() -> bool:
    """Tell whether this process runs without eventlet, which Cinder can since 2026.1."""
    mode = getattr(cinder_utils, "concurrency_mode_threading", None)
    return mode is not None and bool(mode())


def _send(context: Any, volume: Any, image_service: Any, image_id: str, file: Any) -> None:
    """Hand bytes to Glance as they are, as Cinder's ``upload_volume`` does, but in this thread.

    That one has eventlet's thread pool do every read, also with native threads; then the pool serves the first thread
    that ever asked it, and every other one waits for ever.
    """
    store = volume.volume_type.extra_specs.get("image_service:store_id")
    base = volume.glance_metadata.get("image_id") if volume.glance_metadata else None
    image_service.update(context, image_id, {}, file, store_id=store, base_image_ref=base)
