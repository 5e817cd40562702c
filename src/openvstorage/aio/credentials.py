"""Credentials: generated once, kept in files that only their owner reads, never on a command line."""

from __future__ import annotations

import base64
import json
import os
import secrets
from collections.abc import Iterable
from pathlib import Path

from openvstorage.aio.paths import Paths, write_private

__all__ = ["REGION", "VOLUME_API", "load_passwords", "make_key_repository", "write_client_files"]

REGION = "RegionOne"
# Of 2024.1 and later. The client asks for 3.0 of its own, which has no revert.
VOLUME_API = "3.71"


def load_passwords(file: Path, names: Iterable[str]) -> dict[str, str]:
    """Return a password for each name: the one of ``file``, or a new one that is kept there from now on.

    They are hexadecimal digits, because they stand in URLs and in oslo.config files, where ``$`` means something.
    """
    known: dict[str, str] = json.loads(file.read_text()) if file.exists() else {}
    passwords = {**known, **{name: secrets.token_hex(16) for name in names if name not in known}}
    write_private(file, json.dumps(passwords, indent=2))
    return passwords


def make_key_repository(directory: Path) -> None:
    """Make a Fernet key repository as Keystone reads it: key 0 is staged, key 1 signs. An existing one is left alone.

    ``keystone-manage fernet_setup`` does the same, for five seconds of imports.
    """
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name in ("0", "1"):
        if not (directory / name).exists():
            write_private(directory / name, base64.urlsafe_b64encode(os.urandom(32)).decode())


def write_client_files(paths: Paths, auth_url: str, password: str) -> None:
    """Write the administrator's ``clouds.yaml`` (cloud ``aio``) and ``openrc`` into the state directory, mode 0600."""
    write_private(
        paths.state / "clouds.yaml",
        "clouds:\n"
        "  aio:\n"
        "    auth:\n"
        f"      auth_url: {auth_url}\n"
        "      username: admin\n"
        f"      password: {password}\n"
        "      project_name: admin\n"
        "      user_domain_name: Default\n"
        "      project_domain_name: Default\n"
        f"    region_name: {REGION}\n"
        "    identity_api_version: 3\n",
    )
    settings = {
        "OS_AUTH_URL": auth_url,
        "OS_USERNAME": "admin",
        "OS_PASSWORD": password,
        "OS_PROJECT_NAME": "admin",
        "OS_USER_DOMAIN_NAME": "Default",
        "OS_PROJECT_DOMAIN_NAME": "Default",
        "OS_REGION_NAME": REGION,
        "OS_IDENTITY_API_VERSION": "3",
        "OS_VOLUME_API_VERSION": VOLUME_API,
        # The services listen on loopback; a proxy would catch requests to them.
        "no_proxy": "127.0.0.1,localhost",
    }
    lines = [f"export {name}={value}" for name, value in settings.items()]
    lines.append(f'export PATH="{paths.venv}/bin:$PATH"')
    write_private(paths.state / "openrc", "\n".join(lines) + "\n")
