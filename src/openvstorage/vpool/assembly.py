"""Puts the rooms below the API together for one data directory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path

from openvstorage.contract.durability import Durability
from openvstorage.vpool.access import authority
from openvstorage.vpool.access.server_certificate import ServerCertificate
from openvstorage.vpool.backends.layers.backend import LayersBackend
from openvstorage.vpool.backends.layers.files import ImageOptions, LayerFiles
from openvstorage.vpool.backends.layers.nodes import NodeOptions
from openvstorage.vpool.backends.layers.space import MIB, Space
from openvstorage.vpool.config import ServiceConfig, write_private
from openvstorage.vpool.exports.qemu import QemuBuild
from openvstorage.vpool.exports.tls import ClientTls, ServerTls
from openvstorage.vpool.model.database import Database
from openvstorage.vpool.operations import Operations
from openvstorage.vpool.operations.context import Context, Node, Upkeep
from openvstorage.vpool.operations.fleet import Fleet
from openvstorage.vpool.pool import Claim, PoolDirectory
from openvstorage.vpool.setup import Inventory

Boundary = Callable[[str, str], Awaitable[None]]


async def assemble(
    config: ServiceConfig,
    directory: PoolDirectory,
    db: Database,
    claimed: Claim,
    inventory: Inventory,
    certificate: ServerCertificate | None,
    *,
    boundary: Boundary | None = None,
) -> Operations:
    """:returns: the operations of a pool, not started yet.

    :param certificate: kept from ending, and served with by the storage daemons if the configuration says so; only
        where it does not may it be None.
    :param boundary: see :class:`openvstorage.vpool.operations.context.Context`; None for nothing.
    :raises ExportsError: QEMU's programs are missing or unusable.
    """
    directory.layers.mkdir(mode=0o700, exist_ok=True)
    build = await QemuBuild.probe(directory.layers, Path(config.qemu_dir) if config.qemu_dir else None)
    layout = ImageOptions(128 * 1024, True) if build.extended_l2_safe else ImageOptions(64 * 1024, False)
    backend = LayersBackend(
        db,
        LayerFiles(directory.layers, build.image_tool, layout),
        Space(directory.root, config.ballast_mib * MIB, config.low_water_mib * MIB),
        NodeOptions(
            build.aio,
            build.direct,
            config.metadata_cache_mib * MIB,
            discards_in_place=build.discards_in_place,
            guards_zeroes=build.guards_zeroes,
        ),
        merge_subclusters=build.extended_l2_safe,
    )
    node = Node(
        guid=inventory.storagerouter_guid,
        vpool_guid=inventory.vpool_guid,
        address=config.edge_host,
        first_port=config.first_port,
        last_port=config.last_port,
        strict_compat=config.strict_compat,
        durability=Durability(config.durability),
    )
    fleet = Fleet(build, directory.run_dir(claimed.guid), directory.logs)
    context = Context(db, backend, fleet, node)
    context.heartbeat = claimed.advance
    context.report = _Reported(directory.upkeep_file).report
    if certificate is not None:
        context.renew_certificate = certificate.renew_if_due
    if config.edge_tls:
        if certificate is None:
            raise ValueError("TLS on the edge needs a certificate")
        _serve_with(certificate, fleet)
        fleet.source_tls = ClientTls(*await asyncio.to_thread(authority.ensure_reader, directory.tls))
    if boundary is not None:
        context.boundary = boundary
    return Operations(context)


class _Reported:
    """Keeps what there is to do in a file, written when it changes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written: Upkeep | None = None

    async def report(self, upkeep: Upkeep) -> None:
        """Keep it. :raises OSError: it can not be written."""
        if upkeep != self._written:
            await asyncio.to_thread(write_private, self._path, json.dumps(asdict(upkeep)) + "\n")
            self._written = upkeep


def _serve_with(certificate: ServerCertificate, fleet: Fleet) -> None:
    def use_current() -> None:
        fleet.tls = ServerTls(certificate.files.certificate.parent, certificate.fingerprint)

    use_current()
    certificate.on_renewal.append(use_current)
