"""Cinder's own objects, database and configuration around the driver; the cluster is a real one or a stand-in.

These tests run in an environment that has Cinder and our wheel only: ``python tests/support/cinder_env.py``.
"""

from __future__ import annotations

import hashlib
import logging
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cinder import context as cinder_context
from cinder import objects
from cinder.volume import configuration, group_types, qos_specs, volume_types
from oslo_config import cfg
from tests.support.standin29 import PASSWORD, USERNAME, StandIn
from tests.support.standin29_tls import Authority
from tests.support.vpool_service import VpoolService

objects.register_all()

import cinder.privsep  # noqa: E402
import cinder.volume.manager  # noqa: E402
from cinder.db import api as db  # noqa: E402
from cinder.db import migration  # noqa: E402

from openvstorage.cinder.driver import OpenvStorageEdgeVolumeDriver  # noqa: E402

GIB = 1024**3
CONF = cfg.CONF
SECRETS = {PASSWORD}
PROJECT = "3f5b8a0e7c1d4c0c9e2f6a7b8c9d0e1f"


@pytest.fixture(scope="session", autouse=True)
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """An empty Cinder database in a file."""
    directory = tmp_path_factory.mktemp("cinder")
    CONF([], project="cinder", default_config_files=[])
    CONF.set_override("connection", f"sqlite:///{directory}/cinder.sqlite", group="database")
    CONF.set_override("state_path", str(directory))
    CONF.set_override("image_conversion_dir", str(directory / "conversion"))
    (directory / "conversion").mkdir()
    # Cinder's format inspection would start a privileged daemon through sudo.
    cinder.privsep.sys_admin_pctxt.set_client_mode(False)
    migration.db_sync()
    yield
    CONF.reset()


@pytest.fixture
def context() -> Any:
    return cinder_context.RequestContext("user", PROJECT, is_admin=True)


@pytest.fixture(scope="session")
def volume_type() -> Any:
    admin = cinder_context.get_admin_context()
    return db.volume_type_create(admin, {"name": "vpool", "extra_specs": {}})


@pytest.fixture
def make_volume(context: Any, volume_type: Any) -> Callable[..., Any]:
    """Give volumes that are in Cinder's database."""

    def make(size: int = 1, **fields: Any) -> Any:
        values = {"size": size, "status": "creating", "volume_type_id": volume_type["id"], "multiattach": False}
        values.update({"project_id": PROJECT, "user_id": "user", "host": "host@backend#pool", **fields})
        volume = objects.Volume(context, **values)
        volume.create()
        return volume

    return make


@pytest.fixture
def make_snapshot(context: Any) -> Callable[..., Any]:
    def make(volume: Any, **fields: Any) -> Any:
        values = {"volume_id": volume.id, "volume_size": volume.size, "status": "creating", "project_id": PROJECT}
        snapshot = objects.Snapshot(context, user_id="user", volume_type_id=volume.volume_type_id, **values, **fields)
        snapshot.create()
        return snapshot

    return make


@pytest.fixture
def make_type(context: Any) -> Callable[..., Any]:
    """Give volume types with QoS specs."""

    def make(consumer: str = "back-end", **specs: str) -> Any:
        kind = volume_types.create(context, f"type-{uuid.uuid4()}")
        if specs:
            found = qos_specs.create(context, f"qos-{uuid.uuid4()}", {"consumer": consumer, **specs})
            qos_specs.associate_qos_with_type(context, found.id, kind["id"])
        return objects.VolumeType.get_by_id(context, kind["id"])

    return make


def read_by_user(volume: Any) -> str:
    """Give what Cinder's message of a volume and the volume itself say to its user of a refusal."""
    user = cinder_context.RequestContext("user", PROJECT)
    (message,) = [found for found in db.message_get_all(user) if found["resource_uuid"] == volume.id]
    assert message["message_level"] == "ERROR"
    return str(objects.Volume.get_by_id(user, volume.id).metadata["openvstorage_refused"])


@pytest.fixture
def make_group(context: Any, volume_type: Any) -> Callable[..., Any]:
    """Give groups, of a type that asks for consistent snapshots unless told otherwise."""

    def make(consistent: bool = True) -> Any:
        specs = {"consistent_group_snapshot_enabled": "<is> True"} if consistent else {}
        name = f"type-{len(group_types.get_all_group_types(context))}"
        kind = group_types.create(context, name, specs)
        group = objects.Group(
            context, group_type_id=kind.id, project_id=PROJECT, user_id="user", status="available", host="h@b#p"
        )
        group.volume_type_ids = [volume_type["id"]]
        group.create()
        return group

    return make


@pytest.fixture
def make_group_snapshot(context: Any) -> Callable[..., Any]:
    """Give group snapshots, with the volumes put into the group."""

    def make(group: Any, volumes: list[Any]) -> Any:
        for volume in volumes:
            volume.group_id = group.id
            volume.save()
        values = {"group_id": group.id, "group_type_id": group.group_type_id, "project_id": PROJECT}
        group_snapshot = objects.GroupSnapshot(context, user_id="user", status="creating", **values)
        group_snapshot.create()
        return group_snapshot

    return make


@pytest.fixture
def attach(context: Any) -> Callable[..., Any]:
    """Record an attachment in Cinder's database, as the attachments API does around the driver's calls."""

    def make(volume: Any, host: str | None, instance: str | None = None) -> Any:
        attachment = objects.VolumeAttachment(
            context, volume_id=volume.id, instance_uuid=instance, attach_status="reserved", attach_mode="rw"
        )
        if host:
            attachment.connector = {"host": host}
        attachment.create()
        return attachment

    return make


