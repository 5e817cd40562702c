"""Locations: every value survives its text, and text that means something else to QEMU is refused."""

from __future__ import annotations

import contextlib
import ipaddress
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openvstorage.edge.errors import EdgeError, LocationInvalid
from openvstorage.edge.location import EdgeLocation, NbdLocation, parse_location

names = st.from_regex(r"[a-z0-9]([a-z0-9._-]{0,20}[a-z0-9])?", fullmatch=True)
ipv4 = st.ip_addresses(v=4).map(str)
ipv6 = st.ip_addresses(v=6).map(lambda address: str(ipaddress.IPv6Address(address)))
ports = st.integers(1, 65535)
exports = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=200)
devices = st.text(st.characters(exclude_characters=":", exclude_categories=["Cs", "Cc", "Z"]), min_size=1, max_size=60)


@given(st.builds(NbdLocation, st.one_of(names, ipv4, ipv6), ports, exports, tls=st.booleans()))
def test_nbd_location_survives_its_uri(location: NbdLocation) -> None:
    assert parse_location(location.uri) == location


@given(
    st.builds(
        EdgeLocation,
        st.one_of(names, ipv4),
        ports,
        devices.filter(lambda name: not name.startswith("/")),
        st.sampled_from(["tcp", "rdma"]),
        st.none() | st.integers(0, 10**9 - 1),
    )
)
def test_edge_location_survives_its_uri(location: EdgeLocation) -> None:
    assert parse_location(location.uri) == location


@given(st.text(max_size=80), st.sampled_from(["", "nbd://", "nbds://", "openvstorage:", "openvstorage+tcp:h:1/"]))
def test_any_text_is_a_location_or_refused(text: str, scheme: str) -> None:
    with contextlib.suppress(LocationInvalid):
        location = parse_location(scheme + text)
        assert parse_location(location.uri) == location


def test_export_name_is_quoted_so_that_it_stays_one_name() -> None:
    location = NbdLocation("::1", 10809, "a/b?tls-creds=x#y:z é")
    assert location.uri == "nbd://[::1]:10809/a%2Fb%3Ftls-creds%3Dx%23y%3Az%20%C3%A9"


def test_contract_examples_are_read() -> None:
    assert EdgeLocation.parse("openvstorage+tcp:10.1.0.4:26203/volume-1:snapshot-timeout=120") == EdgeLocation(
        "10.1.0.4", 26203, "volume-1", "tcp", 120
    )
    assert EdgeLocation.parse("openvstorage:node1:26203/folder/disk") == EdgeLocation("node1", 26203, "folder/disk")
    assert str(EdgeLocation("node1", 26203, "d", "rdma")) == "openvstorage+rdma:node1:26203/d"


def test_location_of_a_grant() -> None:
    grant = SimpleNamespace(host="127.0.0.1", port=21000, export_name="vd-1", tls=True)
    assert str(NbdLocation.from_grant(grant)) == "nbds://127.0.0.1:21000/vd-1"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("json:{}", "nbd://"),
        ("/etc/passwd", "nbd://"),
        ("nbd:unix:/x:exportname=y", "host"),
        ("nbd+unix:///disk?socket=/x", "nbd://"),
        ("nbd://host/disk", "port"),
        ("nbd://host:0/disk", "65535"),
        ("nbd://host:99999/disk", "range"),
        ("nbd://host:1/", "export name"),
        ("nbd://host:1/a?tls=off", "options"),
        ("nbd://host:1/a?", "options"),
        ("nbd://user@host:1/a", "users"),
        ("nbd://ho st:1/a", "blanks"),
        ("nbd://host:1/%ff", "UTF-8"),
        ("nbd://[fe80::1%25eth0]:1/a", "host name"),
        ("nbd://[::1/a", "IPv6"),
        ("openvstorage+tcp://h:1/v", "//"),
        ("openvstorage+shm:h:1/v", "tcp or rdma"),
        ("openvstorage:volume", "host:port"),
        ("openvstorage+tcp:h:x/v", "host:port"),
        ("openvstorage+tcp:[::1]:1/v", "host name"),
        ("openvstorage+tcp:h:1//v", "name"),
        ("openvstorage+tcp:h:1/v:enable-ha=off", "snapshot-timeout"),
        ("openvstorage+tcp:h:1/v:snapshot-timeout=", "snapshot-timeout"),
        ("openvstorage+tcp:h:1/v:username=u", "snapshot-timeout"),
    ],
)
def test_what_is_no_location_is_refused_with_its_reason(text: str, words: str) -> None:
    with pytest.raises(LocationInvalid, match=words):
        parse_location(text)


def test_export_name_too_long_for_the_protocol() -> None:
    NbdLocation("h", 1, "é" * 2048)
    with pytest.raises(EdgeError, match="4096"):
        NbdLocation("h", 1, "é" * 2049)
