"""Passwords are generated once and stay; client files are private."""

import base64
import stat
from pathlib import Path

import openstack

from openvstorage.aio.credentials import load_passwords, make_key_repository, write_client_files
from openvstorage.aio.paths import Paths


def test_passwords_differ_and_stay_and_new_names_get_theirs(tmp_path: Path) -> None:
    file = tmp_path / "passwords.json"
    first = load_passwords(file, ["admin", "glance"])
    assert first["admin"] != first["glance"]
    assert len(first["admin"]) >= 32
    again = load_passwords(file, ["admin", "glance", "nova"])
    assert {name: again[name] for name in first} == first
    assert again["nova"] not in first.values()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_key_repository_holds_two_fernet_keys_and_is_never_replaced(tmp_path: Path) -> None:
    make_key_repository(tmp_path / "keys")
    keys = {path.name: path.read_text() for path in (tmp_path / "keys").iterdir()}
    assert sorted(keys) == ["0", "1"]
    assert all(len(base64.urlsafe_b64decode(key)) == 32 for key in keys.values())
    assert keys["0"] != keys["1"]
    make_key_repository(tmp_path / "keys")
    assert {path.name: path.read_text() for path in (tmp_path / "keys").iterdir()} == keys


def test_clouds_yaml_is_understood_by_openstacksdk(tmp_path: Path) -> None:
    paths = Paths.of(tmp_path / "state")
    paths.create()
    write_client_files(paths, "http://127.0.0.1:1/v3", "geheim")
    file = paths.state / "clouds.yaml"
    region = openstack.config.OpenStackConfig(config_files=[str(file)], load_envvars=False).get_one("aio")
    assert region.config["auth"]["password"] == "geheim"
    assert region.config["auth"]["auth_url"] == "http://127.0.0.1:1/v3"
    for private in (file, paths.state / "openrc"):
        assert stat.S_IMODE(private.stat().st_mode) == 0o600
