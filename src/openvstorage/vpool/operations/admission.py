"""Admission: which hosts' certificates a storage daemon lets in. It follows the grants.

A host with a grant is let in before its export is there, and kept out before its export goes, unless the same daemon
serves it another grant. The list is about hosts, not names: a host that is let in sees all names that the daemon serves
and can open any of them. So what is read only is served by other daemons than what is written; and when a host's last
grant goes, every connection goes, see :func:`serving.drop`.
"""

from __future__ import annotations

import logging

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from openvstorage.vpool.access import authority
from openvstorage.vpool.exports.daemon import StorageDaemon
from openvstorage.vpool.model.export import Export, Grant
from openvstorage.vpool.operations import opening
from openvstorage.vpool.operations.context import Context
from openvstorage.vpool.operations.errors import Refused

log = logging.getLogger(__name__)

TIMEOUT_SECONDS = 10.0


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


async def admitted(context: Context, export_guid: str) -> list[str]:
    """:returns: the distinguished names of the certificates that an export's daemon lets in."""
    async with context.db.read() as session:
        names = await _hosts(session, export_guid)
        export = await session.get(Export, export_guid)
        is_read = export is not None and await opening.source_name_of(session, export) is not None
    found = {authority.distinguished_name(name) for name in names if authority.is_host_name(name)}
    if is_read and context.fleet.source_tls is not None:
        found.add(context.fleet.source_tls.name)
    return sorted(found)


async def _hosts(session: AsyncSession, export_guid: str) -> set[str]:
    """The names in the certificates of those who hold a grant of an export."""
    served = (Grant.export_guid == export_guid, Grant.state.in_(opening.SERVED))
    return {name for name in await session.scalars(select(Grant.certificate_name).where(*served)) if name}


async def admit(context: Context, daemon: StorageDaemon) -> None:
    """Let the hosts with grants in at the next handshake, and nobody else. Sessions that are there go on.

    :raises ExportsError: that could not be told to the daemon, or it does not say that it was.
    """
    if daemon.certificate is not None:
        await daemon.admit(await admitted(context, daemon.vdisk), TIMEOUT_SECONDS)


async def is_last_of_host(context: Context, export_guid: str, certificate_name: str) -> bool:
    """:returns: whether a host is not let in to an export's daemon any more while others are."""
    async with context.db.read() as session:
        names = await _hosts(session, export_guid)
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
