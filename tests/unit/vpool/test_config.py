"""Configuration: kept whole, checked before anything is touched."""

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


def test_an_ipv6_address_is_understood() -> None:
    assert ServiceConfig(listen="[::1]:443").endpoint() == ("::1", 443)


@pytest.mark.parametrize("host", ["10.0.0.1", "0.0.0.0", "storage.example"])
def test_unencrypted_exports_stay_on_loopback(host: str) -> None:
    with pytest.raises(ConfigError, match="loopback"):
        ServiceConfig(edge_host=host).checked()


@pytest.mark.parametrize("name", ["ab", "Pool", "pool_1", "-pool", "x" * 23])
def test_names_that_are_none_for_a_vpool(name: str) -> None:
    with pytest.raises(ConfigError, match="vPool name"):
        ServiceConfig(vpool=name).checked()


def test_a_file_that_is_not_understood_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"listne": "x"}')
    with pytest.raises(ConfigError, match="listne"):
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
