"""Names, addresses and the values that are read from the API's objects."""

import pytest

from openvstorage.client import (
    Client,
    ClientCredentials,
    ConfigurationError,
    InvalidRequest,
    Qos,
    Snapshot,
    UnexpectedAnswer,
    VDisk,
    devicename,
    edge_name,
)
from openvstorage.client.endpoints import Endpoints, management_urls
from openvstorage.client.names import segment
from openvstorage.client.wire import Request


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Foo Bar", "/Foo_Bar.raw"),
        ("foo-bar.rawtest", "/foo-bar.rawtest.raw"),
        ("test///folder", "/test/folder.raw"),
        ("test/.raw", "/test/.raw.raw"),
        ("//test.raw", "/test.raw"),
        ("disk.RAW", "/disk.RAW.raw"),
        ("volume-ä!§$%&()=1", "/volume-1.raw"),
        ("/a/b/", "/a/b.raw"),
    ],
)
def test_device_names_follow_the_rule_of_the_cluster(name, expected):
    assert devicename(name) == expected


def test_the_edge_leaves_out_slash_and_suffix():
    assert edge_name("/volume-x.raw") == "volume-x"
    assert edge_name("/a/b.raw") == "a/b"


@pytest.mark.parametrize("value", ["", "..", "a/b", "a?b", "a#b", "a%2fb", "a b"])
def test_what_would_address_something_else_is_no_identifier(value):
    with pytest.raises(InvalidRequest):
        segment(value)


def test_addresses_are_stripped_bracketed_and_unique():
    assert Endpoints([" 10.0.0.1", "10.0.0.1 ", "", "fd00::1", "[fd00::1]"], 443).in_order() == [
        "https://10.0.0.1:443/api",
        "https://[fd00::1]:443/api",
    ]


def test_what_is_written_down_for_others_names_the_same_endpoints():
    addresses = ["", " a ", "", "b", "[::1]", "::1"]
    written = management_urls(addresses, 8443)
    assert written == ["https://a:8443", "https://b:8443", "https://[::1]:8443"]
    assert Endpoints.from_urls(written).in_order() == Endpoints(addresses, 8443).in_order()


@pytest.mark.parametrize(
    ("addresses", "port"), [([], 443), ([" "], 443), ("10.0.0.1", 443), (["a"], 0), (["a"], 65536)]
)
def test_unusable_addresses_are_refused(addresses, port):
    with pytest.raises(ConfigurationError):
        Endpoints(addresses, port)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"username": "admin"},
        {"username": "admin", "password": ""},
        {"username": "a", "password": "b", "credentials": ClientCredentials("i", "s")},
    ],
)
def test_half_given_credentials_are_refused(options):
    with pytest.raises(ConfigurationError):
        Client(["127.0.0.1"], **options)


def test_a_closed_client_says_so():
    client = Client(["127.0.0.1"], username="admin", password="hunter2")
    client.close()
    client.close()
    with pytest.raises(ConfigurationError, match="closed"):
        client.features()
    assert "hunter2" not in repr(client)


def test_from_status_names_what_is_missing(tmp_path):
    with pytest.raises(ConfigurationError, match="password_file"):
        Client.from_status({"management_ips": ["127.0.0.1"]})
    status = {"password_file": str(tmp_path / "none"), "management_ips": ["127.0.0.1"], "port": 1, "username": "a"}
    with pytest.raises(ConfigurationError, match="password file"):
        Client.from_status({**status, "ca_file": "x"})


def test_a_vdisk_is_read_with_what_is_there_and_unknown_keys_are_ignored():
    vdisk = VDisk.from_api({"guid": "g", "name": None, "devicename": "/a.raw", "size": 5, "novelty": [1]})
    assert (vdisk.guid, vdisk.name, vdisk.size, vdisk.qos, vdisk.parent_vdisk_guid) == ("g", "", 5, None, None)
    with pytest.raises(UnexpectedAnswer, match="size"):
        VDisk.from_api({"guid": "g", "name": "a", "devicename": "/a.raw"})


@pytest.mark.parametrize(
    ("wire", "text"), [("1500000000", "1500000000"), (1500000000, "1500000000"), (1.5e9, "1500000000.0")]
)
def test_the_three_kinds_of_timestamp_are_understood(wire, text):
    snapshot = Snapshot.from_api({"guid": "s", "label": 7, "timestamp": wire})
    assert snapshot.timestamp == text
    assert snapshot.taken_at == 1.5e9
    assert snapshot.label == "7"
    assert snapshot.is_automatic, "absent means automatic"


def test_qos_round_trips_and_absent_means_no_limit():
    assert Qos.from_api({"iops_total": 100, "bps_read": None, "other": 1}) == Qos(iops_total=100)
    qos = Qos(iops_read=1, iops_write=2, bps_total=3)
    assert Qos.from_api(qos.to_api()) == qos


def test_a_request_does_not_show_its_token():
    request = Request("GET", "vpools/", {}, {"Authorization": "Bearer hunter2"}, b"password=hunter2")
    assert "hunter2" not in repr(request)
