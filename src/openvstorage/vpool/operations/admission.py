"""Admission: which hosts' certificates a vDisk's storage daemon lets in. It follows the grants.

A host with a grant is let in before its export is there, and kept out before its export goes, unless it holds another
grant of the same vDisk. The list is about hosts, not exports: a host that is let in sees the names of all exports of
that vDisk and can open any of them. So when a host's last grant goes, every connection goes, see :func:`serving.drop`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from sqlalchemy import select

from openvstorage.vpool.access import authority
from openvstorage.vpool.exports.daemon import StorageDaemon
from openvstorage.vpool.model.export import Grant, GrantState
from openvstorage.vpool.operations.context import Context
from openvstorage.vpool.operations.errors import Refused

log = logging.getLogger(__name__)

TIMEOUT_SECONDS = 10.0
ADMITTED = (GrantState.GRANTING, GrantState.GRANTED)


def certificate_name(context: Context, client: str) -> str | None:
    """:returns: what the certificate of a grant's client must say; None without TLS.

    :raises Refused: no certificate can say that.
    """
    if context.fleet.tls is None:
        return None
    if not authority.is_host_name(client):
        raise Refused(
            f"{client!r} can not be the client of a grant: it is proved by a certificate, so it has to be a host name "
            "of at most 64 letters, digits, dots, '-' and '_'"
        )
    return client


def admitted(grants: Iterable[Grant]) -> list[str]:
    """:returns: the distinguished names of the certificates that these grants let in."""
    names = {grant.certificate_name for grant in grants if grant.state in ADMITTED}
    return sorted(authority.distinguished_name(name) for name in names if name and authority.is_host_name(name))


async def admit(context: Context, daemon: StorageDaemon) -> None:
    """Let the hosts with grants in at the next handshake, and nobody else. Sessions that are there go on.

    :raises ExportsError: that could not be told to the daemon, or it does not say that it was.
    """
    if daemon.certificate is None:
        return
    async with context.db.read() as session:
        grants = list(await session.scalars(select(Grant).where(Grant.vdisk_guid == daemon.vdisk)))
    await daemon.admit(admitted(grants), TIMEOUT_SECONDS)


async def is_last_of_host(context: Context, vdisk_guid: str, certificate_name: str) -> bool:
    """:returns: whether a host is not let in to a vDisk any more while others are."""
    async with context.db.read() as session:
        grants = list(await session.scalars(select(Grant).where(Grant.vdisk_guid == vdisk_guid)))
    names = {grant.certificate_name for grant in grants if grant.state in ADMITTED}
    return bool(names) and certificate_name not in names


def fits(context: Context, daemon: StorageDaemon) -> bool:
    """:returns: whether a daemon that serves clients does so with TLS if that is wanted, and without if not."""
    return (daemon.certificate is None) == (context.fleet.tls is None)


async def note_certificates(context: Context) -> None:
    """Bring the grants in line with whether the edge has TLS since this start. A client whose name can not be in a
    certificate is not let in any more."""
    tls = context.fleet.tls is not None
    async with context.db.write() as session:
        for grant in list(await session.scalars(select(Grant).where(Grant.certificate_name.is_(None) == tls))):
            grant.certificate_name = grant.client if tls else None
            if tls and not authority.is_host_name(grant.client):
                log.error("the grant of %s: its client %r is no host name, so it is kept out", grant.guid, grant.client)
