"""Evidence: the bytes of a volume, read and written through the edge with libnbd's tools, past all of OpenStack."""

from __future__ import annotations

import hashlib
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from openvstorage.aio.certificates import TOUR
from openvstorage.aio.command import run
from openvstorage.aio.errors import CommandFailed, EvidenceMismatch
from openvstorage.client import Client, Grant
from openvstorage.client.grant import Mode
from openvstorage.edge import qemu_img
from openvstorage.edge.location import NbdLocation
from openvstorage.edge.nbd import NbdClient
from openvstorage.edge.tls import client_context

__all__ = ["Content", "EdgeEvidence", "content_of_file", "expect"]

_CHUNK = 4 * 1024**2
_ZEROS = bytes(_CHUNK)
# A grant that a killed tour leaves behind ends by itself.
_GRANT_SECONDS = 900


@dataclass(frozen=True, slots=True)
class Content:
    """What a disk holds.

    :ivar size: bytes of the whole disk.
    :ivar sha256: of its first ``length`` bytes.
    :ivar length: bytes that the digest covers.
    :ivar rest_is_zero: whether every byte after those is zero.
    """

    size: int
    sha256: str
    length: int
    rest_is_zero: bool


def content_of_file(path: Path, patch: tuple[int, bytes] | None = None) -> str:
    """Return the SHA-256 of a file, as if ``patch`` (offset, bytes) had been written over it. Raises OSError."""
    digest = hashlib.sha256()
    position = 0
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            if patch is not None:
                offset, data = patch
                first, last = max(offset, position), min(offset + len(data), position + len(chunk))
                if first < last:
                    chunk = chunk[: first - position] + data[first - offset : last - offset] + chunk[last - position :]
            digest.update(chunk)
            position += len(chunk)
    return digest.hexdigest()


def expect(what: str, expected: object, found: object) -> None:
    """Raise EvidenceMismatch unless both are the same."""
    if expected != found:
        raise EvidenceMismatch(what=what, expected=expected, found=found)


class EdgeEvidence:
    """Reads and writes vDisks as a client of the edge.

    :param client: of the vPool's management API.
    :param vpool_guid: the vPool that the volumes are on.
    :param log: gets what the tools print.
    :param certificate: directory of the tour's certificate, for an edge with TLS.
    """

    def __init__(self, client: Client, vpool_guid: str, log: Path, certificate: Path) -> None:
        self._client = client
        self._vpool_guid = vpool_guid
        self._log = log
        self._certificate = certificate
        self._consumer = f"tour-{uuid.uuid4()}"

    def vpool_name(self) -> str:
        """Return the name that the vPool has for itself."""
        return self._client.vpools.get(self._vpool_guid).name

    def vdisk(self, volume_id: str) -> str:
        """Return the guid of the vDisk behind a volume. Raises EvidenceMismatch if there is none."""
        name = f"volume-{volume_id}"
        found = self._client.vdisks.find(name, self._vpool_guid)
        if found is None:
            raise EvidenceMismatch(what="the vPool", expected=f"a vDisk {name}", found="none")
        return found.guid

    def gone(self, volume_id: str) -> bool:
        """Whether the vPool has no vDisk for that volume."""
        return self._client.vdisks.find(f"volume-{volume_id}", self._vpool_guid) is None

    def snapshot(self, vdisk_guid: str, snapshot_id: str) -> str:
        """Return the guid of the vPool's snapshot behind Cinder's. Raises EvidenceMismatch if there is none."""
        for found in self._client.snapshots.list(vdisk_guid):
            if snapshot_id in found.label:
                return found.guid
        raise EvidenceMismatch(what="the vPool", expected=f"a snapshot for {snapshot_id}", found="none")

    def read(self, vdisk_guid: str, length: int, snapshot_guid: str | None = None) -> Content:
        """Read a whole vDisk, or one snapshot of it, and digest its first ``length`` bytes. Blocks.

        Raises CommandFailed, and what the client raises.
        """
        with self._grant(vdisk_guid, "ro", snapshot_guid) as grant, self._log.open("ab") as log:
            uri = f"{grant.uri}?tls-certificates={quote(str(self._certificate))}" if grant.tls else grant.uri
            copy = subprocess.Popen(["nbdcopy", "--", uri, "-"], stdout=subprocess.PIPE, stderr=log)
            digest, size, zero = hashlib.sha256(), 0, True
            with copy:
                while copy.stdout is not None and (chunk := copy.stdout.read(_CHUNK)):
                    head = chunk[: max(0, length - size)]
                    digest.update(head)
                    zero = zero and chunk[len(head) :] == _ZEROS[: len(chunk) - len(head)]
                    size += len(chunk)
            if copy.returncode != 0:
                raise CommandFailed(f"reading vDisk {vdisk_guid} through the edge", copy.returncode, self._log)
        return Content(size, digest.hexdigest(), min(length, size), zero)

    def write(self, vdisk_guid: str, offset: int, value: int, length: int) -> None:
        """Write ``length`` bytes of one value to a vDisk and flush them. Blocks. Raises as :meth:`read`."""
        with self._grant(vdisk_guid, "rw") as grant:
            commands = ["-c", f"write -P {value} {offset} {length}", "-c", "flush"]
            credentials = qemu_img.credentials(self._certificate if grant.tls else None)
            options = qemu_img.image_options(NbdLocation.from_grant(grant))
            run(
                f"writing to vDisk {vdisk_guid} through the edge",
                ["qemu-io", *credentials, *commands, "--image-opts", options],
                self._log,
            )

    def put(self, vdisk_guid: str, offset: int, data: bytes) -> None:
        """Write bytes to a vDisk and flush them. Blocks. Raises EdgeError, and what the client raises."""
        with self._open(vdisk_guid, "rw") as nbd:
            nbd.write(offset, data)
            nbd.flush()

    def get(self, vdisk_guid: str, offset: int, length: int) -> bytes:
        """Read bytes of a vDisk, which may be in use. Blocks. Raises as :meth:`put`."""
        with self._open(vdisk_guid, "ro") as nbd:
            return nbd.read(offset, length)

    def size(self, vdisk_guid: str) -> int:
        """Return the size in bytes that a client of the edge sees. Blocks. Raises as :meth:`put`."""
        with self._open(vdisk_guid, "ro") as nbd:
            return nbd.size

    @contextmanager
    def _open(self, vdisk_guid: str, mode: Mode) -> Iterator[NbdClient]:
        with self._grant(vdisk_guid, mode) as grant:
            tls = client_context(self._certificate) if grant.tls else None
            with NbdClient.connect(grant.host, grant.port, grant.export_name, tls=tls) as nbd:
                yield nbd

    @contextmanager
    def _grant(self, vdisk_guid: str, mode: Mode, snapshot_guid: str | None = None) -> Iterator[Grant]:
        grant = self._client.grants.create(
            vdisk_guid,
            client=TOUR,
            consumer=self._consumer,
            mode=mode,
            snapshot_guid=snapshot_guid,
            deadline_seconds=_GRANT_SECONDS,
        )
        try:
            yield grant
        finally:
            self._client.grants.revoke(grant.guid)
