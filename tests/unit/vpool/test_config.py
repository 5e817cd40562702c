"""Configuration: kept whole, checked before anything is touched."""

import json
from pathlib import Path

import pytest

from openvstorage.vpool.config import ConfigError, ServiceConfig, write_private


def test_what_was_given_once_is_found_again(tmp_path: Path) -> None:
    given = ServiceConfig().changed({"listen": "127.0.0.1:9000", "vpool": None, "token_calls": 0})
    given.save(tmp_path)
    assert ServiceConfig.load(tmp_path) == given
    assert given.vpool == ServiceConfig().vpool
    assert given.token_calls == 0


@pytest.mark.parametrize("listen", ["127.0.0.1", ":443", "127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1:http", ""])
def test_an_address_that_can_not_be_listened_on_is_refused_in_words(listen: str) -> None:
    with pytest.raises(ConfigError, match="HOST:PORT"):
        ServiceConfig(listen=listen).checked()


@pytest.mark.parametrize("choice", [True, False])
def test_a_choice_about_encryption_is_kept(tmp_path: Path, choice: bool) -> None:
    ServiceConfig(edge_tls=choice).save(tmp_path)
    assert ServiceConfig.load(tmp_path).edge_tls is choice


@pytest.mark.parametrize("written", [None, {}, {"first_port": 27000}, {"edge_tls": None}])
def test_a_new_pool_has_tls_whatever_somebody_wrote_before_its_first_start(tmp_path: Path, written: object) -> None:
    if written is not None:
        (tmp_path / "config.json").write_text(json.dumps(written))
    assert ServiceConfig.load(tmp_path).checked().edge_tls


@pytest.mark.parametrize(
    ("kept", "tls"),
    [
        ({"edge_tls": None, "edge_host": "127.0.0.1"}, False),
        ({"edge_tls": None}, False),
        ({}, False),
        ({"edge_tls": None, "edge_host": "10.0.0.1"}, True),
        ({"edge_tls": True}, True),
        ({"edge_tls": False}, False),
    ],
)
def test_a_pool_of_an_older_version_stays_as_it_was_until_told(tmp_path: Path, kept: object, tls: bool) -> None:
    (tmp_path / "config.json").write_text(json.dumps(kept))
    (tmp_path / "service.json").write_text("{}")
    config = ServiceConfig.load(tmp_path)
    assert config.checked().edge_tls is tls
    config.save(tmp_path)
    (tmp_path / "service.json").unlink()
    assert ServiceConfig.load(tmp_path).edge_tls is tls, "from now on it is said"
    assert config.changed({"edge_tls": True}).edge_tls


def test_an_ipv6_address_is_understood() -> None:
    assert ServiceConfig(listen="[::1]:443").endpoint() == ("::1", 443)


@pytest.mark.parametrize("host", ["10.0.0.1", "fd00::1"])
def test_unencrypted_exports_stay_on_loopback(host: str) -> None:
    assert ServiceConfig(edge_host=host).checked().edge_tls
    with pytest.raises(ConfigError, match="loopback"):
        ServiceConfig(edge_host=host, edge_tls=False).checked()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1"])
def test_exports_on_loopback_are_encrypted_unless_told_otherwise(host: str) -> None:
    assert ServiceConfig(edge_host=host).checked().edge_tls
    assert not ServiceConfig(edge_host=host, edge_tls=False).checked().edge_tls


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "storage.example", "localhost", ""])
def test_clients_have_to_be_told_one_address(host: str) -> None:
    with pytest.raises(ConfigError, match="one address"):
        ServiceConfig(edge_host=host, edge_tls=True).checked()


def test_the_certificate_is_for_the_edge_too() -> None:
    assert {"10.0.0.1", "127.0.0.1"} <= set(ServiceConfig(edge_host="10.0.0.1").server_names())


@pytest.mark.parametrize("name", ["ab", "Pool", "pool_1", "-pool", "x" * 23])
def test_names_that_are_none_for_a_vpool(name: str) -> None:
    with pytest.raises(ConfigError, match="vPool name"):
        ServiceConfig(vpool=name).checked()


def test_a_file_that_is_not_understood_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"listne": "x"}')
    with pytest.raises(ConfigError, match="listne"):
        ServiceConfig.load(tmp_path)
    (tmp_path / "config.json").write_text('{"first_port": "26500"}')
    with pytest.raises(ConfigError, match="first_port must be of type int"):
        ServiceConfig.load(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ConfigError, match="not JSON"):
        ServiceConfig.load(tmp_path)


def test_private_files_are_for_their_owner_only(tmp_path: Path) -> None:
    write_private(tmp_path / "secret", "x")
    write_private(tmp_path / "secret", "y")
    assert (tmp_path / "secret").read_text() == "y"
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]
