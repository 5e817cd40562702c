"""The disk element: everything that Nova's own disks have, and ours beside it, formatted and parsed alike."""

from __future__ import annotations

from typing import Any

import pytest
from lxml import etree
from nova import exception
from nova.virt.libvirt import config

from openvstorage.nova.disk import LibvirtConfigOpenvStorageEdgeGuestDisk
from openvstorage.nova.resume import is_ours

FULL = """
<disk type="network" device="disk">
  <driver name="qemu" type="raw" cache="none" discard="unmap" error_policy="stop" rerror_policy="stop"
          detect_zeroes="unmap" iothread="1"/>
  <alias name="ua-1"/>
  <source protocol="nbd" name="export" tls="yes" tlsHostname="storage1">
    <host name="10.0.0.1" port="26500"/>
    <reconnect delay="60"/>
  </source>
  <target dev="vdb" bus="virtio"/>
  <serial>volume-1</serial>
  <iotune><read_bytes_sec>1048576</read_bytes_sec><total_iops_sec_max>500</total_iops_sec_max></iotune>
  <blockio logical_block_size="512" physical_block_size="4096"/>
  <readonly/>
  <shareable/>
  <boot order="1"/>
  <encryption format="luks"><secret type="passphrase" uuid="f65dd0a7-5c42-4fd2-a9f4-f0e2f5a4bd1a"/></encryption>
</disk>
"""
# As the patched libvirt reads it: with a hyphen in snapshot-timeout.
EDGE = """
<disk type="network" device="disk">
  <driver name="qemu" type="raw" cache="none"/>
  <source protocol="openvstorage" name="folder/volume-1" snapshot-timeout="120">
    <host name="10.0.0.1" port="26203" transport="tcp"/>
  </source>
  <target dev="vda" bus="virtio"/>
</disk>
"""


def parsed(xml: str) -> LibvirtConfigOpenvStorageEdgeGuestDisk:
    disk = LibvirtConfigOpenvStorageEdgeGuestDisk()
    disk.parse_str(xml)
    return disk


def canonical(xml: str) -> Any:
    """An element as nested tuples, in which the order of attributes does not matter."""

    def tree(element: Any) -> Any:
        children = [tree(child) for child in element]
        return element.tag, dict(element.attrib), (element.text or "").strip(), children

    return tree(etree.fromstring(xml))


@pytest.mark.parametrize("xml", [FULL, EDGE])
def test_formatting_gives_back_what_was_parsed(xml: str) -> None:
    assert canonical(parsed(xml).to_xml()) == canonical(xml)


def test_stock_disk_keeps_all_it_has() -> None:
    stock = config.LibvirtConfigGuestDisk()
    stock.parse_str(FULL)
    stock.disk_write_iops_sec = 100
    ours = LibvirtConfigOpenvStorageEdgeGuestDisk.from_stock(stock)
    assert ours.to_xml() == stock.to_xml()
    assert isinstance(ours, config.LibvirtConfigGuestDisk)


def test_nova_can_parse_and_format_what_we_made() -> None:
    stock = config.LibvirtConfigGuestDisk()
    stock.parse_str(parsed(FULL).to_xml())
    assert (stock.serial, stock.target_dev, stock.alias) == ("volume-1", "vdb", "ua-1")
    assert "10.0.0.1" in stock.to_xml()


