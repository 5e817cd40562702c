"""Image volumes: what Glance's ``cinder`` store opens is a vDisk over NBD, with no device and no privileged call."""

from __future__ import annotations

import os
from typing import Any

from glance_store._drivers.cinder import base

from openvstorage.edge.handle import NbdHandle

__all__ = ["ImageVolumeConnector"]


class ImageVolumeConnector(base.BaseBrickConnectorInterface):  # type: ignore[misc]
    """Opens one volume for one transfer of an image. All calls block.

    The store wants the path of a device that it may open and own. It gets that of an empty file in memory, which goes
    with the process; where the store then asks what to read and write through, it gets the vDisk.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Take what the store gives, its words for ``connection_info`` among them. No I/O."""
        super().__init__(*args, **kwargs)
        self._device: dict[str, Any] | None = None
        self._stand_in: int | None = None

    def connect_volume(self, volume: Any) -> dict[str, Any]:
        """Connect to the vDisk, and give a device that the store can open. :raises BrickException: says why not."""
        self._device = self.conn.connect_volume(self.connection_info)
        self._stand_in = os.memfd_create("openvstorage-image", os.MFD_CLOEXEC)
        return {"type": "block", "path": f"/proc/self/fd/{self._stand_in}"}

    def yield_path(self, volume: Any, volume_path: Any) -> Any:
        """Give the vDisk as the file to read from or to write to.

        It is made durable and closed when the store closes what it had opened (``volume_path``): an error there fails
        the upload, whereas the store only logs those of ``disconnect_volume``, and the image would be active.
        """
        assert self._device is not None
        handle: NbdHandle = self._device["path"]
        close_stand_in = volume_path.close

        def close() -> None:
            del volume_path.close
            try:
                handle.close()
            finally:
                close_stand_in()

        volume_path.close = close
        is_of_unknown_size = volume_path.writable() and not int(volume.metadata.get("image_size") or 0)
        return _GrowingFile(handle) if is_of_unknown_size else handle

    def extend_volume(self) -> None:
        """Go on with the volume's new size, after Cinder has extended it in the middle of an upload.

        :raises BrickException: it cannot be opened any more.
        :raises OSError: what was written before may not be durable.
        """
        assert self._device is not None
        self.conn.reopen(self.connection_info, self._device["path"])

    def disconnect_volume(self, device: dict[str, Any]) -> None:
        """Close what is still open. :raises OSError: what was written may not be durable; the store logs it."""
        if self._stand_in is not None:
            os.close(self._stand_in)
            self._stand_in = None
        self.conn.disconnect_volume(self.connection_info, self._device, force=True)


class _GrowingFile:
    """The vDisk of an image of unknown size, for which the store may extend the volume between two writes.

    The vPool ends connections then, so what was written is made durable as soon as the next write may not fit.
    """

    def __init__(self, handle: NbdHandle) -> None:
        self._handle = handle

    def seek(self, offset: int) -> int:
        return self._handle.seek(offset)

    def write(self, data: bytes) -> int:
        length = self._handle.write(data)
        # The store writes what it reads, a piece of at most 4 MiB at a time; short ones are left out of account.
        if self._handle.size - self._handle.tell() < _LARGEST_PIECE:
            self._handle.flush()
        return length


_LARGEST_PIECE = 4 * 1024**2
