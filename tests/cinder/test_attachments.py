"""Attachments against the real service: who gets in, who stays out, and who is put out."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cinder import exception, objects
from cinder.volume import volume_utils
from oslo_utils import strutils
from tests.cinder.conftest import set_up
from tests.support.patience import PATIENCE
from tests.support.vpool_service import VpoolService

from openvstorage.cinder.transfer import transfer
from openvstorage.client import NotFound
from openvstorage.client.resolve import resolve
from openvstorage.edge.errors import EdgeError
from openvstorage.edge.nbd import NbdClient

Make = Callable[..., Any]
ONE, OTHER = "11111111-0000-4000-8000-000000000000", "22222222-0000-4000-8000-000000000000"
BLOCK = b"b" * 4096
MIB = 1024**2


@pytest.fixture
def volume(driver: Any, make_volume: Make) -> Any:
    volume = make_volume()
    volume.update(driver.create_volume(volume))
    volume.save()
    return volume


def attach_host(driver: Any, volume: Any, host: str) -> dict[str, Any]:
    connector = {"host": host, "ip": "127.0.0.1"}
    driver.validate_connector(connector)
    driver.create_export(None, volume, connector)
    return dict(driver.initialize_connection(volume, connector))


def open_as(info: dict[str, Any]) -> NbdClient:
    data = info["data"]
    return NbdClient.connect(data["hosts"][0], int(data["ports"][0]), data["name"], timeout=PATIENCE)


def grants(driver: Any, volume: Any) -> list[Any]:
    return list(driver.pool.client.grants.list(volume.provider_id))


def test_a_host_can_write_until_it_is_detached(driver: Any, volume: Any, attach: Make) -> None:
    attach(volume, "host1", ONE)
    info = attach_host(driver, volume, "host1")
    with open_as(info) as disk:
        disk.write(0, BLOCK)
        disk.flush()
        assert driver.terminate_connection(volume, {"host": "host1"}) is False
        with pytest.raises(EdgeError):
            disk.write(0, b"x" * 4096)
    with pytest.raises(EdgeError):
        open_as(info)
    assert grants(driver, volume) == []
    driver.terminate_connection(volume, {"host": "host1"})


def test_what_nova_is_told_has_no_path_and_no_secret(
    driver: Any, volume: Any, attach: Make, service: VpoolService
) -> None:
    attach(volume, "host1", ONE)
    info = attach_host(driver, volume, "host1")
    text = json.dumps(info)
    assert info["driver_volume_type"] == "openvstorage_edge"
    assert "device_path" not in info["data"]
    assert info["data"]["resolvers"] == [f"https://127.0.0.1:{service.status['port']}"]
    assert info["data"]["grant"] == grants(driver, volume)[0].guid
    assert all(isinstance(port, str) for port in info["data"]["ports"])
    assert info["data"]["secret"] not in str(strutils.mask_dict_password(info["data"])), "Cinder logs it so"
    for secret in (Path(service.status["password_file"]).read_text().strip(), service.status["username"] + ":"):
        assert secret not in text
    driver.terminate_connection(volume, None)


def test_a_host_finds_its_grant_with_what_it_was_told(driver: Any, volume: Any, attach: Make) -> None:
    attach(volume, "host1", ONE)
    data = attach_host(driver, volume, "host1")["data"]
    location = resolve(json.loads(json.dumps(data)))
    assert location is not None
    assert location.properties == {key: data[key] for key in ("name", "hosts", "ports", "tls")}
    driver.terminate_connection(volume, None)
    with pytest.raises(NotFound):
        resolve(data)


@pytest.mark.parametrize("written", [",{}", "{},,{}", "[::1],{}", "::1 , {} ,"])
def test_addresses_are_handed_on_as_the_driver_itself_uses_them(
    written: str, service_section: dict[str, Any], configure: Make, context: Any, make_volume: Make, attach: Make
) -> None:
    addresses = {"openvstorage_management_ips": written.format("127.0.0.1", "127.0.0.1")}
    driver = set_up(configure({**service_section, **addresses}), context)
    volume = make_volume()
    volume.update(driver.create_volume(volume))
    attach(volume, "host1", ONE)
    data = attach_host(driver, volume, "host1")["data"]
    port = service_section["openvstorage_port"]
    ipv6 = [f"https://[::1]:{port}"] if "::1" in written else []
    assert data["resolvers"] == [*ipv6, f"https://127.0.0.1:{port}"]
    assert resolve(data) is not None
    driver.terminate_connection(volume, None)
    driver.delete_volume(volume)


def test_asking_again_gives_the_same_grant(driver: Any, volume: Any, attach: Make) -> None:
    attach(volume, "host1", ONE)
    assert attach_host(driver, volume, "host1") == attach_host(driver, volume, "host1")
    assert len(grants(driver, volume)) == 1
    driver.terminate_connection(volume, None)


def test_an_instance_is_refused_where_another_host_has_the_volume_which_writes_on(
    driver: Any, volume: Any, attach: Make
) -> None:
    attach(volume, "host1")
    with open_as(attach_host(driver, volume, "host1")) as disk:
        attach(volume, None, OTHER)
        with pytest.raises(exception.VolumeBackendAPIException, match="in use"):
            attach_host(driver, volume, "host2")
        driver.remove_export(None, volume)
        disk.write(0, BLOCK)
        disk.flush()
    driver.terminate_connection(volume, None)


def test_live_migration_has_both_hosts_and_then_only_the_new_one(driver: Any, volume: Any, attach: Make) -> None:
    source = attach(volume, "host1", ONE)
    with open_as(attach_host(driver, volume, "host1")) as old:
        attach(volume, None, ONE)
        with open_as(attach_host(driver, volume, "host2")) as new:
            old.write(0, BLOCK)
            old.flush()
            assert new.read(0, 4096) == BLOCK
            driver.terminate_connection(volume, {"host": "host1"})
            driver.remove_export(None, volume)
            source.destroy()
            with pytest.raises(EdgeError):
                old.write(0, b"x" * 4096)
            new.write(4096, BLOCK)
            new.flush()
            assert new.read(0, 4096) == BLOCK
    driver.terminate_connection(volume, None)


def test_multiattach_lets_instances_share(driver: Any, make_volume: Make, attach: Make) -> None:
    volume = make_volume(multiattach=True)
    volume.update(driver.create_volume(volume))
    volume.save()
    attach(volume, "host1", ONE)
    one = attach_host(driver, volume, "host1")
    attach(volume, "host2", OTHER)
    other = attach_host(driver, volume, "host2")
    with open_as(one) as first, open_as(other) as second:
        first.write(0, BLOCK)
        first.flush()
        assert second.read(0, 4096) == BLOCK
        second.write(4096, BLOCK)
        second.flush()
        assert first.read(0, 8192) == BLOCK + BLOCK
        held = driver.pool.client.grants.list(volume.provider_id)
        assert {grant.consumer for grant in held} == {"host-host1", "host-host2"}
        driver.terminate_connection(volume, {"host": "host2"})
        first.write(0, BLOCK)
    driver.terminate_connection(volume, None)


def test_a_host_with_two_attachments_keeps_its_grant_for_the_second(
    driver: Any, make_volume: Make, attach: Make
) -> None:
    volume = make_volume(multiattach=True)
    volume.update(driver.create_volume(volume))
    volume.save()
    first = attach(volume, "host1", ONE)
    attach(volume, "host1", OTHER)
    with open_as(attach_host(driver, volume, "host1")) as disk:
        assert driver.terminate_connection(volume, {"host": "host1"}) is True
        first.destroy()
        disk.write(0, BLOCK)
        assert driver.terminate_connection(volume, {"host": "host1"}) is False
        with pytest.raises(EdgeError):
            disk.write(0, BLOCK)


def test_forced_detach_without_connector_puts_everybody_out(driver: Any, volume: Any, attach: Make) -> None:
    attach(volume, "host1", ONE)
    with open_as(attach_host(driver, volume, "host1")) as disk:
        driver.terminate_connection(volume, None, force=True)
        with pytest.raises(EdgeError):
            disk.write(0, BLOCK)
    driver.terminate_connection(volume, None, force=True)


def test_detaching_what_is_gone_succeeds(driver: Any, volume: Any, make_snapshot: Make) -> None:
    driver.pool.client.vdisks.delete(volume.provider_id)
    assert driver.terminate_connection(volume, {"host": "host1"}) is False
    assert driver.terminate_connection(volume, None, force=True) is False
    driver.terminate_connection_snapshot(make_snapshot(volume), {"host": "host1"})
    volume.provider_id = None
    assert driver.terminate_connection(volume, None, force=True) is False


def test_a_read_only_volume_cannot_be_written(driver: Any, volume: Any, attach: Make) -> None:
    volume.admin_metadata = {"readonly": "True"}
    attach(volume, "host1", ONE)
    with open_as(attach_host(driver, volume, "host1")) as disk:
        assert disk.info.read_only
    driver.terminate_connection(volume, None)


def test_an_attachment_that_is_asked_for_read_only_cannot_write(driver: Any, volume: Any, attach: Make) -> None:
    """As the attachments API hands its mode on: in the connector, and nowhere else."""
    attach(volume, "host1", ONE)
    with open_as(driver.initialize_connection(volume, {"host": "host1", "mode": "ro"})) as disk:
        assert disk.info.read_only
    assert [grant.mode for grant in grants(driver, volume)] == ["ro"]
    driver.terminate_connection(volume, {"host": "host1"})
    with open_as(driver.initialize_connection(volume, {"host": "host1", "mode": "rw"})) as disk:
        disk.write(0, BLOCK)
    driver.terminate_connection(volume, None)


def test_deleting_an_attached_volume_is_refused(driver: Any, volume: Any, attach: Make, context: Any) -> None:
    attach(volume, "host1", ONE)
    attach_host(driver, volume, "host1")
    with pytest.raises(exception.VolumeIsBusy):
        driver.delete_volume(objects.Volume.get_by_id(context, volume.id))
    driver.terminate_connection(volume, {"host": "host1"})
    driver.delete_volume(volume)


def test_a_grant_that_cinder_forgot_does_not_keep_a_volume_alive(driver: Any, volume: Any) -> None:
    driver.pool.client.grants.create(volume.provider_id, "host9", "instance-gone")
    driver.delete_volume(volume)
    assert driver.pool.client.vdisks.find(volume.name, driver.pool.vpool_guid) is None


def test_a_grown_volume_is_seen_by_who_connects_again(driver: Any, volume: Any, attach: Make) -> None:
    attach(volume, "host1", ONE)
    info = attach_host(driver, volume, "host1")
    driver.extend_volume(volume, 2)
    with open_as(info) as disk:
        assert disk.size == 2 * 1024**3
    driver.terminate_connection(volume, None)


def test_a_connector_without_a_host_is_refused(driver: Any) -> None:
    with pytest.raises(exception.InvalidConnectorException, match="host"):
        driver.validate_connector({"ip": "127.0.0.1"})


def test_hosts_of_an_old_cluster_get_the_edge_of_the_node_that_serves_now(
    standin_driver: Any, make_volume: Make, attach: Make
) -> None:
    volume = make_volume()
    volume.update(standin_driver.create_volume(volume))
    attach(volume, "host1", ONE)
    data = attach_host(standin_driver, volume, "host1")["data"]
    assert data["protocol"] == "openvstorage"
    assert data["name"] == volume.name
    assert data["transport"] == "tcp"
    assert socket.inet_aton(data["hosts"][0])
    assert standin_driver.terminate_connection(volume, {"host": "host1"}) is False


def test_a_thin_volume_stays_thin_when_cinder_copies_it(
    driver: Any, volume: Any, make_volume: Make, context: Any, service: VpoolService
) -> None:
    """All of it is read and written, as in a migration; a backup is restored through the same file."""

    def used() -> int:
        return sum(path.stat().st_blocks * 512 for path in service.data.rglob("*") if path.is_file())

    copy = make_volume()
    copy.update(driver.create_volume(copy))
    copy.save()
    properties = {"host": "cinder1", "ip": "127.0.0.1"}
    source, _volume = driver._attach_volume(context, volume, properties)
    source["device"]["path"].seek(500 * MIB)
    source["device"]["path"].write(BLOCK)
    source["device"]["path"].seek(0)
    target, _volume = driver._attach_volume(context, copy, properties)
    before = used()
    volume_utils.copy_volume(source["device"]["path"], target["device"]["path"], 1024, "4M")
    for attachment, of in ((source, volume), (target, copy)):
        driver._detach_volume(context, attachment, of, properties, force=True)
    assert used() - before < 32 * MIB
    with transfer(driver.pool, copy.provider_id, "ro") as grant:
        opened = NbdClient.connect(grant.host, grant.port, grant.export_name)
        assert opened.read(500 * MIB, 8192) == BLOCK + bytes(4096)
        opened.close()
    for done in (volume, copy):
        driver.delete_volume(done)


def test_cinder_copies_a_volume_through_os_brick(driver: Any, volume: Any, make_volume: Make, context: Any) -> None:
    """As in a migration between backends: importing the driver is enough for os-brick to find our connector."""
    copy = make_volume()
    copy.update(driver.create_volume(copy))
    copy.save()
    properties = {"host": "cinder1", "ip": "127.0.0.1"}
    source, _volume = driver._attach_volume(context, volume, properties)
    source["device"]["path"].write(BLOCK)
    source["device"]["path"].seek(0)
    target, _volume = driver._attach_volume(context, copy, properties)
    volume_utils.copy_volume(source["device"]["path"], target["device"]["path"], 8, "1M")
    for attachment, of in ((source, volume), (target, copy)):
        driver._detach_volume(context, attachment, of, properties, force=True)
        assert grants(driver, of) == []
    with transfer(driver.pool, copy.provider_id, "ro") as grant:
        opened = NbdClient.connect(grant.host, grant.port, grant.export_name)
        assert opened.read(0, 8192) == BLOCK + bytes(4096)
        opened.close()
    for done in (volume, copy):
        driver.delete_volume(done)
