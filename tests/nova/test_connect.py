"""Attaching: the volume is found where it is served now, by a host that has no account of the vPool."""

from __future__ import annotations

import copy
import logging
import socket
from types import SimpleNamespace
from typing import Any

import pytest
from nova import exception
from nova.virt.libvirt import config

from openvstorage.edge.nbd import NbdClient

GIB = 1024**3
# Nova gives its guests an iothread from release 33 on.
HAS_IOTHREADS = hasattr(config.LibvirtConfigGuest(), "iothreads")


def open_volume(connection_info: dict[str, Any]) -> NbdClient:
    data = connection_info["data"]
    return NbdClient.connect(data["hosts"][0], int(data["ports"][0]), data["name"])


def test_stale_place_is_replaced_by_the_present_one(driver, instance, connection_info, grant) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        connection_info["data"].update(ports=[str(stranger.getsockname()[1])], name="export of yesterday", tls=True)
        driver.connect_volume(connection_info, instance)
    data = connection_info["data"]
    assert (data["name"], data["hosts"], data["ports"]) == (grant.export_name, [grant.host], [str(grant.port)])
    assert data["tls"] is False
    with open_volume(connection_info) as nbd:
        assert nbd.size == GIB


def test_everything_else_that_nova_keeps_stays(driver, instance, connection_info) -> None:
    before = copy.deepcopy(connection_info)
    driver.connect_volume(connection_info, instance)
    connection_info["data"].pop("iothread", None)
    assert connection_info == before


def test_revoked_attachment_says_what_to_do(driver, instance, connection_info, client, grant) -> None:
    client.grants.revoke(grant.guid)
    with pytest.raises(exception.VolumeAttachFailed, match="detach the volume and attach it again"):
        driver.connect_volume(connection_info, instance)


def test_wrong_secret_is_refused_and_not_shown(driver, instance, connection_info, caplog) -> None:
    caplog.set_level(logging.DEBUG)
    connection_info["data"]["secret"] = "S" * 43
    with pytest.raises(exception.VolumeAttachFailed) as refused:
        driver.connect_volume(connection_info, instance)
    assert "S" * 43 not in str(refused.value) + caplog.text


def test_last_known_place_serves_while_no_management_address_answers(
    driver, instance, connection_info, monkeypatch, caplog
) -> None:
    monkeypatch.setattr("openvstorage.nova.driver._RESOLVE_SECONDS", 0.0)
    connection_info["data"]["resolvers"] = ["https://127.0.0.1:1"]
    driver.connect_volume(connection_info, instance)
    with open_volume(connection_info) as nbd:
        assert nbd.size == GIB
    assert "last known location" in caplog.text


def test_attaching_while_nothing_of_the_vpool_answers_is_refused_in_words(
    driver, instance, connection_info, monkeypatch
) -> None:
    monkeypatch.setattr("openvstorage.nova.driver._RESOLVE_SECONDS", 0.0)
    connection_info["data"].update(resolvers=["https://127.0.0.1:1"], ports=["1"])
    with pytest.raises(exception.VolumeAttachFailed, match="can be reached; try again later"):
        driver.connect_volume(connection_info, instance)


def test_no_secret_reaches_the_log(driver, instance, connection_info, caplog) -> None:
    caplog.set_level(logging.DEBUG)
    secret = connection_info["data"]["secret"]
    driver.connect_volume(connection_info, instance)
    driver.get_config(connection_info, {"bus": "virtio", "dev": "vdb", "type": "disk"})
    driver.extend_volume(connection_info, instance, GIB)
    driver.disconnect_volume(connection_info, instance)
    assert secret not in caplog.text
    assert secret not in repr(vars(driver))


def test_marker_of_the_guide_is_logged(driver, caplog) -> None:
    caplog.set_level(logging.DEBUG)
    type(driver)(driver.host)
    records = [record for record in caplog.records if "libovsvolumedriver.init" in record.getMessage()]
    assert [record.levelno for record in records] == [logging.DEBUG]


@pytest.mark.skipif(not HAS_IOTHREADS, reason="this Nova gives its guests no iothread")
def test_new_guest_gets_its_disk_on_the_iothread_that_nova_gives_it(driver, instance, connection_info) -> None:
    driver.connect_volume(connection_info, instance)
    assert connection_info["data"]["iothread"] == 1


def test_guest_that_comes_by_migration_gets_none(driver, instance, connection_info) -> None:
    connection_info["data"]["iothread"] = 1
    driver.connect_volume(connection_info, SimpleNamespace(**{**vars(instance), "host": "another host"}))
    assert "iothread" not in connection_info["data"]


@pytest.mark.parametrize(("iothreads", "expected"), [("<iothreads>1</iothreads>", 1), ("", None)])
def test_guest_that_runs_gets_the_iothread_that_it_has(
    driver, instance, connection_info, monkeypatch, iothreads, expected
) -> None:
    guest = SimpleNamespace(get_xml_desc=lambda: f"<domain>{iothreads}</domain>")
    monkeypatch.setattr(driver.host, "get_guest", lambda _instance: guest)
    driver.connect_volume(connection_info, instance)
    assert connection_info["data"].get("iothread") == expected


def test_cluster_without_nbd_is_attached_as_it_is(driver, instance) -> None:
    data = {"protocol": "openvstorage", "name": "volume-1", "hosts": ["10.0.0.1"], "ports": ["26203"]}
    connection_info = {"driver_volume_type": "openvstorage_edge", "data": dict(data)}
    driver.connect_volume(connection_info, instance)
    assert connection_info["data"] == data
    assert driver.extend_volume(connection_info, instance, 2 * GIB) == 2 * GIB


def test_extending_a_guest_that_does_not_run_needs_nothing(driver, instance, connection_info, client, grant) -> None:
    client.vdisks.extend(grant.vdisk_guid, 2 * GIB)
    assert driver.extend_volume(connection_info, instance, 2 * GIB) == 2 * GIB


def test_extending_beyond_the_vdisk_is_refused(driver, instance, connection_info) -> None:
    with pytest.raises(exception.VolumeExtendFailed, match=str(GIB)):
        driver.extend_volume(connection_info, instance, 2 * GIB)
