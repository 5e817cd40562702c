"""The connector in os-brick: found by its protocol, and a volume as a file."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from os_brick import exception
from os_brick.initiator import connector as os_brick_connector
from tests.brick.conftest import properties_of
from tests.support.installed_files import differences

from openvstorage.brick.connector import OpenvStorageEdgeConnector
from openvstorage.brick.registration import register

GIB = 1024**3


@pytest.fixture
def connector():
    register()
    return os_brick_connector.InitiatorConnector.factory("openvstorage_edge", "sudo")


def test_factory_gives_our_connector(connector) -> None:
    assert isinstance(connector, OpenvStorageEdgeConnector)


@pytest.mark.parametrize("architecture", ["x86_64", "aarch64", "s390x", "ppc64le"])
def test_every_architecture_has_it(architecture) -> None:
    register()
    made = os_brick_connector.InitiatorConnector.factory("OPENVSTORAGE_EDGE", "sudo", arch=architecture)
    assert isinstance(made, OpenvStorageEdgeConnector)


def test_without_registration_os_brick_does_not_know_it() -> None:
    """So that this is our registration and nothing that a file of os-brick says."""
    program = """
from os_brick import exception
from os_brick.initiator import connector
try:
    connector.InitiatorConnector.factory("openvstorage_edge", "sudo")
except exception.InvalidConnectorProtocol:
    print("unknown")
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout == "unknown\n"
    assert differences("os-brick", "os_brick") == []


def test_host_is_described_as_before(connector) -> None:
    before = OpenvStorageEdgeConnector.get_connector_properties("sudo", host="h", multipath=False)
    assert before == {}


def test_volume_is_a_file(connector, properties) -> None:
    device = connector.connect_volume(properties)
    handle = device["path"]
    assert device["type"] == "block"
    assert isinstance(handle, io.RawIOBase)
    assert connector.check_valid_device(handle)
    handle.seek(4096)
    handle.write(b"what a backup restores")
    connector.disconnect_volume(properties, device)
    assert handle.closed
    again = connector.connect_volume(properties)
    again["path"].seek(4096)
    assert again["path"].read(22) == b"what a backup restores"
    assert again["path"].seek(0, os.SEEK_END) == GIB
    connector.disconnect_volume(properties, again, force=True, ignore_errors=True)
    connector.disconnect_volume(properties, again)


def test_looking_at_a_device_leaves_its_position(connector, properties) -> None:
    device = connector.connect_volume(properties)
    device["path"].seek(1234)
    assert connector.check_valid_device(device["path"])
    assert device["path"].tell() == 1234
    connector.disconnect_volume(properties, device)
    assert connector.check_valid_device(device["path"]) is False


@pytest.mark.parametrize("path", ["/dev/sda", None])
def test_what_is_no_handle_is_no_device_of_ours(connector, path) -> None:
    assert connector.check_valid_device(path) is False


def test_foreign_handle_is_not_closed(connector, properties, tmp_path) -> None:
    with (tmp_path / "file").open("wb") as file, pytest.raises(exception.InvalidIOHandleObject):
        connector.disconnect_volume(properties, {"path": file})


def test_place_is_the_present_one(connector, properties) -> None:
    device = connector.connect_volume({**properties, "ports": ["1"], "name": "export of yesterday"})
    assert device["path"].size == GIB
    connector.disconnect_volume(properties, device)


def test_snapshot_is_read_only(connector, service, client, vdisk) -> None:
    snapshot = client.snapshots.create(vdisk, "s")
    properties = properties_of(service, client.grants.create(vdisk, "host1", "snapshot-1", "ro", snapshot))
    device = connector.connect_volume(properties)
    assert device["path"].writable() is False
    with pytest.raises(OSError, match="read-only"):
        device["path"].write(b"x")
    connector.disconnect_volume(properties, device)


def test_extend_gives_the_size_in_bytes(connector, properties, client, vdisk) -> None:
    client.vdisks.extend(vdisk, 3 * GIB)
    assert connector.extend_volume(properties) == 3 * GIB


def test_writer_that_was_fenced_is_told_so(connector, properties, client) -> None:
    device = connector.connect_volume(properties)
    client.grants.revoke(properties["grant"])
    device["path"].write(b"x" * 4096)
    with pytest.raises(OSError, match="NBD server"):
        device["path"].flush()
    connector.disconnect_volume(properties, device, force=True, ignore_errors=True)
    with pytest.raises(exception.BrickException, match="does not exist"):
        connector.connect_volume(properties)


def test_nothing_is_looked_for_on_the_host(connector, properties) -> None:
    assert connector.get_volume_paths(properties) == []
    assert connector.get_search_path() is None
    assert connector.get_all_available_volumes(properties) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"protocol": "openvstorage"}, "patched QEMU"),
        ({"secret": None, "hosts": []}, "incomplete"),
        ({"secret": None, "ports": ["many"]}, "incomplete"),
        ({"secret": None, "ports": ["1"]}, "(?i)refused"),
        ({"secret": "x"}, "secret"),
    ],
)
def test_what_is_wrong_is_said_in_words(connector, properties, change, words) -> None:
    with pytest.raises(exception.BrickException, match=words):
        connector.connect_volume({**properties, **change})


def test_no_secret_reaches_the_log(connector, properties, caplog) -> None:
    caplog.set_level(logging.DEBUG)
    connector.disconnect_volume(properties, connector.connect_volume(properties))
    assert properties["secret"] not in caplog.text


def test_our_wheel_adds_nothing_to_os_brick() -> None:
    ours = metadata.files("openvstorage-openstack") or []
    assert not [file for file in ours if Path(str(file)).parts[0] == "os_brick"]