def test_volume_over_nbd(driver: Any, disk_info: Any, connection_info: Any) -> None:
    data = connection_info["data"]
    data["qos_specs"] = {"total_iops_sec": 400}
    data.update(physical_block_size="4096", logical_block_size="512", iothread=1)
    connection_info["multiattach"] = True
    xml = etree.fromstring(driver.get_config(connection_info, disk_info).to_xml())
    driver_element, source = xml.find("driver"), xml.find("source")
    assert (xml.get("type"), xml.get("device")) == ("network", "disk")
    assert dict(driver_element.attrib) == {
        "name": "qemu",
        "type": "raw",
        "cache": "none",
        "discard": "unmap",
        "error_policy": "stop",
        "rerror_policy": "stop",
        "iothread": "1",
    }
    assert dict(source.attrib) == {"protocol": "nbd", "name": data["name"], "tls": "no"}
    assert [dict(host.attrib) for host in source.findall("host")] == [
        {"name": data["hosts"][0], "port": data["ports"][0]}
    ]
    assert source.find("reconnect").get("delay") == "60"
    assert xml.findtext("serial") == data["volume_id"]
    assert xml.find("alias").get("name") == f"ua-{data['volume_id']}"
    assert xml.findtext("iotune/total_iops_sec") == "400"
    assert dict(xml.find("blockio").attrib) == {"logical_block_size": "512", "physical_block_size": "4096"}
    assert xml.find("shareable") is not None
    assert xml.find("readonly") is None


def test_tls_is_asked_for_by_name(driver: Any, disk_info: Any, connection_info: Any) -> None:
    connection_info["data"].update(tls=True, tls_hostname="storage1")
    source = etree.fromstring(driver.get_config(connection_info, disk_info).to_xml()).find("source")
    assert (source.get("tls"), source.get("tlsHostname")) == ("yes", "storage1")


def test_read_only_attachment(driver: Any, disk_info: Any, connection_info: Any) -> None:
    connection_info["data"]["access_mode"] = "ro"
    assert etree.fromstring(driver.get_config(connection_info, disk_info).to_xml()).find("readonly") is not None


def test_iothread_is_for_virtio_blk_only(driver: Any, connection_info: Any) -> None:
    connection_info["data"]["iothread"] = 1
    scsi = {"bus": "scsi", "dev": "sda", "type": "disk", "unit": 3}
    xml = etree.fromstring(driver.get_config(connection_info, scsi).to_xml())
    assert xml.find("driver").get("iothread") is None
    assert xml.find("address").get("unit") == "3"


def test_volume_of_a_cluster_without_nbd(driver: Any, disk_info: Any) -> None:
    data = {
        "volume_id": "v",
        "protocol": "openvstorage",
        "name": "volume-1",
        "hosts": ["10.0.0.1"],
        "ports": ["26203"],
        "transport": "rdma",
        "snapshot_timeout": 120,
    }
    xml = driver.get_config(
        {"driver_volume_type": "openvstorage_edge", "data": data, "serial": "v"}, disk_info
    ).to_xml()
    source = etree.fromstring(xml).find("source")
    assert dict(source.attrib) == {"protocol": "openvstorage", "name": "volume-1", "snapshot-timeout": "120"}
    assert dict(source.find("host").attrib) == {"name": "10.0.0.1", "port": "26203", "transport": "rdma"}
    assert source.find("reconnect") is None
    assert etree.fromstring(xml).findtext("serial") == "v"


def test_only_disks_that_we_made_are_looked_after(driver: Any, disk_info: Any, connection_info: Any) -> None:
    ours = driver.get_config(connection_info, disk_info)
    assert is_ours(etree.fromstring(ours.to_xml()))
    ours.driver_rerror_policy = None
    assert not is_ours(etree.fromstring(ours.to_xml()))
    assert not is_ours(etree.fromstring(EDGE))
    assert not is_ours(etree.fromstring('<disk type="file"><source file="/full"/><target dev="vda"/></disk>'))


def test_unknown_protocol_is_refused(driver: Any, disk_info: Any, connection_info: Any) -> None:
    connection_info["data"]["protocol"] = "carrier-pigeon"
    with pytest.raises(exception.InvalidVolume, match="carrier-pigeon"):
        driver.get_config(connection_info, disk_info)


def test_config_depends_on_its_arguments_only(driver: Any, disk_info: Any, connection_info: Any) -> None:
    before = repr(connection_info)
    first = driver.get_config(connection_info, disk_info).to_xml()
    assert driver.get_config(connection_info, disk_info).to_xml() == first
    assert repr(connection_info) == before