@pytest.fixture
def configure(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Give a backend's configuration, read from a file as cinder-volume reads it."""
    saved = {name: CONF[name] for name in ("state_path", "image_conversion_dir")}
    connection = CONF.database.connection

    def make(section: dict[str, Any], name: str = "myvpool01", defaults: dict[str, Any] | None = None) -> Any:
        path = tmp_path / f"{name}.conf"
        groups = {name: section, "backend_defaults": defaults or {}}
        lines = [
            [f"[{group}]", *(f"{key} = {value}" for key, value in values.items())] for group, values in groups.items()
        ]
        path.write_text("\n".join("\n".join(group) for group in lines))
        CONF([], project="cinder", default_config_files=[str(path)])
        CONF.set_override("connection", connection, group="database")
        for key, value in saved.items():
            CONF.set_override(key, value)
        return configuration.Configuration(cinder.volume.manager.volume_backend_opts, config_group=name)

    yield make
    CONF([], project="cinder", default_config_files=[])
    CONF.set_override("connection", connection, group="database")
    for key, value in saved.items():
        CONF.set_override(key, value)


def set_up(backend: Any, context: Any) -> OpenvStorageEdgeVolumeDriver:
    """Start a driver as the volume manager does."""
    driver = OpenvStorageEdgeVolumeDriver(configuration=backend, host="host@backend")
    driver.do_setup(context)
    driver.check_for_setup_error()
    driver.set_initialized()
    return driver


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def standin(authority: Authority) -> Iterator[StandIn]:
    with StandIn(authority.issue("127.0.0.1", "127.0.0.2")) as server:
        yield server


@pytest.fixture
def standin_section(standin: StandIn, authority: Authority) -> dict[str, Any]:
    """The guide's backend section for a 2.9 cluster, plus the CA that the guide had no option for."""
    return {
        "volume_backend_name": "myvpool01",
        "management_ips": "127.0.0.1, 127.0.0.2",
        "vpool_guid": standin.cluster.vpool_guid,
        "username": USERNAME,
        "password": PASSWORD,
        "port": standin.port,
        "openvstorage_ca_file": authority.ca_file,
    }


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VpoolService]:
    with VpoolService(tmp_path_factory.mktemp("vpool")) as running:
        yield running


@pytest.fixture
def service_section(service: VpoolService) -> dict[str, Any]:
    status = service.status
    password = Path(status["password_file"]).read_text().strip()
    SECRETS.add(password)
    return {
        "volume_backend_name": "myvpool01",
        "openvstorage_management_ips": ",".join(status["management_ips"]),
        "openvstorage_port": status["port"],
        "openvstorage_username": status["username"],
        "openvstorage_password": password,
        "openvstorage_vpool_guid": status["vpool_guid"],
        "openvstorage_ca_file": status["ca_file"],
    }


@pytest.fixture(params=["service", "standin"])
def any_driver(request: pytest.FixtureRequest, configure: Callable[..., Any], context: Any) -> Any:
    """The driver on our own service, and on a cluster of Open vStorage 2.9."""
    return set_up(configure(request.getfixturevalue(f"{request.param}_section")), context)


@pytest.fixture
def driver(service_section: dict[str, Any], configure: Callable[..., Any], context: Any) -> Any:
    """The driver on our own service."""
    return set_up(configure(service_section), context)


@pytest.fixture
def standin_driver(standin_section: dict[str, Any], configure: Callable[..., Any], context: Any) -> Any:
    return set_up(configure(standin_section), context)


@pytest.fixture
def glance() -> FakeGlance:
    return FakeGlance()


class FakeGlance:
    """Cinder's image service with the images in memory. The real one is in the all-in-one's tests."""

    def __init__(self) -> None:
        self.images: dict[str, tuple[dict[str, Any], bytes]] = {}
        self.temp_images = None
        self.downloads = 0

    def add(self, image_id: str, data: bytes, **meta: Any) -> dict[str, Any]:
        known = {"id": image_id, "disk_format": "raw", "container_format": "bare", "size": len(data), "properties": {}}
        self.images[image_id] = ({**known, **meta}, data)
        return self.images[image_id][0]

    def show(self, context: Any, image_id: str) -> dict[str, Any]:
        return self.images[image_id][0]

    def get_location(self, context: Any, image_id: str) -> Any:
        return None, None

    def download(self, context: Any, image_id: str, data: Any = None) -> None:
        self.downloads += 1
        content = self.images[image_id][1]
        for at in range(0, len(content), 65536):
            data.write(content[at : at + 65536])

    def update(self, context: Any, image_id: str, meta: dict[str, Any], data: Any, **options: Any) -> None:
        pieces = iter(lambda: data.read(65536), b"")
        self.images[image_id] = (self.images[image_id][0], b"".join(pieces))

    def sha256(self, image_id: str) -> str:
        return hashlib.sha256(self.images[image_id][1]).hexdigest()


@pytest.fixture(autouse=True)
def no_secret_in_any_log(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Every test runs at debug level, and none of them may log a password or a token."""
    caplog.set_level(logging.DEBUG)
    yield
    records = [record for phase in ("setup", "call") for record in caplog.get_records(phase)]
    text = "\n".join(logging.Formatter().format(record) for record in records)
    for secret in SECRETS:
        assert secret not in text
    assert "Bearer ey" not in text
