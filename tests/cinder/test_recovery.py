"""What a cinder-volume that died left half done, ended by the next one: in Cinder's database and on the service."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from cinder import exception, objects, quota
from cinder.volume import rpcapi
from keystoneauth1 import loading
from oslo_config import cfg
from tests.cinder.conftest import GIB, PROJECT

from openvstorage.cinder.transfer import opened, transfer
from openvstorage.client import Qos

CONF = cfg.CONF
Make = Callable[..., Any]
ONE, OTHER = "11111111-0000-4000-8000-000000000000", "22222222-0000-4000-8000-000000000000"


@pytest.fixture
def volume(driver: Any, make_volume: Make) -> Any:
    volume = make_volume()
    volume.update({**driver.create_volume(volume), "status": "available"})
    volume.save()
    return volume


@pytest.fixture
def nova() -> Iterator[list[dict[str, Any]]]:
    """A Nova that keeps the events that it is told of, in this list."""
    told: list[dict[str, Any]] = []

    class Answers(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            events = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["events"]
            told.extend(events)
            text = json.dumps({"events": [{**event, "status": "completed", "code": 200} for event in events]}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_words: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        CONF.import_opt("auth_type", "cinder.compute.nova", group="nova")
        CONF.register_opts(loading.get_auth_plugin_conf_options("none"), group="nova")
        CONF.set_override("auth_type", "none", group="nova")
        CONF.set_override("endpoint", f"http://127.0.0.1:{server.server_port}", group="nova")
        yield told
        CONF.clear_override("auth_type", group="nova")
        CONF.clear_override("endpoint", group="nova")
        server.shutdown()


def take(driver: Any, snapshot: Any) -> Any:
    snapshot.update({**driver.create_snapshot(snapshot), "status": "available"})
    snapshot.save()
    return snapshot


def set_status(thing: Any, status: str, **fields: Any) -> None:
    thing.update({"status": status, **fields})
    thing.save()


def restart(driver: Any, *things: Any) -> None:
    """Do what Cinder does with a driver at the start of the process, and read again what it has been about."""
    volumes = [thing for thing in things if isinstance(thing, objects.Volume)]
    snapshots = [thing for thing in things if isinstance(thing, objects.Snapshot)]
    assert driver.update_provider_info(volumes, snapshots) == (None, None)
    for thing in things:
        thing.refresh()


def gigabytes(context: Any) -> int:
    # Cinder counts what is there when a project's quota is used first.
    quota.QUOTAS.commit(context, quota.QUOTAS.reserve(context, project_id=PROJECT, gigabytes=0), project_id=PROJECT)
    return int(quota.QUOTAS.get_project_quotas(context, PROJECT)["gigabytes"]["in_use"])


def write(driver: Any, volume: Any, text: bytes) -> None:
    with opened(driver.pool, volume.provider_id, "rw") as nbd:
        nbd.write(0, text.ljust(512))
        nbd.flush()


def read(driver: Any, volume: Any) -> bytes:
    with opened(driver.pool, volume.provider_id, "ro") as nbd:
        return bytes(nbd.read(0, 512).strip())


def holders(driver: Any, volume: Any) -> list[str]:
    return sorted(grant.client for grant in driver.pool.client.grants.list(volume.provider_id))


def test_a_volume_that_grew_has_its_size_and_its_project_pays(driver: Any, volume: Any, context: Any) -> None:
    before = gigabytes(context)
    driver.extend_volume(volume, 3)
    set_status(volume, "extending")
    restart(driver, volume)
    assert (volume.status, volume.size) == ("available", 3)
    assert gigabytes(context) == before + 2
    driver.delete_volume(volume)


def test_a_volume_that_did_not_grow_is_as_it_was(driver: Any, volume: Any, attach: Make, context: Any) -> None:
    before = gigabytes(context)
    attach(volume, "host1", ONE)
    set_status(volume, "extending", previous_status="in-use")
    restart(driver, volume)
    assert (volume.status, volume.size) == ("in-use", 1)
    assert gigabytes(context) == before
    driver.delete_volume(volume)


def test_the_guest_of_a_volume_that_grew_is_told(
    driver: Any, volume: Any, attach: Make, nova: list[dict[str, Any]]
) -> None:
    attach(volume, "host1", ONE)
    driver.extend_volume(volume, 3)
    set_status(volume, "extending", previous_status="in-use")
    restart(driver, volume)
    assert (volume.status, volume.size) == ("in-use", 3)
    assert nova == [{"name": "volume-extended", "server_uuid": ONE, "tag": volume.id}]
    driver.delete_volume(volume)


def test_without_nova_a_volume_that_grew_is_at_rest_all_the_same(driver: Any, volume: Any, attach: Make) -> None:
    attach(volume, "host1", ONE)
    driver.extend_volume(volume, 3)
    set_status(volume, "extending", previous_status="in-use")
    restart(driver, volume)
    assert (volume.status, volume.size) == ("in-use", 3)
    driver.delete_volume(volume)


@pytest.mark.parametrize("cut", ["before the vPool had it", "after"])
def test_a_revert_is_done_again(driver: Any, volume: Any, make_snapshot: Make, context: Any, cut: str) -> None:
    write(driver, volume, b"then")
    snapshot = take(driver, make_snapshot(volume))
    write(driver, volume, b"now")
    driver.extend_volume(volume, 2)
    volume.size = 2
    if cut == "after":
        driver.pool.client.vdisks.rollback(volume.provider_id, snapshot.provider_id, keep_newer=True)
    set_status(volume, "reverting", previous_status="available")
    set_status(snapshot, "restoring")
    restart(driver, volume, snapshot)
    assert (volume.status, snapshot.status) == ("available", "available")
    assert read(driver, volume) == b"then"
    assert driver.pool.size(volume.provider_id) == 2
    driver.delete_volume(volume)


def test_a_revert_that_cannot_be_done_again_is_an_error(driver: Any, volume: Any, make_snapshot: Make) -> None:
    snapshot = take(driver, make_snapshot(volume))
    driver.delete_snapshot(snapshot)
    set_status(volume, "reverting")
    set_status(snapshot, "restoring")
    restart(driver, volume, snapshot)
    assert (volume.status, snapshot.status) == ("error", "available")
    driver.delete_volume(volume)


def test_a_retype_that_cinder_does_not_know_of_is_taken_back(
    driver: Any, make_volume: Make, make_type: Make, context: Any
) -> None:
    old, new = make_type(total_iops_sec="10"), make_type(total_iops_sec="9000")
    volume = make_volume(volume_type_id=old.id)
    volume.update(driver.create_volume(volume))
    driver.retype(context, volume, new, {}, {"host": "host@backend#pool"})
    set_status(volume, "retyping", previous_status="available")
    restart(driver, volume)
    assert volume.status == "available"
    assert driver.pool.client.vdisks.get(volume.provider_id).qos == Qos(iops_total=10)
    driver.delete_volume(volume)


def test_managing_and_unmanaging_have_an_end(driver: Any, volume: Any, make_volume: Make) -> None:
    managed = make_volume(status="managing")
    set_status(volume, "unmanaging")
    restart(driver, volume, managed)
    assert (volume.status, managed.status) == ("available", "error_managing")
    driver.delete_volume(volume)


@pytest.mark.parametrize(("doing", "afterwards"), [("uploading", "available"), ("downloading", "error")])
def test_a_copy_of_an_image_has_an_end(
    driver: Any, volume: Any, make_volume: Make, doing: str, afterwards: str
) -> None:
    known = make_volume(status=doing)
    known.create_worker()
    # By a conditional update, as the API does it: that leaves no record of the work.
    assert volume.conditional_update({"status": doing}, {"status": "available"})
    restart(driver, volume, known)
    assert (volume.status, known.status) == (afterwards, doing)
    driver.delete_volume(volume)


def test_a_snapshot_that_was_being_deleted_can_be_deleted_again(driver: Any, volume: Any, make_snapshot: Make) -> None:
    going, unmanaged = take(driver, make_snapshot(volume)), take(driver, make_snapshot(volume))
    set_status(going, "deleting")
    set_status(unmanaged, "unmanaging")
    restart(driver, volume, going, unmanaged)
    assert (going.status, unmanaged.status) == ("error", "available")
    driver.delete_snapshot(going)
    driver.delete_volume(volume)


def test_snapshots_of_a_volume_that_cinder_goes_on_deleting_are_left_to_it(
    driver: Any, volume: Any, make_snapshot: Make
) -> None:
    snapshot = take(driver, make_snapshot(volume))
    set_status(snapshot, "deleting")
    set_status(volume, "deleting")
    restart(driver, volume, snapshot)
    assert (volume.status, snapshot.status) == ("deleting", "deleting")
    driver.delete_volume(volume)


def test_a_snapshot_that_cinder_knows_to_be_at_work_on_is_left_to_it(
    driver: Any, volume: Any, make_snapshot: Make
) -> None:
    known, unknown = make_snapshot(volume), make_snapshot(volume)
    known.create_worker()
    restart(driver, volume, known, unknown)
    assert (known.status, unknown.status) == ("creating", "error")
    driver.delete_volume(volume)


@pytest.mark.parametrize("doing", ["creating", "deleting"])
def test_a_group_snapshot_can_be_deleted(
    driver: Any,
    volume: Any,
    make_snapshot: Make,
    make_group: Make,
    make_group_snapshot: Make,
    context: Any,
    doing: str,
) -> None:
    group = make_group()
    set_status(volume, "available", host="h@b#p")
    taken = make_group_snapshot(group, [volume])
    snapshot = make_snapshot(volume, group_snapshot_id=taken.id)
    driver.create_group_snapshot(context, taken, [snapshot])
    set_status(taken, doing)
    set_status(snapshot, doing)
    restart(driver, volume, snapshot)
    taken.refresh()
    assert (taken.status, snapshot.status) == ("error", "error")
    _, updates = driver.delete_group_snapshot(context, taken, [snapshot])
    assert [update["status"] for update in updates] == ["deleted"]
    assert driver.pool.client.snapshots.list(volume.provider_id) == []
    driver.delete_volume(volume)


def test_a_group_that_was_being_deleted_can_be_deleted_again(
    driver: Any, volume: Any, make_group: Make, context: Any
) -> None:
    group = make_group()
    set_status(volume, "deleting", host="h@b#p", group_id=group.id)
    set_status(group, "deleting")
    restart(driver, volume)
    group.refresh()
    assert (group.status, volume.status) == ("error", "error")
    driver.delete_volume(volume)


def test_a_half_copy_on_another_backend_is_deleted(
    driver: Any, volume: Any, make_volume: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    deleted: list[str] = []
    monkeypatch.setattr(rpcapi.VolumeAPI, "__init__", lambda self: None)
    monkeypatch.setattr(rpcapi.VolumeAPI, "delete_volume", lambda self, context, target: deleted.append(target.id))
    target = make_volume(migration_status=f"target:{volume.id}", host="other@backend#pool")
    make_volume(migration_status=f"target:{uuid.uuid4()}", host="other@backend#pool")
    set_status(volume, "retyping", migration_status="migrating", previous_status="available")
    restart(driver, volume)
    assert (volume.status, volume.migration_status) == ("available", "error")
    assert deleted == [target.id]
    driver.delete_volume(volume)


def test_a_migration_that_was_being_completed_is_not_touched(driver: Any, volume: Any) -> None:
    set_status(volume, "retyping", migration_status="completing", previous_status="available")
    restart(driver, volume)
    assert (volume.status, volume.migration_status) == ("retyping", "completing")
    driver.delete_volume(volume)


def test_transfers_and_unknown_grants_go_at_the_start_and_others_stay(
    driver: Any, volume: Any, make_volume: Make, make_snapshot: Make, attach: Make
) -> None:
    grants, snapshot = driver.pool.client.grants, take(driver, make_snapshot(volume))
    attached = make_volume(status="available")
    attached.update(driver.create_volume(attached))
    attached.save()
    copied = make_volume(status="available", migration_status="migrating-elsewhere")
    copied.update(driver.create_volume(copied))
    copied.save()
    for each in (volume, attached, copied):
        grants.create(each.provider_id, "host1", f"instance-{ONE}")
        grants.create(each.provider_id, "transferring", f"transfer-{uuid.uuid4()}", "ro")
    grants.create(volume.provider_id, "backup", f"snapshot-{snapshot.id}", "ro", snapshot.provider_id)
    attach(attached, "host1", ONE)
    stranger = make_volume(status="available")
    stranger.update(driver.create_volume(stranger))
    grants.create(stranger.provider_id, "host1", f"instance-{ONE}")
    restart(driver, volume, attached, copied)
    assert holders(driver, volume) == ["backup"]
    assert holders(driver, attached) == holders(driver, copied) == holders(driver, stranger) == ["host1"]
    for each in (volume, attached, copied, stranger):
        for grant in grants.list(each.provider_id):
            grants.revoke(grant.guid)
        driver.delete_volume(each)


def test_in_a_cluster_of_services_nothing_is_touched(driver: Any, volume: Any) -> None:
    set_status(volume, "extending")
    driver.cluster_name = "cluster@backend"
    restart(driver, volume)
    assert volume.status == "extending"
    driver.delete_volume(volume)


def test_one_volume_without_its_vdisk_does_not_keep_the_others(driver: Any, volume: Any, make_volume: Make) -> None:
    lost = make_volume(status="extending", provider_id=str(uuid.uuid4()))
    set_status(volume, "extending")
    restart(driver, lost, volume)
    assert (lost.status, volume.status) == ("extending", "available")
    driver.delete_volume(volume)


def connect(driver: Any, volume: Any, host: str) -> dict[str, Any]:
    return dict(driver.initialize_connection(volume, {"host": host}))


def test_a_grant_without_an_attachment_makes_room(driver: Any, volume: Any, attach: Make) -> None:
    """The process died between the grant and Cinder's database; then Nova gave up and dropped its attachment."""
    driver.pool.client.grants.create(volume.provider_id, "host1", f"instance-{ONE}")
    attach(volume, None, OTHER)
    connect(driver, volume, "host2")
    assert holders(driver, volume) == ["host2"]
    driver.terminate_connection(volume, None)
    driver.delete_volume(volume)


