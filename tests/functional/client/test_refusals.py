"""What our own service refuses, made for real: each has a class of its own in the library."""

import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.vpool_service import VpoolService

from openvstorage.client import (
    Client,
    DaemonFailed,
    GrantRefused,
    InUse,
    InvalidSize,
    IsATemplate,
    NameTaken,
    NoPortLeft,
    NotATemplate,
    NotFound,
    NotPossible,
    PoolFull,
    Refused,
    ShrinkRefused,
    SnapshotHasClones,
    SnapshotInUse,
    SnapshotNotFound,
    TaskFailed,
    TimestampNotFound,
    TooLarge,
    VDiskHasClones,
    VDiskInUse,
    VDiskNotFound,
    VDiskRunning,
    failures,
)

GIB = 1024**3
NOBODY = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def api(vpool_service: VpoolService) -> Iterator[Client]:
    with Client.from_status(vpool_service.status) as client:
        yield client


@pytest.fixture
def vpool(vpool_service: VpoolService) -> str:
    return str(vpool_service.status["vpool_guid"])


@pytest.fixture
def name() -> str:
    return f"volume-{uuid.uuid4()}"


@pytest.fixture
def disk(api: Client, vpool: str, name: str) -> Iterator[str]:
    guid = api.vdisks.create(name, GIB, vpool)
    yield guid
    api.vdisks.delete(guid, force=True)


def refused(kind: type[Refused], call: object, *args: object, **options: object) -> Refused:
    """Call and see it refused by exactly this class."""
    with pytest.raises(kind) as caught:
        call(*args, **options)  # type: ignore[operator]
    assert type(caught.value) is kind
    return caught.value


def test_names_and_sizes(api: Client, vpool: str, disk: str, name: str) -> None:
    refused(NameTaken, api.vdisks.create, name, GIB, vpool)
    refused(InvalidSize, api.vdisks.create, f"{name}-2", 513, vpool)
    refused(TooLarge, api.vdisks.create, f"{name}-2", 65 * 1024 * GIB, vpool)
    refused(ShrinkRefused, api.vdisks.extend, disk, GIB // 2)


def test_what_is_not_there(api: Client, disk: str) -> None:
    refused(NotFound, api.vdisks.get, NOBODY)
    refused(SnapshotNotFound, api.snapshots.delete, disk, NOBODY)
    refused(NotFound, api.grants.create, disk, "host1", "backup", "ro", NOBODY)
    refused(VDiskNotFound, api.snapshots.create_group, api.vdisks.get(disk).vpool_guid, [NOBODY], "s")
    refused(TimestampNotFound, api.tasks.run, f"vdisks/{disk}/rollback/", {"timestamp": "12"})


def test_what_is_in_use(api: Client, disk: str) -> None:
    snapshot = api.snapshots.create(disk, "s")
    reader = api.grants.create(disk, "host1", "backup", "ro", snapshot)
    api.grants.create(disk, "host1", "instance-1")
    refused(SnapshotInUse, api.snapshots.delete, disk, snapshot)
    refused(GrantRefused, api.grants.create, disk, "host2", "instance-2")
    refused(VDiskInUse, api.vdisks.delete, disk)
    refused(VDiskInUse, api.vdisks.rollback, disk, snapshot)
    refused(VDiskRunning, api.tasks.run, f"vdisks/{disk}/restart/", {})
    api.grants.revoke(reader.guid)
    api.snapshots.delete(disk, snapshot)


def test_templates(api: Client, vpool: str, disk: str, name: str) -> None:
    refused(NotATemplate, api.tasks.run, f"vdisks/{disk}/create_from_template/", {"name": f"{name}-2"})
    copy = api.vdisks.clone(disk, f"{name}-2")
    refused(VDiskHasClones, api.tasks.run, f"vdisks/{disk}/set_as_template/", {})
    refused(NotPossible, api.tasks.run, f"vdisks/{copy}/set_as_template/", {})
    api.vdisks.delete(copy)
    refused(NotPossible, api.tasks.run, f"vdisks/{disk}/set_config_params/", {"new_config_params": {"x": 1}})
    api.tasks.run(f"vdisks/{disk}/set_as_template/", {})
    refused(IsATemplate, api.vdisks.extend, disk, 2 * GIB)


def test_a_service_that_runs_short(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    config = {"strict_compat": True, "first_port": 26490, "last_port": 26490}
    (data / "config.json").write_text(json.dumps(config))
    with VpoolService(data) as service:
        with Client.from_status(service.status) as api:
            vpool = str(service.status["vpool_guid"])
            disks = [api.vdisks.create(f"volume-{number}", GIB, vpool) for number in range(2)]
            snapshot = api.snapshots.create(disks[0], "s")
            api.vdisks.clone(disks[0], "clone", snapshot)
            refused(VDiskHasClones, api.vdisks.delete, disks[0])
            refused(SnapshotHasClones, api.snapshots.delete, disks[0], snapshot)
            grant = api.grants.create(disks[0], "host1", "instance-1")
            refused(NoPortLeft, api.grants.create, disks[1], "host1", "instance-2")
            api.grants.revoke(grant.guid)
            for layer in (data / "layers").rglob("*.qcow2"):
                layer.chmod(0o600)
                layer.write_bytes(b"no image")
            error = refused(DaemonFailed, api.grants.create, disks[1], "host1", "instance-2")
            assert isinstance(error, TaskFailed)
        kept = json.loads((data / "config.json").read_text())
        (data / "config.json").write_text(json.dumps(kept | {"low_water_mib": 2**40}))
        service.restart()
        with Client.from_status(service.status) as api:
            refused(PoolFull, api.vdisks.create, "volume-3", GIB, vpool)


def test_by_words_the_branch_is_all_that_can_be_told(api: Client, disk: str) -> None:
    """As a library without codes, or with a service without them, goes on."""
    snapshot = api.snapshots.create(disk, "s")
    reader = api.grants.create(disk, "host1", "backup", "ro", snapshot)
    error = refused(SnapshotInUse, api.snapshots.delete, disk, snapshot)
    assert type(failures.from_task("t", error.description)) is InUse
    api.grants.revoke(reader.guid)
