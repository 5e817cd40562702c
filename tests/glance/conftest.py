"""Glance's real cinder store on a real vPool service; between them, in place of Cinder, what our driver answers.

These tests run where glance_store is: ``make test-glance``.
"""

from __future__ import annotations

import uuid
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import glance_store
import pytest
from glance_store._drivers.cinder import store as cinder_store
from oslo_concurrency import lockutils
from oslo_config import cfg
from tests.support.service_fixtures import client, service
from tests.support.vpool_service import VpoolService

from openvstorage.client import Client

__all__ = ["client", "service"]

HOST = "glance-host"
# Instead of a GiB, so that a volume is outgrown by few bytes; a multiple of neither 4 MiB nor a megabyte.
GIB = 5 * 1024**2 + 8192


class Volume(SimpleNamespace):
    """What python-cinderclient gives for a volume, and what the store calls on it."""

    def extend(self, _volume: Any, size: int) -> None:
        self.cinder.extend_volume(None, self, size)

    def delete(self) -> None:
        self.cinder.delete(None, self.id)

    def update_all_metadata(self, metadata: dict[str, str]) -> None:
        self.metadata = metadata

    def update_readonly_flag(self, _volume: Any, flag: bool) -> None:
        self.readonly = flag


class Cinder:
    """The calls of ``glance_store.common.cinder_utils.API``, each done on the vPool as our driver does it."""

    def __init__(self, service: VpoolService, client: Client) -> None:
        self._status, self._client = service.status, client
        self.volumes: dict[str, Volume] = {}
        self.attachments: dict[str, Any] = {}

    def create(
        self, _client: Any, size: int, *, name: str, metadata: dict[str, str], volume_type: str | None
    ) -> Volume:
        identity = str(uuid.uuid4())
        vdisk = self._client.vdisks.create(f"volume-{identity}", size * GIB, self._status["vpool_guid"])
        self.volumes[identity] = Volume(
            cinder=self, id=identity, vdisk=vdisk, size=size, name=name, metadata=dict(metadata),
            status="available", multiattach=False, readonly=False,
        )  # fmt: skip
        return self.volumes[identity]

    def get(self, _client: Any, volume: str) -> Volume:
        return self.volumes[volume]

    def delete(self, _client: Any, volume: str) -> None:
        self._client.vdisks.delete(self.volumes.pop(volume).vdisk, force=True)

    def extend_volume(self, _client: Any, volume: Volume, size: int) -> None:
        self._client.vdisks.extend(volume.vdisk, size * GIB)
        volume.size = size

    def attachment_create(self, _client: Any, volume: str, *, mode: str) -> dict[str, str]:
        identity = str(uuid.uuid4())
        self.attachments[identity] = SimpleNamespace(id=identity, volume=volume, mode=mode, grant=None)
        return {"id": identity}

    def attachment_update(self, _client: Any, identity: str, connector: Any, mountpoint: str) -> Any:
        attachment = self.attachments[identity]
        volume, status = self.volumes[attachment.volume], self._status
        mode = "ro" if volume.readonly else "rw"
        grant = self._client.grants.create(volume.vdisk, connector["host"], f"host-{connector['host']}", mode)
        volume.status, attachment.grant = "in-use", grant.guid
        attachment.connection_info = {
            "driver_volume_type": "openvstorage_edge",
            "protocol": "nbd",
            "name": grant.export_name,
            "hosts": [grant.host],
            "ports": [str(grant.port)],
            "tls": grant.tls,
            "grant": grant.guid,
            "secret": grant.secret,
            "resolvers": [f"https://{address}:{status['port']}" for address in status["management_ips"]],
            "ca": Path(status["ca_file"]).read_text(),
        }
        return attachment

    def attachment_complete(self, _client: Any, identity: str) -> None:
        pass

    def attachment_delete(self, _client: Any, identity: str) -> None:
        attachment = self.attachments.pop(identity)
        if attachment.grant:
            self._client.grants.revoke(attachment.grant)
        self.volumes[attachment.volume].status = "available"


@pytest.fixture
def cinder(service: VpoolService, client: Client) -> Cinder:
    return Cinder(service, client)


@pytest.fixture
def conf(tmp_path: Path) -> cfg.ConfigOpts:
    conf = cfg.ConfigOpts()
    conf.register_opt(cfg.DictOpt("enabled_backends"))
    conf(["--config-file", str(_written(tmp_path))])
    glance_store.register_store_opts(conf)
    return conf


@pytest.fixture
def store(conf: cfg.ConfigOpts, cinder: Cinder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Glance's own store, configured as in docs/install.md."""
    lockutils.set_defaults(str(tmp_path))
    store = cinder_store.Store(conf, backend="volumes")
    store.configure()
    monkeypatch.setattr(store, "volume_api", cinder)
    monkeypatch.setattr(store, "get_cinderclient", lambda *args, **kwargs: None)
    # What it asks of the machine needs root, and for us nothing of it matters.
    monkeypatch.setattr(cinder_store.connector, "get_connector_properties", lambda *args, **kwargs: {"host": HOST})
    monkeypatch.setattr(cinder_store, "units", SimpleNamespace(Gi=GIB))
    return store


def _written(directory: Path) -> Path:
    file = directory / "glance-api.conf"
    words = "[DEFAULT]\nenabled_backends = volumes:cinder\n[glance_store]\ndefault_backend = volumes\n[volumes]\n"
    login = "cinder_store_auth_address = http://127.0.0.1/v3\ncinder_store_user_name = glance\n"
    file.write_text(f"{words}{login}cinder_store_password = x\ncinder_store_project_name = service\n")
    return file
