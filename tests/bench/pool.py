"""A vPool to measure: a service in a process of its own, and the library as its client."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.vpool_service import VpoolService

from openvstorage.client import Client


@dataclass(frozen=True, slots=True)
class Pool:
    """A running service.

    :ivar data: its data directory.
    :ivar client: logged in as its administrator.
    :ivar vpool: guid of its vPool.
    """

    data: Path
    service: VpoolService
    client: Client
    vpool: str

    @property
    def layers(self) -> Path:
        """Where its image files are."""
        return self.data / "layers"

    def taken_by(self, *vdisks: str) -> int:
        """:returns: bytes on disk of the layers that vDisks write to and that their snapshots name."""
        marks = ",".join("?" * len(vdisks))
        with self.model() as connection:
            rows = connection.execute(
                f"SELECT backend_ref FROM vdisk WHERE guid IN ({marks})"
                f" UNION SELECT backend_ref FROM snapshot WHERE vdisk_guid IN ({marks})",
                vdisks * 2,
            ).fetchall()
        return sum((self.layers / f"{guid}.qcow2").stat().st_blocks * 512 for (guid,) in rows)

    @contextlib.contextmanager
    def model(self) -> Iterator[sqlite3.Connection]:
        """Its database, to look into; nothing is changed through this."""
        with contextlib.closing(sqlite3.connect(f"file:{self.data / 'model.sqlite3'}?mode=ro", uri=True)) as connection:
            yield connection


@contextlib.contextmanager
def running(data: Path, *options: str) -> Iterator[Pool]:
    """Start a service on a data directory, new or used before, and stop it in the end.

    :param options: more options of ``openvstorage serve``.
    """
    with VpoolService(data, options=options) as service, Client.from_status(service.status) as client:
        yield Pool(data, service, client, service.status["vpool_guid"])
