"""The service's configuration: given once on the command line, kept in the data directory, editable by hand."""

from __future__ import annotations

import ipaddress
import json
import logging
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

from openvstorage.contract.durability import Durability

log = logging.getLogger(__name__)

FILE_NAME = "config.json"
#: Beside it once the pool was served; see :func:`openvstorage.vpool.status.status`.
STATE_FILE_NAME = "service.json"
DEFAULT_PORT = 26443
VPOOL_NAME = re.compile(r"[0-9a-z][-a-z0-9]{1,20}[a-z0-9]")


class ConfigError(ValueError):
    """A value that the service can not run with; the text says which and what is possible."""


@dataclass(frozen=True, slots=True)
class ServiceConfig:
    """What the service is told.

    :ivar listen: address and port of the management API, ``HOST:PORT``.
    :ivar edge_host: address on which vDisks are served.
    :ivar edge_tls: whether vDisks are served with TLS; without it every user of the machine reads and writes them.
    :ivar vpool: name of the vPool, fixed at the first start.
    :ivar first_port: the first of the ports for exports, which should lie outside the kernel's ephemeral range.
    :ivar last_port: the last of them.
    :ivar token_calls: calls of the token endpoint that one address has in a minute; 0 for no limit.
    :ivar connections_per_address: open connections to the API that one address has; more are closed at once.
    :ivar strict_compat: refuse to delete what has children, as Open vStorage does.
    :ivar durability: of vDisks that have none of their own: ``acknowledged``, each write is on disk before it is
        acknowledged; or ``flushed``, what a client flushed is kept.
    :ivar database: SQLAlchemy URL; empty for SQLite in the data directory.
    :ivar qemu_dir: where ``qemu-storage-daemon`` and ``qemu-img`` are; empty for the PATH.
    :ivar low_water_mib: below this much free space (MiB) nothing new is taken on.
    :ivar ballast_mib: reserve (MiB) that is given back on a full disk.
    :ivar metadata_cache_mib: most memory (MiB) for the mapping tables of a vDisk in use; 1 covers 8 GiB of a layer.
    """

    listen: str = f"127.0.0.1:{DEFAULT_PORT}"
    edge_host: str = "127.0.0.1"
    edge_tls: bool = True
    vpool: str = "myvpool01"
    first_port: int = 26500
    last_port: int = 30499
    token_calls: int = 5
    connections_per_address: int = 256
    strict_compat: bool = False
    durability: str = Durability.ACKNOWLEDGED.value
    database: str = ""
    qemu_dir: str = ""
    low_water_mib: int = 128
    ballast_mib: int = 64
    metadata_cache_mib: int = 256

    @classmethod
    def load(cls, data: Path) -> Self:
        """:returns: what is kept in the data directory, or the defaults.

        :raises ConfigError: the file is not what this version understands.
        """
        try:
            values = json.loads((data / FILE_NAME).read_text())
        except FileNotFoundError:
            return cls()
        except ValueError as error:
            raise ConfigError(f"{data / FILE_NAME} is not JSON: {error}") from error
        if isinstance(values, dict):
            values = _with_durability(_with_edge(values, served=(data / STATE_FILE_NAME).exists()))
        known = {field.name for field in fields(cls)}
        unknown = set(values) - known if isinstance(values, dict) else {"(not an object)"}
        if unknown:
            raise ConfigError(f"{data / FILE_NAME} has unknown settings: {', '.join(sorted(unknown))}")
        for field in fields(cls):
            wanted = type(field.default)
            if field.name in values and type(values[field.name]) is not wanted:
                raise ConfigError(f"{data / FILE_NAME}: {field.name} must be of type {wanted.__name__}")
        return cls(**values)

    def changed(self, values: Mapping[str, Any]) -> Self:
        """:returns: the same with those values that are not None."""
        return replace(self, **{key: value for key, value in values.items() if value is not None})

    def checked(self) -> Self:
        """:returns: itself.

        :raises ConfigError: a value is not possible.
        """
        self.endpoint()
        if not VPOOL_NAME.fullmatch(self.vpool):
            raise ConfigError(
                f"{self.vpool!r} is not a vPool name: 3 to 22 lower-case letters, digits and '-', "
                "beginning and ending with a letter or digit"
            )
        if not _is_one_address(self.edge_host):
            raise ConfigError(
                f"{self.edge_host!r} can not be told to clients: give one address of this machine as --edge-host"
            )
        if not self.edge_tls and not is_loopback(self.edge_host):
            raise ConfigError(
                f"exports on {self.edge_host} would be readable and writable by anyone who reaches it: "
                "give --edge-tls, or a loopback address as --edge-host"
            )
        if self.durability not in list(Durability):
            raise ConfigError(f"{self.durability!r} is no durability: there are {', '.join(Durability)}")
        if not 1024 <= self.first_port <= self.last_port <= 65535:
            raise ConfigError("first_port and last_port must be a range between 1024 and 65535")
        if self.connections_per_address < 1:
            raise ConfigError("connections_per_address must be 1 or more")
        if not 1 <= self.metadata_cache_mib <= 65536:
            raise ConfigError("metadata_cache_mib must be between 1 and 65536")
        return self

    def server_names(self) -> list[str]:
        """:returns: the names and addresses that the server's certificate has to carry, sorted."""
        return sorted({*self.management_ips(), self.edge_host, "127.0.0.1", "localhost", socket.gethostname()})

    def endpoint(self) -> tuple[str, int]:
        """:returns: host and port to listen on.

        :raises ConfigError: ``listen`` is not HOST:PORT.
        """
        host, separator, port = self.listen.rpartition(":")
        host = host.strip("[]")
        if not separator or not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise ConfigError(f"{self.listen!r} is not HOST:PORT, such as 127.0.0.1:{DEFAULT_PORT}")
        return host, int(port)

    def management_ips(self) -> list[str]:
        """:returns: addresses that clients are told; those of this host when it listens on all."""
        host, _ = self.endpoint()
        if host not in ("0.0.0.0", "::"):
            return [host]
        found = {str(info[4][0]) for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
        return sorted(found) or ["127.0.0.1"]

    def save(self, data: Path) -> None:
        """Keep it in the data directory, whole or not at all; in the file that is meant if that is a symbolic link."""
        write_private((data / FILE_NAME).resolve(), json.dumps(asdict(self), indent=2) + "\n")


def _with_durability(values: dict[str, Any]) -> dict[str, Any]:
    """:returns: settings that say the durability in today's words.

    Both values of an older version's ``write_through`` become the default. That is said once, since the next start
    reads what this one keeps.
    """
    rest = {key: value for key, value in values.items() if key != "write_through"}
    if values.get("write_through") is False and "durability" not in values:
        log.warning(
            "each write is on disk before it is acknowledged from now on; for what was before, that only what a client "
            "has flushed is kept, start once with --durability flushed"
        )
    return rest


def _with_edge(values: dict[str, Any], *, served: bool) -> dict[str, Any]:
    """:returns: settings that say whether the edge has TLS.

    Those of older versions leave it open, which meant: not on loopback. A pool that was served so stays so, because
    whoever opens its vDisks may have no certificate.
    """
    if values.get("edge_tls") is not None:
        return values
    return {**values, "edge_tls": not (served and is_loopback(values.get("edge_host", ServiceConfig().edge_host)))}


def _is_one_address(host: str) -> bool:
    try:
        return not ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def is_loopback(host: str) -> bool:
    """:returns: whether an address can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner reads; after a crash it is the old one or the new one. Blocks."""
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