@pytest.mark.parametrize(("host", "instance"), [("host1", ONE), ("host1", None), (None, ONE)])
def test_a_grant_with_an_attachment_makes_none(
    driver: Any, volume: Any, attach: Make, host: str | None, instance: str | None
) -> None:
    driver.pool.client.grants.create(volume.provider_id, "host1", f"instance-{ONE}")
    attach(volume, host, instance)
    # A consumer of its own, as for a process without an attachment.
    volume.multiattach = True
    with pytest.raises(exception.CinderException, match="in use"):
        connect(driver, volume, "host2")
    assert holders(driver, volume) == ["host1"]
    driver.terminate_connection(volume, None)
    driver.delete_volume(volume)


def test_a_revert_makes_room_too(driver: Any, volume: Any, make_snapshot: Make, context: Any) -> None:
    snapshot = take(driver, make_snapshot(volume))
    driver.pool.client.grants.create(volume.provider_id, "host1", f"instance-{ONE}")
    driver.revert_to_snapshot(context, volume, snapshot)
    assert holders(driver, volume) == []
    driver.delete_volume(volume)


def test_a_transfer_of_a_dead_process_is_not_the_next_ones_trouble(driver: Any, volume: Any) -> None:
    with transfer(driver.pool, volume.provider_id, "rw"):
        restart(driver, volume)
        assert holders(driver, volume) == []
    driver.delete_volume(volume)


def test_size_is_what_the_vdisk_has(driver: Any, volume: Any) -> None:
    assert driver.pool.client.vdisks.get(volume.provider_id).size == GIB
    assert driver.pool.size(volume.provider_id) == 1
    driver.delete_volume(volume)
