"""Transfers: this process opens a vDisk to copy an image into it or out of it.

A transfer holds a grant of its own, with a deadline in case the process dies, and gives it back in any case.
"""

from __future__ import annotations

import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from cinder import exception
from oslo_log import log as logging

from openvstorage.cinder.pool import Pool
from openvstorage.client import Grant, InUse, Mode, OpenvStorageError
from openvstorage.edge.location import NbdLocation
from openvstorage.edge.nbd import NbdClient
from openvstorage.edge.relay import relayed
from openvstorage.edge.tls import client_context

__all__ = ["is_transfer", "opened", "reached", "transfer"]

LOG = logging.getLogger(__name__)

_TRANSFER = "transfer-"
# Only for what a killed process leaves behind: longer than the longest transfer anybody waits for.
_TRANSFER_SECONDS = 24 * 3600


@contextmanager
def transfer(pool: Pool, vdisk_guid: str, mode: Mode) -> Iterator[Grant]:
    """Hold a grant for this process while it copies bytes into a vDisk (``rw``) or out of it (``ro``).

    :raises VolumeIsBusy: for ``rw``, when somebody has the vDisk attached.
    """
    client, consumer = socket.gethostname(), f"{_TRANSFER}{uuid.uuid4()}"
    try:
        grant = pool.client.grants.create(vdisk_guid, client, consumer, mode, deadline_seconds=_TRANSFER_SECONDS)
    except InUse as error:
        _revoke_dead_transfers(pool, vdisk_guid, error)
        grant = pool.client.grants.create(vdisk_guid, client, consumer, mode, deadline_seconds=_TRANSFER_SECONDS)
    try:
        yield grant
    finally:
        try:
            pool.revoke(grant)
        except OpenvStorageError as error:
            # The bytes are where they belong; failing now would only hide what happened before.
            LOG.warning("Grant %s of vDisk %s stays until its deadline: %s", grant.guid, vdisk_guid, error)


@contextmanager
def opened(pool: Pool, vdisk_guid: str, mode: Mode) -> Iterator[NbdClient]:
    """Hold a transfer and a connection to the vDisk. Raises as ``transfer``, and EdgeError."""
    with transfer(pool, vdisk_guid, mode) as grant:
        tls = client_context(pool.edge_tls_dir) if grant.tls else None
        with NbdClient.connect(grant.host, grant.port, grant.export_name, tls=tls) as nbd:
            yield nbd


@contextmanager
def reached(pool: Pool, vdisk_guid: str, mode: Mode) -> Iterator[str]:
    """Hold a transfer, and give a URI at which Cinder's own ``qemu-img`` finds the vDisk, with TLS or without.

    Raises as ``opened``.
    """
    with transfer(pool, vdisk_guid, mode) as grant:
        location = NbdLocation.from_grant(grant)
        if not location.tls:
            yield location.uri
            return
        with relayed(location, pool.edge_tls_dir, writable=mode == "rw") as uri:
            yield uri


def is_transfer(grant: Grant) -> bool:
    """Tell whether a grant belongs to a transfer, and not to an attachment."""
    return grant.consumer.startswith(_TRANSFER)


def _revoke_dead_transfers(pool: Pool, vdisk_guid: str, error: InUse) -> None:
    """Make room for a transfer where only another one stands in its way.

    Cinder runs one operation at a time that writes to a volume, so the other one's process has died.
    """
    holders = [grant for grant in pool.grants(vdisk_guid) if grant.mode == "rw"]
    if not all(is_transfer(grant) for grant in holders):
        raise exception.VolumeIsBusy(message=str(error)) from error
    for grant in holders:
        LOG.warning("Revoking grant %s of vDisk %s, left by a transfer that died.", grant.guid, vdisk_guid)
        pool.revoke(grant)
